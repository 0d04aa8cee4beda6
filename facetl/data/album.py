"""A walk through folders of photos, of nobody in particular, that follows each link at most once and opens no photo."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from facetl.data.metadata.header import NEEDS_HEIC, can_read_heif
from facetl.data.walk import IMAGE_SUFFIXES
from facetl.errors import DataError

HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif"})
# Read with the photo that they stand beside; no photo that somebody may be missing.
SIDECAR_SUFFIX = ".xmp"

_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
_Key = tuple[int, int]


@dataclass(frozen=True)
class Album:
    """The photos of some folders, and what else was there.

    Attributes:
        paths: of each file once, absolute, spelled as the user did (links are not resolved), in order; a file that
            is there under two names is there twice, as two copies of one photo are.
        skipped: reason → count: `hidden`, `not-an-image`, `empty-file`, `unreadable`, `broken-link`, `link-loop`,
            `repeated-link`, `left-out`, and, where the extra that reads HEIC is missing, `needs-facetl[heic]`.
    """

    paths: tuple[Path, ...]
    skipped: Counter[str]


def walk(folders: Sequence[Path], *, leave_out: Iterable[Path] = ()) -> Album:
    """List the photos in folders, at any depth.

    Which files are photos is told by their names' endings; what they hold is seen when they are decoded.

    Args:
        folders: where to look; one inside another is looked through once. A photo's path may be given, too.
        leave_out: folders, wherever they turn up, that are not looked into, such as the one that results go to.

    Raises DataError when a folder that was given cannot be listed.
    """
    walker = _Walk({_identity(os.stat(path)) for path in leave_out if os.path.exists(path)})
    for given in folders:
        root = Path(os.path.abspath(given.expanduser()))
        if not _listable(root):
            walker.file(root)
        elif walker.enter(root):
            walker.folder(root)
    walker.follow_links()
    return Album(tuple(sorted(walker.paths)), walker.skipped)


@dataclass
class _Walk:
    """A walk under way. Links are followed last, so that a photo keeps the name under which it really lies."""

    left_out: set[_Key]
    paths: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    seen: set[_Key] = field(default_factory=set)
    links: list[Path] = field(default_factory=list)

    def enter(self, folder: Path) -> bool:
        """Say whether a folder is new, and remember it; OSError where it is out of reach."""
        key = _identity(os.stat(folder))
        if key in self.left_out:
            self.skipped["left-out"] += 1
            return False
        new = key not in self.seen
        self.seen.add(key)
        return new

    def folder(self, root: Path) -> None:
        pending = [root]
        while pending:
            here = pending.pop()
            try:
                with os.scandir(here) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name)
            except OSError:
                self.skipped["unreadable"] += 1
                continue
            for entry in listed:
                path = here / entry.name
                try:
                    if entry.name.startswith(".") or entry.name.casefold() in _SYSTEM_NAMES:
                        self.skipped["hidden"] += 1
                    elif entry.is_symlink():
                        self.links.append(path)
                    elif not entry.is_dir(follow_symlinks=False):
                        self.file(path)
                    elif self.enter(path):
                        pending.append(path)
                except OSError:
                    self.skipped["unreadable"] += 1

    def follow_links(self) -> None:
        # Links found while following links are appended, so that this ends only when none is left.
        for path in self.links:
            try:
                status = os.stat(path)
            except OSError as error:
                reasons = {errno.ENOENT: "broken-link", errno.ENOTDIR: "broken-link", errno.ELOOP: "link-loop"}
                self.skipped[reasons.get(error.errno or 0, "unreadable")] += 1
                continue
            if _identity(status) in self.seen:
                self.skipped["repeated-link"] += 1
            elif _leads_out(path):
                self.skipped["link-loop"] += 1
            elif not stat.S_ISDIR(status.st_mode):
                self.file(path)
            elif self.enter(path):
                self.folder(path)

    def file(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix == SIDECAR_SUFFIX:
            return
        try:
            status = os.stat(path)
        except OSError:
            self.skipped["unreadable"] += 1
            return
        # A pipe or socket would block whoever opens it, whatever its name ends with.
        if suffix not in IMAGE_SUFFIXES | HEIF_SUFFIXES or not stat.S_ISREG(status.st_mode):
            self.skipped["not-an-image"] += 1
        elif status.st_size == 0:
            self.skipped["empty-file"] += 1
        elif not os.access(path, os.R_OK):
            self.skipped["unreadable"] += 1
        elif suffix in HEIF_SUFFIXES and not can_read_heif():
            self.skipped[NEEDS_HEIC] += 1
        else:
            self.seen.add(_identity(status))
            self.paths.append(path)


def _leads_out(link: Path) -> bool:
    """Whether a link leads to a folder that it lies in itself, which may be the whole disk."""
    target, place = os.path.realpath(link), os.path.realpath(link.parent)
    return place == target or place.startswith(target.rstrip(os.sep) + os.sep)


def _listable(root: Path) -> bool:
    """Say whether what was given is a folder, or else a file; DataError where it is neither, or out of reach."""
    try:
        if not stat.S_ISDIR(os.stat(root).st_mode):
            return False
        with os.scandir(root):
            return True
    except FileNotFoundError:
        raise DataError(f"a folder of photos is needed, but {root} does not exist. Check the path.") from None
    except OSError as error:
        raise DataError(f"the folder {root} cannot be read: {error.strerror}. Check its permissions.") from None


def _identity(status: os.stat_result) -> _Key:
    return status.st_dev, status.st_ino
