"""A walk through folders of photos that follows each link at most once and opens no photo."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facetl.data.metadata.header import NEEDS_AVIF, NEEDS_HEIC, can_read_avif, can_read_heif
from facetl.errors import DataError

_JPEG = ".jpg .jpeg .jpe .jfif .jif .jfi .pjpeg .pjp .mpo"
IMAGE_SUFFIXES = frozenset(f"{_JPEG} .png .apng .webp .gif .bmp .dib .tif .tiff .pgm .ppm .pnm .pbm".split())
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
_AVIF_SUFFIXES = frozenset({".avif"})
# Pictures and films that nothing here reads: counted by suffix, as photos may be missed.
_RAW = (
    ".3fr .arw .cr2 .cr3 .crw .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf "
    ".srw .x3f"
)
_PICTURES = (
    ".jpg_original .jpeg_original .jxl .jp2 .j2k .jpf .jpx .jpm .psd .psb .xcf .tga .pcx .exr .hdr .svg .eps .pdf"
)
_FILMS = ".3gp .avi .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .webm .wmv"
_UNREAD = frozenset(f"{_RAW} {_PICTURES} {_FILMS}".split())
_SUFFIXES = IMAGE_SUFFIXES | HEIF_SUFFIXES | _AVIF_SUFFIXES
# Read with the photo that they stand beside; no photo that somebody may be missing.
SIDECAR_SUFFIX = ".xmp"
# The note that `facetl data fetch` leaves beside the photos; not a photo that somebody may be missing.
TERMS_FILE = "TERMS.txt"

_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_BROKEN = {errno.ENOENT: "broken-link", errno.ENOTDIR: "broken-link", errno.ELOOP: "link-loop"}
_Key = tuple[int, int]


@dataclass(frozen=True)
class Album:
    """The photos of some folders, of nobody in particular, and what else was there.

    Attributes:
        paths: of each file once, absolute, spelled as the user did (links are not resolved), in order; a file that
            is there under two names is there twice, as two copies of one photo are.
        skipped: reason → count: `hidden`, `not-an-image`, `empty-file`, `unreadable`, `broken-link`, `link-loop`,
            `repeated-link`, `left-out`; `no-reader[.cr2]` and the like, by suffix, for pictures and films that nothing
            here reads; and, where what reads HEIC or AVIF is missing, `needs-facetl[heic]`, `needs-pillow>=11.3`.
    """

    paths: tuple[Path, ...]
    skipped: Counter[str]


def walk(folders: Sequence[Path], *, leave_out: Iterable[Path] = ()) -> Album:
    """List the photos in folders, at any depth.

    Which files are photos is known by the endings of their names; what they hold is seen when they are decoded.

    Args:
        folders: where to look; one inside another is looked through once. A photo's path may be given, too.
        leave_out: folders, wherever they turn up, that are not looked into, such as the one that results go to.

    Raises DataError when a folder that was given cannot be listed.
    """
    walker = _Walk({_identity(os.stat(path)) for path in leave_out if os.path.exists(path)})
    for given in folders:
        root = Path(os.path.abspath(given.expanduser()))
        if _entries_of_given(root, "photos") is None:
            walker.file(root)
        elif walker.enter(root):
            walker.folder(root)
    walker.follow_links()
    return Album(tuple(sorted(path for _, path in walker.photos)), walker.skipped)


def walk_people(root: Path) -> tuple[Path, list[tuple[str, Path]], Counter[str]]:
    """List the photos in the folders directly below `root`, at any depth inside them.

    Returns:
        The root, absolute as all paths and spelled as the user did (links are not resolved); the person's folder and
        the path of each photo; reason → count of the rest, as in Album.

    Raises DataError when the root cannot be listed.
    """
    root = Path(os.path.abspath(root.expanduser()))
    entries = _entries_of_given(root, "people")
    if entries is None:
        raise DataError(
            f"a folder of people is needed, got the file {root}. Give the folder that holds a folder per person."
        )
    walker = _PeopleWalk(root=os.path.realpath(root))
    for folder in walker.entries(root, [entry for entry in entries if entry.name != TERMS_FILE], None):
        walker.folder(folder)
    walker.follow_links()
    photos = [(person, path) for person, path in walker.photos if person is not None]
    kept = {person for person, _ in photos}
    walker.skipped["empty-folder"] += sum(name not in kept for name in walker.people)
    return root, photos, +walker.skipped


@dataclass
class _Walk:
    """A walk under way. Links are followed last, so that a photo keeps the name under which it really lies."""

    left_out: set[_Key] = field(default_factory=set)
    photos: list[tuple[str | None, Path]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    seen: set[_Key] = field(default_factory=set)
    links: list[tuple[str | None, Path]] = field(default_factory=list)

    def enter(self, folder: Path) -> bool:
        """Return whether a folder is new, and remember it; OSError where it is out of reach."""
        key = _identity(os.stat(folder))
        if key in self.left_out:
            self.skipped["left-out"] += 1
            return False
        new = key not in self.seen
        self.seen.add(key)
        return new

    def folder(self, root: Path, person: str | None = None) -> bool:
        """Take what lies in a folder; return whether it could be listed."""
        pending = [root]
        while pending:
            here = pending.pop()
            try:
                entries = _entries(here)
            except OSError:
                self.skipped["unreadable"] += 1
                if here == root:
                    return False
                continue
            pending += self.entries(here, entries, person)
        return True

    def entries(self, here: Path, entries: Sequence[os.DirEntry[str]], person: str | None) -> list[Path]:
        """Take files, keep links for later, and return the folders that are new."""
        folders = []
        for entry in entries:
            path = here / entry.name
            try:
                if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM_NAMES:
                    self.skipped["hidden"] += 1
                elif entry.is_symlink():
                    self.links.append((person, path))
                elif not entry.is_dir(follow_symlinks=False):
                    self.file(path, person)
                elif self.enter(path):
                    folders.append(path)
            except OSError:
                self.skipped["unreadable"] += 1
        return folders

    def follow_links(self) -> None:
        """Take what links lead to, each file and folder once."""
        # Links found while following links are appended, so that this ends only when none is left.
        for person, path in self.links:
            try:
                status = os.stat(path)
            except OSError as error:
                self.skipped[_BROKEN.get(error.errno or 0, "unreadable")] += 1
                continue
            if stat.S_ISDIR(status.st_mode) and self.leads_out(path):
                self.skipped["link-loop"] += 1
            elif _identity(status) in self.seen:
                self.skipped["repeated-link"] += 1
            elif not stat.S_ISDIR(status.st_mode):
                self.file(path, person)
            elif self.enter(path):
                self.folder(path, person)

    def leads_out(self, link: Path) -> bool:
        """Return whether a link leads to a folder that it lies in itself, which may be the whole disk."""
        return _holds(link, os.path.realpath(link.parent))

    def file(self, path: Path, person: str | None = None) -> None:
        """Take a file if it is a photo, else count why not."""
        suffix = path.suffix.lower()
        if suffix == SIDECAR_SUFFIX:
            return
        try:
            status = os.stat(path)
        except OSError:
            self.skipped["unreadable"] += 1
            return
        # A pipe or socket would block the process that opens it, whatever its name ends with.
        if suffix not in _SUFFIXES or not stat.S_ISREG(status.st_mode):
            self.skipped[f"no-reader[{suffix}]" if suffix in _UNREAD else "not-an-image"] += 1
        elif status.st_size == 0:
            self.skipped["empty-file"] += 1
        elif not os.access(path, os.R_OK):
            self.skipped["unreadable"] += 1
        elif suffix in HEIF_SUFFIXES and not can_read_heif():
            self.skipped[NEEDS_HEIC] += 1
        elif suffix in _AVIF_SUFFIXES and not can_read_avif():
            self.skipped[NEEDS_AVIF] += 1
        else:
            self.seen.add(_identity(status))
            self.photos.append((person, path))


@dataclass
class _PeopleWalk(_Walk):
    """A walk through a folder of people: what lies below one of its folders is that person's."""

    root: str = ""
    people: list[str] = field(default_factory=list)

    def folder(self, root: Path, person: str | None = None) -> bool:
        listed = super().folder(root, person or root.name)
        if person is None and listed:
            self.people.append(root.name)
        return listed

    def file(self, path: Path, person: str | None = None) -> None:
        if person is None:
            self.skipped["not-in-a-person-folder" if path.suffix.lower() in _SUFFIXES else "not-an-image"] += 1
        else:
            super().file(path, person)

    def leads_out(self, link: Path) -> bool:
        # Nor may a linked folder lead back to one that holds the whole root.
        return super().leads_out(link) or _holds(link, self.root)


def _holds(link: Path, place: str) -> bool:
    target = os.path.realpath(link)
    return place == target or place.startswith(target.rstrip(os.sep) + os.sep)


def _entries_of_given(root: Path, what: str) -> list[os.DirEntry[str]] | None:
    """Return what lies in a folder that was given, None where it is a file; DataError where it is out of reach."""
    try:
        return _entries(root) if stat.S_ISDIR(os.stat(root).st_mode) else None
    except FileNotFoundError:
        raise DataError(f"a folder of {what} is needed, but {root} does not exist. Check the path.") from None
    except OSError as error:
        raise DataError(f"the folder {root} cannot be read: {error.strerror}. Check its permissions.") from None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _identity(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino
