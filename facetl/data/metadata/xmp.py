"""XMP packets: RDF in XML, inside a photo or in a file beside it, by programs that nobody knows."""

from __future__ import annotations

import os
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


def parse_packet(packet: bytes, name: str) -> Element:
    """Parse an XMP packet to its root element; `name` is how errors call it.

    Entities, document types and what is outside the packet are refused, not looked at: none has a place in XMP, and
    all are ways to fill the memory or to read other files. Raises DataError for these and for what is no XML.
    """
    from defusedxml import DefusedXmlException  # type: ignore[import-untyped,unused-ignore]
    from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped,unused-ignore]

    if len(packet) > MAX_BYTES:
        raise DataError(f"{name}: XMP may have at most {MAX_BYTES >> 20} MiB, got more. Delete or replace it.")
    try:
        # The padding behind a packet may end in zeros, which XML does not know.
        root: Element = fromstring(packet.rstrip(b"\0 \t\r\n"), forbid_dtd=True)
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


def sidecar_of(photo: Path) -> Path | None:
    """Return the sidecar that stands beside a photo: IMG.jpg.xmp, or else IMG.xmp; None without one."""
    for name in (photo.name, photo.stem):
        for suffix in (".xmp", ".XMP"):
            path = photo.with_name(name + suffix)
            if os.path.lexists(path):
                return path
    return None


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


def _too_deep(root: Element) -> bool:
    level = [root]
    for _ in range(_DEPTH):
        level = [child for element in level for child in element]
        if not level:
            return False
    return True
