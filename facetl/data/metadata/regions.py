"""Faces that other programs have marked and named: regions in XMP, read and never written into a photo.

Two ways to write them are read: MWG's ("Guidelines for Handling Image Metadata", Metadata Working Group 2010, section
5.9) and Microsoft's ("People Tagging Overview", schema MP 1.2).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element

import numpy as np

from facetl.data.boxes import overlaps
from facetl.data.manifest import person_name
from facetl.data.metadata import xmp
from facetl.data.metadata.header import PhotoHeader, read_header
from facetl.errors import DataError
from facetl.io.json import JsonFields

Box = tuple[float, float, float, float]
# The forms of a photo that regions are drawn on; MWG's rule first.
Frame = Literal["stored", "upright"]
FRAMES: tuple[Frame, Frame] = ("stored", "upright")

MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
AREA = "http://ns.adobe.com/xmp/sType/Area#"
DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_MP = "http://ns.microsoft.com/photo/1.2/"
_MPRI = "http://ns.microsoft.com/photo/1.2/t/RegionInfo#"
_MPREG = "http://ns.microsoft.com/photo/1.2/t/Region#"

# Shares by which the proportions of a photo may differ from those that its regions were drawn on.
_SAME_SHAPE = 0.02
# Overlap from which two regions mark one face.
_SAME_FACE = 0.5
_MOST = 1000
_PIXELS = ("pixel", "pixels", "px")
# Some programs write 0,25 for 0.25.
_DECIMAL_COMMA = re.compile(r"([+-]?\d*),(\d+)")


@dataclass(frozen=True)
class Region(JsonFields):
    """A part of a photo that somebody has marked.

    Attributes:
        name: whom or what it shows; empty where it is unknown.
        box: left, top, right and bottom edge as fractions of the width and height of the upright photo, in [0, 1].
        kind: `face`, `pet`, `focus`, `barcode`, or another word of the program that marked it, in small letters.
    """

    name: str
    box: Box
    kind: str = "face"

    def pixels(self, width: int, height: int) -> Box:
        """Return the box in pixels of the upright photo, as in `Face.box`: (0, 0) is the centre of the first one."""
        sizes = np.array((width, height, width, height))
        return tuple(np.clip(np.array(self.box) * sizes - 0.5, 0.0, sizes - 1.0).tolist())

    @classmethod
    def of_pixels(cls, name: str, box: Box, *, width: int, height: int) -> Region:
        """Make the region of a face from its box in pixels of the upright photo, as in `Face.box`."""
        edges = (np.array(box) + 0.5) / (width, height, width, height)
        return cls(name, tuple(np.clip(edges, 0.0, 1.0).tolist()))


def read_regions(
    photo: Path | bytes, *, sidecar: Path | None = None, on_damaged: Callable[[DataError], None] | None = None
) -> list[Region]:
    """Read the regions that are marked in a photo, by its sidecars and by the XMP inside it.

    A region that several of them give is there once: a sidecar comes before the photo, MWG's way before
    Microsoft's; a name that the first one lacks is taken from the next. Regions that were drawn on the photo before it
    was cropped fit nothing and are left out, as MWG says.

    Args:
        photo: its path or its file's bytes; of a path, sidecars are looked for beside it.
        sidecar: where the sidecar is.
        on_damaged: called for XMP that is damaged, hostile or too large, which is then passed over; by default it is
            raised.

    Raises DataError for such XMP, PhotoError where there is no photo.
    """
    header = read_header(photo)
    found: list[Region] = []
    for packet, name in _packets(photo, header, sidecar):
        try:
            regions = _regions(packet() if callable(packet) else packet, name, header)
        except DataError as error:
            if on_damaged is None:
                raise
            on_damaged(error)
            continue
        found = _joined(found, regions)
    return found


def _regions(packet: bytes, name: str, header: PhotoHeader) -> list[Region]:
    root = xmp.parse_packet(packet, name)
    descriptions = list(root.iter(f"{{{xmp.RDF}}}Description"))
    found = _joined([], [region for one in descriptions for region in _mwg(one, header)])
    drawn = [[region for one in descriptions for region in _microsoft(one, frame, header)] for frame in FRAMES]
    if len(found) + len(drawn[0]) > _MOST:
        raise DataError(f"{name}: a photo has at most {_MOST:,} regions, got more. Delete or replace them.")
    # Microsoft's way states no dimensions. A program that writes a face in both ways, as digiKam, draws it once.
    alike = [regions for regions in drawn if any(_named_alike(region, found) for region in regions)]
    return _joined(found, (alike or drawn)[0])


def _joined(found: Sequence[Region], regions: Sequence[Region]) -> list[Region]:
    """Add the regions of another list; those there already only give their names. One list may have faces close by."""
    joined = list(found)
    for region in regions:
        if same := same_face(region, found):
            joined[same[0]] = replace(joined[same[0]], name=joined[same[0]].name or region.name)
        elif not _named_alike(region, joined):
            joined.append(region)
    return joined


def _named_alike(region: Region, others: Sequence[Region]) -> bool:
    return any(others[place].name == region.name for place in same_face(region, others))


def same_face(region: Region, others: Sequence[Region | None]) -> list[int]:
    """Return the places of those regions that mark the same face as this one."""
    boxes = [(0.0, 0.0, 0.0, 0.0) if other is None else other.box for other in others]
    near = np.flatnonzero(overlaps([region.box], boxes)[0] > _SAME_FACE)
    return [place for place in near.tolist() if getattr(others[place], "kind", None) == region.kind]


def frame_of(width: float, height: float, header: PhotoHeader) -> Frame | None:
    """Return which of a photo's two forms regions were drawn on, by the dimensions of it; None when on neither.

    MWG: "Region metadata is applied to the stored image." Programs that turn the photo first say so by its dimensions;
    where the two forms have one shape, or no dimensions (0) are given, the rule counts.
    """
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        return "stored"
    shape = math.log(width) - math.log(height)  # a quotient of forged sizes may be 0 or infinite
    for frame, (across, down) in zip(FRAMES, ((header.width, header.height), header.upright), strict=True):
        if abs(shape - math.log(across / down)) <= _SAME_SHAPE:
            return frame
    return None


def upright(box: Box, orientation: int) -> Box:
    """Turn a box, fractions of the stored photo, into fractions of the upright one (EXIF 2.32, section 4.6.4)."""
    left, top, right, bottom = box
    if orientation in (5, 6, 7, 8):
        left, top, right, bottom = top, left, bottom, right
    if orientation in (2, 3, 6, 7):
        left, right = 1 - right, 1 - left
    if orientation in (3, 4, 7, 8):
        top, bottom = 1 - bottom, 1 - top
    return left, top, right, bottom


def stored(box: Box, orientation: int) -> Box:
    """Turn a box, fractions of the upright photo, into fractions of the stored one."""
    # Each orientation undoes itself, but for the two quarter turns, which undo each other.
    return upright(box, {6: 8, 8: 6}.get(orientation, orientation))


def mwg_region(item: Element, dimensions: tuple[float, float], header: PhotoHeader) -> Region | None:
    """Read one item of MWG's list of regions; None for one without an area that fits the photo.

    dimensions: of the photo that it was drawn on, as of `applied_to`.
    """
    frame = frame_of(*dimensions, header)
    item = xmp.described(item)
    area = xmp.structure(item, f"{{{MWG}}}Area")
    if area is None or frame is None:
        return None
    x, y, width, height = (_number(xmp.text(area, f"{{{AREA}}}{side}")) for side in "xywh")
    unit = xmp.text(area, f"{{{AREA}}}unit").casefold()
    if unit in _PIXELS or (not unit and width > 1 and height > 1):
        across, down = dimensions if min(dimensions) > 0 else (header.width, header.height)
        x, y, width, height = x / across, y / down, width / across, height / down
    elif unit not in ("", "normalized"):
        return None
    kind = xmp.text(item, f"{{{MWG}}}Type").casefold() or "face"
    name = xmp.text(item, f"{{{MWG}}}Name")
    box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return _region(name, box, "face" if kind == "person" else kind, frame, header.orientation)


def applied_to(regions: Element) -> tuple[float, float]:
    """Return the width and height of the photo that MWG's regions were drawn on, 0 where they are not stated."""
    dimensions = xmp.structure(regions, f"{{{MWG}}}AppliedToDimensions")
    if dimensions is None:
        return 0.0, 0.0
    return _number(xmp.text(dimensions, f"{{{DIMENSIONS}}}w")), _number(xmp.text(dimensions, f"{{{DIMENSIONS}}}h"))


def _mwg(element: Element, header: PhotoHeader) -> Iterator[Region]:
    regions = xmp.structure(element, f"{{{MWG}}}Regions")
    if regions is None:
        return
    dimensions = applied_to(regions)
    for item in xmp.members(regions, f"{{{MWG}}}RegionList"):
        if region := mwg_region(item, dimensions, header):
            yield region


def _microsoft(element: Element, frame: Frame, header: PhotoHeader) -> Iterator[Region]:
    info = xmp.structure(element, f"{{{_MP}}}RegionInfo")
    if info is None:
        return
    for item in xmp.members(info, f"{{{_MPRI}}}Regions"):
        described = xmp.described(item)
        numbers = _rectangle(xmp.text(described, f"{{{_MPREG}}}Rectangle"))
        # A person who is only listed as being in the photo has no rectangle.
        if len(numbers) != 4:
            continue
        left, top, width, height = numbers
        name = xmp.text(described, f"{{{_MPREG}}}PersonDisplayName")
        if region := _region(name, (left, top, left + width, top + height), "face", frame, header.orientation):
            yield region


def _packets(
    photo: Path | bytes, header: PhotoHeader, sidecar: Path | None
) -> Iterator[tuple[bytes | Callable[[], bytes], str]]:
    beside = xmp.sidecars_of(photo) if sidecar is None and isinstance(photo, Path) else []
    for path in beside if sidecar is None else [sidecar]:
        yield partial(xmp.read_sidecar, path), str(path)
    for packet in (header.xmp, header.extended_xmp):
        if packet is not None:
            yield packet, f"the XMP in {photo}" if isinstance(photo, Path) else "the XMP in the photo"


def _region(name: str, box: Box, kind: str, frame: Frame, orientation: int) -> Region | None:
    """Make a region of what was read; None for a box that is none, or lies outside the photo."""
    if not all(map(math.isfinite, box)):
        return None
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in box)
    if not (left < right and top < bottom):
        return None
    box = left, top, right, bottom
    try:
        name = person_name(name)
    except DataError:
        name = ""
    return Region(name, upright(box, orientation) if frame == "stored" else box, kind)


def _rectangle(text: str) -> list[float]:
    """Return the numbers of "0.25, 0.25, 0.25, 0.5", which may have decimal commas."""
    parts = text.split(", ") if text.count(",") > 3 else text.split(",")
    return [_number(part) for part in parts]


def _number(text: str) -> float:
    try:
        return float(_DECIMAL_COMMA.sub(r"\1.\2", text))
    except ValueError:
        return math.nan
