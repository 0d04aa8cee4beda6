"""XMP packets: RDF in XML, inside a photo or in a file beside it, by programs that nobody knows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from facetl.errors import DataError
from facetl.io.files import open_bytes

# Lightroom's longest are a few megabytes: masks and the history of every edit.
MAX_BYTES = 16 * 2**20
# Elements within elements; a packet of regions has about ten.
_DEPTH = 200

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_CONTAINERS = tuple(f"{{{RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))

# What a packet begins with, its encoding's mark or a tag (XML 1.0, appendix F); the longer first.
_BEGINNINGS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"<\0\0\0", "utf-32-le"),
    (b"\0\0\0<", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
    (b"\xef\xbb\xbf", "utf-8"),
)
_ENCODING = re.compile(rb"<\?xml[^>]*encoding\s*=\s*[\"']([^\"']+)")
PADDING = "\0 \t\r\n"  # behind a packet; XML does not know the zeros
# Characters that no XML may hold, as themselves or by their numbers, though some programs copy them from EXIF.
_FORBIDDEN = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_REFERENCE = re.compile("&#(?:x([0-9a-fA-F]{1,6})|([0-9]{1,7}));")


def encoding_of(packet: bytes) -> str:
    """Return the encoding of a packet by its first bytes, else by its XML declaration, else UTF-8."""
    beginning = packet[:200].lstrip(b" \t\r\n")
    for first, encoding in _BEGINNINGS:
        if beginning.startswith(first):
            return encoding
    found = _ENCODING.search(packet[:200])
    declared = found[1].decode("ascii", "replace").lower() if found else "utf-8"
    # What could be read as ASCII up to here is neither.
    return "utf-8" if declared.startswith(("utf-16", "utf-32")) else declared


def parse_packet(packet: bytes, name: str) -> Element:
    """Parse an XMP packet to its root element; `name` is how errors call it.

    White space before the declaration, zeros behind the packet, characters that XML forbids and bytes that are no
    UTF-8 are passed over, as other programs do. Entities, document types and what is outside the packet are refused,
    not looked at: none has a place in XMP, and all are ways to fill the memory or to read other files. Raises DataError
    for these and for what is no XML.
    """
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped,unused-ignore]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped,unused-ignore]

    if len(packet) > MAX_BYTES:
        raise DataError(f"{name}: XMP may have at most {MAX_BYTES >> 20} MiB, got more. Delete or replace it.")
    try:
        root: Element = fromstring(_text(packet), forbid_dtd=True)
    except DefusedXmlException as error:
        raise DataError(f"{name}: XMP has no document type and no entities, got some. Delete or replace it.") from error
    except (ParseError, ValueError, LookupError) as error:
        raise DataError(f"{name}: expected XMP, but it is no XML ({error}). Delete or replace it.") from error
    if _too_deep(root):
        raise DataError(f"{name}: XMP is nested at most {_DEPTH} deep, got more. Delete or replace it.")
    return root


def read_sidecar(path: Path) -> bytes:
    """Read a sidecar, of one that is too large as much as `parse_packet` refuses; DataError for one out of reach."""
    try:
        with os.fdopen(open_bytes(path, os.O_RDONLY), "rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from error


def sidecars_of(photo: Path) -> list[Path]:
    """Return the sidecars that stand beside a photo, IMG.jpg.xmp before IMG.xmp."""
    names = [name + suffix for name in (photo.name, photo.stem) for suffix in (".xmp", ".XMP")]
    return [path for path in map(photo.with_name, names) if os.path.lexists(path)]


def text(element: Element, name: str) -> str:
    """Return the text of a property, written as an attribute or as an element; empty without it."""
    if (value := element.get(name)) is not None:
        return value.strip()
    return (element.findtext(name) or "").strip()


def structure(element: Element, name: str) -> Element | None:
    """Return what a property that is a structure holds, however it is written; None without it."""
    found = element.find(name)
    return None if found is None else described(found)


def described(element: Element) -> Element:
    """Return the rdf:Description within an element where its properties are written inside one, or else itself."""
    inner = element.find(f"{{{RDF}}}Description")
    return element if inner is None else inner


def members(element: Element, name: str) -> Iterator[Element]:
    """Give the items of a property that is a bag, or another of RDF's containers."""
    for found in element.findall(name):
        for container in _CONTAINERS:
            for bag in found.findall(container):
                yield from bag.findall(f"{{{RDF}}}li")


def _text(packet: bytes) -> str:
    """Decode a packet and take out what no XML may hold."""
    encoding = encoding_of(packet)
    width = {"utf-32": 4, "utf-16": 2}.get(encoding[:6], 1)
    if encoding in ("utf-8", "us-ascii"):
        # Adobe's XMP Core, too, takes a byte that is no UTF-8 for one of Windows' western code page.
        text = re.sub(
            "[\udc80-\udcff]",
            lambda byte: bytes([ord(byte[0]) - 0xDC00]).decode("cp1252", "replace"),
            packet.decode("utf-8", "surrogateescape"),
        )
    else:
        text = packet[: len(packet) // width * width].decode(encoding)
    text = _FORBIDDEN.sub("", text.rstrip(PADDING).lstrip("\ufeff" + PADDING))
    return _REFERENCE.sub(lambda number: "" if _forbidden(*number.groups()) else number[0], text)


def _forbidden(hexadecimal: str | None, decimal: str | None) -> bool:
    code = int(hexadecimal, 16) if hexadecimal else int(decimal or "")
    return code > 0x10FFFF or _FORBIDDEN.match(chr(code)) is not None


def _too_deep(root: Element) -> bool:
    level = [root]
    for _ in range(_DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True
