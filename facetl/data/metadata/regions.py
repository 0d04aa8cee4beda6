"""Faces that other programs have marked and named: regions in XMP, read and never written into a photo.

Two ways to write them are read: MWG's ("Guidelines for Handling Image Metadata", Metadata Working Group 2010, section
5.9) and Microsoft's ("People Tagging Overview", schema MP 1.2).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
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


def read_regions(photo: Path | bytes, *, sidecar: Path | None = None) -> list[Region]:
    """Read the regions that are marked in a photo, by its sidecar or by the XMP inside it.

    A region that several of them give is there once: the sidecar comes before the photo, MWG's way before
    Microsoft's; a name that the first one lacks is taken from the next. Regions that were drawn on the photo before it
    was cropped fit nothing and are left out, as MWG says.

    Args:
        photo: its path or its file's bytes; of a path, the sidecar is looked for beside it.
        sidecar: where the sidecar is.

    Raises DataError for XMP that is damaged, hostile or too large, PhotoError where there is no photo.
    """
    header = read_header(photo)
    found: list[Region] = []
    for packet, name in _packets(photo, header, sidecar):
        descriptions = list(xmp.parse_packet(packet, name).iter(f"{{{xmp.RDF}}}Description"))
        regions = chain.from_iterable(read(one, header) for read in (_mwg, _microsoft) for one in descriptions)
        for count, region in enumerate(regions):
            if count == _MOST:
                raise DataError(f"{name}: a photo has at most {_MOST:,} regions, got more. Delete or replace them.")
            same = same_face(region, found)
            if not same:
                found.append(region)
            elif not found[same[0]].name:
                found[same[0]] = replace(found[same[0]], name=region.name)
    return found


def same_face(region: Region, others: Sequence[Region | None]) -> list[int]:
    """Return the places of those regions that mark the same face as this one."""
    boxes = [(0.0, 0.0, 0.0, 0.0) if other is None else other.box for other in others]
    near = np.flatnonzero(overlaps([region.box], boxes)[0] > _SAME_FACE)
    return [place for place in near.tolist() if getattr(others[place], "kind", None) == region.kind]


def frame_of(width: float, height: float, header: PhotoHeader) -> Literal["stored", "upright"] | None:
    """Return which of a photo's two forms regions were drawn on, by the dimensions of it; None when on neither.

    MWG: "Region metadata is applied to the stored image." Programs that turn the photo first say so by its dimensions;
    where the two forms have one shape, or no dimensions (0) are given, the rule counts.
    """
    if not (math.isfinite(width) and math.isfinite(height) and width > 0 and height > 0):
        return "stored"
    frames: tuple[tuple[Literal["stored", "upright"], tuple[int, int]], ...] = (
        ("stored", (header.width, header.height)),
        ("upright", header.upright),
    )
    for frame, (across, down) in frames:
        if abs(math.log((width / height) / (across / down))) <= _SAME_SHAPE:
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


def mwg_region(item: Element, frame: Literal["stored", "upright"], orientation: int) -> Region | None:
    """Read one item of MWG's list of regions; None for one without an area."""
    item = xmp.described(item)
    area = xmp.structure(item, f"{{{MWG}}}Area")
    if area is None or xmp.text(area, f"{{{AREA}}}unit") not in ("", "normalized"):
        return None
    x, y, width, height = (_number(xmp.text(area, f"{{{AREA}}}{side}")) for side in "xywh")
    kind = xmp.text(item, f"{{{MWG}}}Type").casefold() or "face"
    name = xmp.text(item, f"{{{MWG}}}Name")
    return _region(name, (x - width / 2, y - height / 2, x + width / 2, y + height / 2), kind, frame, orientation)


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
    if frame := frame_of(*applied_to(regions), header):
        for item in xmp.members(regions, f"{{{MWG}}}RegionList"):
            if region := mwg_region(item, frame, header.orientation):
                yield region


def _microsoft(element: Element, header: PhotoHeader) -> Iterator[Region]:
    info = xmp.structure(element, f"{{{_MP}}}RegionInfo")
    if info is None:
        return
    for item in xmp.members(info, f"{{{_MPRI}}}Regions"):
        described = xmp.described(item)
        numbers = [_number(part) for part in xmp.text(described, f"{{{_MPREG}}}Rectangle").split(",")]
        # A person who is only listed as being in the photo has no rectangle.
        if len(numbers) != 4:
            continue
        left, top, width, height = numbers
        name = xmp.text(described, f"{{{_MPREG}}}PersonDisplayName")
        if region := _region(name, (left, top, left + width, top + height), "face", "stored", header.orientation):
            yield region


def _packets(photo: Path | bytes, header: PhotoHeader, sidecar: Path | None) -> Iterator[tuple[bytes, str]]:
    if sidecar is None and isinstance(photo, Path):
        sidecar = xmp.sidecar_of(photo)
    if sidecar is not None:
        yield xmp.read_sidecar(sidecar), str(sidecar)
    if header.xmp is not None:
        yield header.xmp, f"the XMP in {photo}" if isinstance(photo, Path) else "the XMP in the photo"


def _region(name: str, box: Box, kind: str, frame: Literal["stored", "upright"], orientation: int) -> Region | None:
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


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
