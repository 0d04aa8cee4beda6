"""Regions written beside a photo, into its XMP sidecar: never into the photo, and nothing else there is changed."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element
from xml.parsers import expat
from xml.sax.saxutils import escape

from facetl.data.metadata import xmp
from facetl.data.metadata.header import PhotoHeader, read_header
from facetl.data.metadata.regions import (
    AREA,
    DIMENSIONS,
    MWG,
    Frame,
    Region,
    applied_to,
    frame_of,
    mwg_region,
    same_face,
    stored,
)
from facetl.errors import DataError
from facetl.io.files import write_atomic
from facetl.io.text import LONGEST_NAME

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f' <rdf:RDF xmlns:rdf="{xmp.RDF}">\n'
    " </rdf:RDF>\n"
    "</x:xmpmeta>\n"
    '<?xpacket end="w"?>\n'
).encode()
_TYPES = {"face": "Face", "pet": "Pet", "focus": "Focus", "barcode": "BarCode"}
_NAMESPACES = f'xmlns:rdf="{xmp.RDF}" xmlns:mwg-rs="{MWG}" xmlns:stArea="{AREA}" xmlns:stDim="{DIMENSIONS}"'
_TAG = re.compile(rb"<(?:[^\"'>]|\"[^\"]*\"|'[^']*')*>")

# ElementTree's own mark between a namespace and a name: a namespace that holds it was refused before.
_MARK = "}"
_RDF = f"{xmp.RDF}{_MARK}RDF"
_LIST = (f"{MWG}{_MARK}Regions", f"{MWG}{_MARK}RegionList")
_ITEM = f"{xmp.RDF}{_MARK}li"

# From which byte to which a packet is replaced, and by what.
_Edit = tuple[int, int, bytes]


def write_sidecar(photo: Path, regions: Sequence[Region]) -> Path:
    """Write regions into a photo's sidecar in MWG's way; return the sidecar.

    It is the one that stands beside the photo, IMG.jpg.xmp or IMG.xmp, or else a new IMG.jpg.xmp. A region that marks
    the same face as one that is there takes its place unless both have one name; every other byte of the file stays.
    The file is replaced as a whole: at any moment it is the old or the new one.

    Raises DataError for a sidecar that cannot be read, or whose regions are those of a photo of another shape;
    PhotoError where there is no photo.
    """
    path = next(iter(xmp.sidecars_of(photo)), None)
    if path is not None and (path.is_symlink() or not path.is_file()):
        raise DataError(f"{path}: a sidecar is a file of its own, got a link or something else. Move it away.")
    content = sidecar_content(photo, regions)
    # Those who may read the photo may read who is in it; nobody needs to execute it.
    mode = (path or photo).stat().st_mode & 0o666
    if path is None:
        path = new_sidecar(photo)
    elif path.read_bytes() == content:
        return path
    write_atomic(path, content, mode=mode)
    return path


def new_sidecar(photo: Path) -> Path:
    """Return where a new sidecar of a photo goes: IMG.jpg.xmp, or IMG.xmp where that would be too long for a name."""
    name = f"{photo.name}.xmp"
    return photo.with_name(name) if len(os.fsencode(name)) <= LONGEST_NAME else photo.with_suffix(".xmp")


def sidecar_content(photo: Path, regions: Sequence[Region]) -> bytes:
    """Return what `write_sidecar` would write, and write nothing; errors as there."""
    path = next(iter(xmp.sidecars_of(photo)), None)
    # An empty file, as an interrupted program leaves it, holds nothing that could be lost.
    before = b"" if path is None else xmp.read_sidecar(path)
    return merged(before if before.strip() else _EMPTY, regions, read_header(photo), name=str(path or photo))


def merged(packet: bytes, regions: Sequence[Region], header: PhotoHeader, *, name: str) -> bytes:
    """Return an XMP packet with regions in it, else the same to the byte; `name` is how errors call it."""
    root = xmp.parse_packet(packet, name)
    encoding = xmp.encoding_of(packet)
    try:
        text = packet.decode(encoding).encode()  # UTF-8, in which the places are counted, until it is written
    except ValueError as error:
        raise DataError(f"{name}: XMP to add to is whole text ({error}). Move the file away.") from error
    places = _Places.of(text, name)
    if places.rdf is None:
        raise DataError(f"{name}: XMP has one rdf:RDF element with room in it, got none. Move the file away.")
    elements = list(root.iter(f"{{{MWG}}}Regions"))
    if len(elements) > 1:
        raise DataError(f"{name}: XMP has one list of regions, got {len(elements)}. Move the file away.")
    if elements and places.bag is not None:
        edits = _into_list(xmp.described(elements[0]), places, regions, header, name)
    else:
        # A list without room for an item says nothing but the photo's dimensions.
        edits = [(*span, b"") for span in places.regions]
        edits.append((places.rdf, places.rdf, _description(regions, header)))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    # A name with letters that the encoding lacks has them by their numbers.
    _Places.of(text, name)
    return text.decode().encode(encoding, "xmlcharrefreplace")


@dataclass
class _Places:
    """Where, counted in bytes, the parts of a packet lie.

    Attributes:
        rdf: the end of what rdf:RDF holds.
        regions: MWG's lists of regions, whole.
        bag: the end of what the first list's bag holds.
        items: the items of that bag, whole.
    """

    packet: bytes
    rdf: int | None = None
    regions: list[tuple[int, int]] = field(default_factory=list)
    bag: int | None = None
    items: list[tuple[int, int]] = field(default_factory=list)
    _open: list[tuple[str, int, bool]] = field(default_factory=list)

    @classmethod
    def of(cls, packet: bytes, name: str) -> _Places:
        """Find them in a packet in UTF-8 that was refused before if it had a document type.

        Raises DataError where it is not well-formed: more than that is read, and nothing else is written.
        """
        places = cls(packet)
        # Whatever its declaration may be: the bytes are UTF-8 by now.
        parser = expat.ParserCreate("utf-8", namespace_separator=_MARK)
        parser.StartElementHandler = lambda name, _: places.start(name, parser.CurrentByteIndex)
        parser.EndElementHandler = lambda _: places.end(parser.CurrentByteIndex)
        try:
            parser.Parse(packet.rstrip(xmp.PADDING.encode()), True)
        except expat.ExpatError as error:
            raise DataError(f"{name}: XMP to add to is well-formed XML ({error}). Move the file away.") from error
        return places

    def start(self, name: str, at: int) -> None:
        tag = _TAG.match(self.packet, at)
        self._open.append((name, at, tag is not None and tag[0].endswith(b"/>")))

    def end(self, at: int) -> None:
        name, start, empty = self._open.pop()
        # Of <a/> expat tells the place behind it, of <a></a> that of </a>.
        end = at if empty else self.packet.index(b">", at) + 1
        above = [name for name, _, _ in self._open]
        if name == _RDF and not empty:
            self.rdf = at
        elif name == _LIST[0]:
            self.regions.append((start, end))
        elif _in_list(above) and not empty:
            self.bag = at
        elif name == _ITEM and _in_list(above[:-1]):
            self.items.append((start, end))


def _in_list(above: Sequence[str]) -> bool:
    """Return whether an element with these above it is the bag of MWG's list; descriptions between do not count."""
    return tuple(name for name in above[-3:] if not name.endswith(f"{_MARK}Description"))[-2:] == _LIST


def _into_list(
    element: Element, places: _Places, regions: Sequence[Region], header: PhotoHeader, name: str
) -> list[_Edit]:
    dimensions = applied_to(element)
    frame = frame_of(*dimensions, header)
    items = list(xmp.members(element, f"{{{MWG}}}RegionList"))
    if frame is None or places.bag is None or len(items) != len(places.items):
        raise DataError(
            f"{name}: the regions there are of a photo of another shape, {header.width} × {header.height} pixels are "
            "in the file. Move the sidecar away to have a new one."
        )
    there = [mwg_region(item, dimensions, header) for item in items]
    gone, added = set(), []
    for region in regions:
        same = same_face(region, there)
        if not any(there[place].name == region.name for place in same):  # type: ignore[union-attr]
            gone.update(same)
            added.append(_item(region, frame, header.orientation))
    return [*((*places.items[place], b"") for place in gone), (places.bag, places.bag, "".join(added).encode())]


def _description(regions: Sequence[Region], header: PhotoHeader) -> bytes:
    items = "".join(_item(region, "stored", header.orientation) for region in regions)
    return (
        f'  <rdf:Description rdf:about="" {_NAMESPACES}>\n'
        '   <mwg-rs:Regions rdf:parseType="Resource">\n'
        f'    <mwg-rs:AppliedToDimensions stDim:w="{header.width}" stDim:h="{header.height}" stDim:unit="pixel"/>\n'
        f"    <mwg-rs:RegionList><rdf:Bag>\n{items}    </rdf:Bag></mwg-rs:RegionList>\n"
        "   </mwg-rs:Regions>\n"
        "  </rdf:Description>\n "
    ).encode()


def _item(region: Region, frame: Frame, orientation: int) -> str:
    left, top, right, bottom = stored(region.box, orientation) if frame == "stored" else region.box
    numbers = {"x": (left + right) / 2, "y": (top + bottom) / 2, "w": right - left, "h": bottom - top}
    area = " ".join(f'stArea:{side}="{number:.6f}"' for side, number in numbers.items())
    # Declared here as well: the prefixes of a foreign list may be others.
    return (
        f'     <rdf:li {_NAMESPACES} rdf:parseType="Resource">'
        f"<mwg-rs:Name>{escape(region.name)}</mwg-rs:Name>"
        f"<mwg-rs:Type>{escape(_TYPES.get(region.kind, region.kind))}</mwg-rs:Type>"
        f'<mwg-rs:Area {area} stArea:unit="normalized"/></rdf:li>\n'
    )
