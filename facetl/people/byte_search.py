"""Search of every file of a folder for bytes, many of them at a time."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.errors import LibraryError
from facetl.io.json import JsonFields

_BLOCK = 8 * 2**20
# From this length on a text's first four bytes tell it from most others.
_LONG = 4


@dataclass(frozen=True)
class Trace(JsonFields):
    """Something that was looked for and is there: in which file, relative to the folder, what, and how often."""

    file: str
    what: str
    times: int


@dataclass(frozen=True)
class Wanted:
    """Bytes to look for.

    Attributes:
        what: how a find is called.
        texts: the bytes, 2 and more each.
        word: whether letters and digits around them make them something else, as in a name.
        in_numbers: whether also in files that are neither text nor SQLite.
        within: longer texts inside which they do not count, as another's name that holds this one.
    """

    what: str
    texts: Collection[bytes]
    word: bool = False
    within: Collection[bytes] = ()
    in_numbers: bool = True


def trace(folder: Path, wanted: Collection[Wanted]) -> list[Trace]:
    """Return what of this is found in the files below a folder, their names included.

    Raises LibraryError where a file cannot be read: then it is not known.
    """
    search = _ByteSearch(wanted)
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        hits = search.find(os.fsencode(name))
        if path.is_file() and not path.is_symlink():
            try:
                hits += search.find_in(path)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise LibraryError(f"{path}: cannot be searched ({error.strerror}). Check its permissions.") from error
        found += [Trace(os.fsencode(name).decode(errors="replace"), what, times) for what, times in hits.items()]
    return found


class _ByteSearch:
    """All texts by their first bytes: positions that begin like none are passed over by the million."""

    def __init__(self, wanted: Collection[Wanted]) -> None:
        self._by_start: dict[int, list[tuple[bytes, Wanted]]] = {}
        self._starts, self._nexts = np.zeros(1 << 16, bool), np.zeros(1 << 16, bool)
        self._reach = 1
        for one in wanted:
            for text in set(one.texts):
                start = int.from_bytes(text[:2], "big")
                self._starts[start] = True
                self._by_start.setdefault(start, []).append((text, one))
                if len(text) >= _LONG:
                    self._nexts[int.from_bytes(text[2:4], "big")] = True
                else:
                    self._nexts[:] = True
                self._reach = max(self._reach, len(text) + 1, *map(len, one.within))

    def find_in(self, path: Path) -> Counter[str]:
        """Count what is found in a file; parts of it that were never written are passed over."""
        hits: Counter[str] = Counter()
        with path.open("rb") as file:
            numbers = not _is_text(file.read(4096))
            for start, end in _written(file.fileno()):
                position, data, first = start, b"", 0
                while position < end:
                    file.seek(position)
                    block = file.read(min(_BLOCK, end - position))
                    if not block:
                        break
                    position += len(block)
                    data += block
                    # What runs over the end of the block is found with the next one.
                    stop = len(data) if position >= end else max(first, len(data) - self._reach)
                    hits += self.find(data, first=first, stop=stop, numbers=numbers)
                    cut = max(0, stop - self._reach)
                    data, first = data[cut:], stop - cut
        return hits

    def find(self, data: bytes, *, first: int = 0, stop: int | None = None, numbers: bool = False) -> Counter[str]:
        """Count what begins in a part of some bytes."""
        hits: Counter[str] = Counter()
        padded = np.frombuffer(data + b"\0\0\0", np.uint8).astype(np.uint16)
        pairs = (padded[:-1] << 8) | padded[1:]
        stop = len(data) if stop is None else stop
        places = first + np.flatnonzero(self._starts[pairs[first:stop]] & self._nexts[pairs[first + 2 : stop + 2]])
        for place in places.tolist():
            for text, one in self._by_start[int(pairs[place])]:
                if numbers and not one.in_numbers:
                    continue
                if data.startswith(text, place) and _counts(data, place, text, one):
                    hits[one.what] += 1
        return hits


def _counts(data: bytes, place: int, text: bytes, wanted: Wanted) -> bool:
    end = place + len(text)
    if wanted.word and (_in_word(data[place - 1 : place]) or _in_word(data[end : end + 1])):
        return False
    for longer in wanted.within:
        offset = longer.find(text)
        while offset >= 0:
            if data.startswith(longer, place - offset) and place >= offset:
                return False
            offset = longer.find(text, offset + 1)
    return True


def _is_text(beginning: bytes) -> bool:
    return b"\0" not in beginning or beginning.startswith(b"SQLite format 3")


def _in_word(sign: bytes) -> bool:
    return sign.isalnum() or sign >= b"\x80"


def _written(descriptor: int) -> Iterator[tuple[int, int]]:
    """Give the parts of a file that are not holes, from first to behind the last byte."""
    end = os.fstat(descriptor).st_size
    position = 0
    if not hasattr(os, "SEEK_DATA"):  # Windows
        yield position, end
        return
    while position < end:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
            stop = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            start, stop = position, end
        yield start, stop
        position = stop
