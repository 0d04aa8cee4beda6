"""A walk through a folder of people that follows each link at most once and opens no photo."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from facetl.errors import DataError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".webp", ".bmp", ".tif", ".tiff", ".pgm", ".ppm", ".pnm", ".pbm"}
)

# The note that `facetl data fetch` leaves beside the photos; not a photo that somebody may be missing.
TERMS_FILE = "TERMS.txt"

_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass
class Scan:
    """What a walk has found so far: (person's folder, path) of each photo, and counts of the rest."""

    root: Path
    photos: list[tuple[str, Path]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def scan(root: Path) -> Scan:
    """List the photos in the folders directly below `root`, at any depth inside them.

    Paths are absolute, spelled as the user did (links are not resolved).
    Raises DataError when the root cannot be listed.
    """
    found = Scan(Path(os.path.abspath(root.expanduser())))
    try:
        entries = _entries(found.root)
    except FileNotFoundError:
        raise DataError(f"a folder of people is needed, but {found.root} does not exist. Check the path.") from None
    except NotADirectoryError:
        raise DataError(
            f"a folder of people is needed, got the file {found.root}. Give the folder that holds a folder per person."
        ) from None
    except OSError as error:
        raise DataError(f"the folder {found.root} cannot be read: {error.strerror}. Check its permissions.") from None
    _Walk(found).people(entries)
    return found


class _Walk:
    """One scan under way.

    Real files and folders are taken first and links after them, so that a link to a photo that the scan
    reaches by itself never takes that photo away from the person in whose folder it really lies.
    """

    def __init__(self, found: Scan) -> None:
        self.found = found
        self.real_root = os.path.realpath(found.root)
        self.seen: set[tuple[int, int]] = set()
        self.links: list[tuple[str | None, Path]] = []

    def people(self, entries: list[os.DirEntry[str]]) -> None:
        persons: list[str] = []
        for entry in entries:
            if entry.name == TERMS_FILE or self._hidden(entry.name):
                continue
            path = self.found.root / entry.name
            if entry.is_symlink():
                self.links.append((None, path))
            elif entry.is_dir(follow_symlinks=False):
                persons += self._folder(entry.name, path) * [entry.name]
            else:
                self._loose(path)
        # Links found while following links are appended, so that this ends only when none is left.
        for person, path in self.links:
            persons += self._link(person, path)
        kept = {person for person, _ in self.found.photos}
        self._skip("empty-folder", sum(person not in kept for person in persons))

    def _folder(self, person: str, folder: Path) -> bool:
        """Take what lies in one of a person's folders; say whether it could be listed."""
        pending = [folder]
        while pending:
            here = pending.pop()
            try:
                entries = _entries(here)
                self.seen.add(_key(os.stat(here)))
            except OSError:
                self._skip("unreadable")
                if here == folder:
                    return False
                continue
            for entry in entries:
                if self._hidden(entry.name):
                    continue
                path = here / entry.name
                if entry.is_symlink():
                    self.links.append((person, path))
                elif entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                else:
                    self._file(person, path)
        return True

    def _link(self, person: str | None, path: Path) -> list[str]:
        """Follow a link; give the person whose folder it turned out to be, if any."""
        try:
            status = os.stat(path)
        except FileNotFoundError:
            self._skip("broken-link")
            return []
        except OSError as error:
            self._skip("link-loop" if error.errno == errno.ELOOP else "unreadable")
            return []
        if not stat.S_ISDIR(status.st_mode):
            if person is None:
                self._loose(path)
            elif _key(status) in self.seen and _is_image(path):
                self._skip("repeated-link")
            else:
                self._file(person, path)
            return []
        if self._loops(path):
            self._skip("link-loop")
            return []
        if _key(status) in self.seen:
            self._skip("repeated-link")
            return []
        listed = self._folder(person or path.name, path)
        return [path.name] if person is None and listed else []

    def _file(self, person: str, path: Path) -> None:
        try:
            status = os.stat(path)
        except OSError:
            self._skip("unreadable")
            return
        # A pipe or socket would block whoever opens it, whatever its name ends with.
        if not _is_image(path) or not stat.S_ISREG(status.st_mode):
            self._skip("not-an-image")
        elif status.st_size == 0:
            self._skip("empty-file")
        elif not os.access(path, os.R_OK):
            self._skip("unreadable")
        else:
            self.seen.add(_key(status))
            self.found.photos.append((person, path))

    def _loose(self, path: Path) -> None:
        self._skip("not-in-a-person-folder" if _is_image(path) else "not-an-image")

    def _loops(self, link: Path) -> bool:
        """Whether a link leads to a folder that it lies in itself, or that the whole scan lies in."""
        target = os.path.realpath(link)
        inside = (os.path.realpath(link.parent), self.real_root)
        return any(place == target or place.startswith(target.rstrip(os.sep) + os.sep) for place in inside)

    def _hidden(self, name: str) -> bool:
        hidden = name.startswith(".") or name.casefold() in _SYSTEM_NAMES
        self._skip("hidden", int(hidden))
        return hidden

    def _skip(self, reason: str, count: int = 1) -> None:
        if count:
            self.found.skipped[reason] += count


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
