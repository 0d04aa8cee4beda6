"""People out of a library, for other programs: folders by person, a table, XMP sidecars. Photos are never written."""

from __future__ import annotations

import errno
import os
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from facetl.data.metadata.regions import Region
from facetl.data.metadata.sidecar import new_sidecar, sidecar_content, write_sidecar
from facetl.errors import FULL_DISK, DataError, LibraryError
from facetl.io.files import PARTIAL, csv_bytes, write_atomic
from facetl.io.json import JsonFields
from facetl.io.text import LONGEST_NAME, cut, no_device
from facetl.people.library import Library
from facetl.people.missing_photos import missing_photos
from facetl.people.store.models import LibraryFace, LibraryPhoto

KINDS = ("folders", "csv", "xmp")
LINKS = ("hard", "symbolic", "copy")
TABLE = "faces.csv"
COLUMNS = ("path", "name", "said", "left", "top", "right", "bottom", "taken_at", "stack", "confidence")

_PAGE = 500
_LONGEST = 120  # characters of a folder's name
_LONGEST_BYTES = 240  # of a folder's name, with room for a number
_FORBIDDEN = frozenset('/\\:*?"<>|')
_UNFINISHED = f"{PARTIAL}export"
_MOVED = ".moved"  # within it: the names that move out of it, each ended by a zero byte


@dataclass(frozen=True)
class ExportReport(JsonFields):
    """Counts of what an export wrote.

    `people` and `photos` are those exported; `files` are links or copies in folders, `rows` of the table, `sidecars`
    of XMP; `skipped` photos are counted by reason: `gone` where no file lies at any path that is known,
    `on-another-disk` where hard links cannot lead, `not-written` for what else the system refuses of one photo alone,
    and `sidecar-refused`. Of a photo whose file was deleted, the table has no row either.
    """

    folder: str
    people: int
    photos: int
    files: int
    rows: int
    sidecars: int
    skipped: dict[str, int]


def export(
    library: Library,
    folder: Path,
    *,
    kinds: Collection[str],
    links: str = "hard",
    names: Collection[str] | None = None,
    confirmed_only: bool = False,
    beside: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Write the people of a library into a new folder, which has all of it or nothing.

    `folders` has a folder for each person with their photos; a photo of two people is in both. `csv` has a row for each
    face, also those without a name. `xmp` has a sidecar for each photo with named faces, its own with the
    faces added where it has one, under the photo's path below the folder that holds them all.

    Args:
        folder: absent or empty, but for what an export left that was killed.
        kinds: some of KINDS.
        links: how folders hold photos: `hard` links take no room but need one disk, and a change to one changes the
            photo; `symbolic` links break when the photo moves; `copy` is a file of its own.
        names: whose; None for everybody.
        confirmed_only: leave out names that stacks give and no answer confirms.
        beside: put sidecars beside the photos instead, where other programs look for them.
        on_progress: called with photos done and photos in all.

    Raises DataError where the folder is not empty or cannot be written, a kind is unknown, the disk is full or not one
    photo can be linked; LibraryError for a name that nobody has.
    """
    wrong = [kind for kind in kinds if kind not in KINDS]
    if wrong or not kinds or links not in LINKS:
        given = links if links not in LINKS else ", ".join(wrong) or "none"
        raise DataError(f"An export is some of {', '.join(KINDS)}, with links {', '.join(LINKS)}; received {given}.")
    shown = library.named() if confirmed_only else library.shown()
    if names is not None:
        unknown = sorted(set(names) - set(shown.values()))
        if unknown:
            raise LibraryError(
                f"Only people with a name can be exported; nobody has the name {unknown[0]!r}. Check its spelling."
            )
        shown = {face: name for face, name in shown.items() if name in set(names)}
    total = library.counts()["photos"]
    with _new_folder(folder) as unfinished:
        work = _Export(library, unfinished, shown, kinds, links=links, beside=beside, everybody=names is None)
        work.begin()
        for done, photo in enumerate(_photos(library), start=1):
            work.take(photo, library.faces_of(photo.id))
            if on_progress is not None:
                on_progress(done, total)
        return work.finish(folder)


def folder_name(name: str) -> str:
    """Return a person's name as a folder can have it on any system."""
    letters = "".join("_" if sign in _FORBIDDEN or ord(sign) < 32 else sign for sign in name)
    kept = cut(letters.strip(" .")[:_LONGEST], _LONGEST_BYTES).strip(" .") or "_"
    # In the C locale, too, the folder has the name's UTF-8.
    return os.fsdecode(no_device(kept).encode())


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder whose content moves into `folder` when the block ends; when it fails, nothing is left of it.

    It lies inside: `folder` may be a disk of its own, and nothing can be moved there from beside it.
    """
    unfinished = folder / _UNFINISHED
    try:
        made = not folder.exists()
        own = {_UNFINISHED, *_moved_by_a_killed_export(unfinished)}
        if not made and (not folder.is_dir() or any(path.name not in own for path in folder.iterdir())):
            raise DataError(f"{folder}: an export needs a folder that is empty or not there yet. Name another one.")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in own - {_UNFINISHED}:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
    except OSError as error:
        raise DataError(f"{folder}: an export cannot be written here ({error.strerror}). Name another one.") from error
    try:
        yield unfinished
        made_paths = list(unfinished.iterdir())
        write_atomic(unfinished / _MOVED, b"".join(os.fsencode(path.name) + b"\0" for path in made_paths))
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise
    for path in made_paths:
        os.replace(path, folder / path.name)
    shutil.rmtree(unfinished)


def _moved_by_a_killed_export(unfinished: Path) -> set[str]:
    """Return the names of what an export that was killed had begun to move out of its folder."""
    try:
        names = (unfinished / _MOVED).read_bytes().split(b"\0")[:-1]
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {name for name in map(os.fsdecode, names) if name not in ("", ".", "..") and "/" not in name}


@dataclass
class _Export:
    """An export under way, into an empty folder."""

    library: Library
    folder: Path
    shown: dict[int, str]
    kinds: Collection[str]
    links: str
    beside: bool
    everybody: bool
    rows: list[tuple[object, ...]] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    people: set[str] = field(default_factory=set)
    photos: int = 0
    files: int = 0
    sidecars: int = 0
    folders: dict[str, Path] = field(default_factory=dict)
    taken: dict[Path, set[str]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    confirmed: Mapping[int, str] = field(default_factory=dict)
    stacks: dict[int, tuple[int, float]] = field(default_factory=dict)
    refused: DataError | None = None

    def begin(self) -> None:
        self.gone = {photo.id for photo in missing_photos(self.library).deleted}
        self.taken[self.folder] = {TABLE}
        # Two names that differ in what a folder cannot have must not share one.
        for name in sorted(set(self.shown.values())):
            self.folders[name] = self._free(self.folder / folder_name(name))
        if "csv" in self.kinds:
            self.confirmed = self.library.resolved().names
            self.stacks = _stacks(self.library)

    def take(self, photo: LibraryPhoto, faces: list[LibraryFace]) -> None:
        path = photo.path if photo.id not in self.gone else None
        named = [face for face in faces if face.id in self.shown]
        if path is not None and "csv" in self.kinds:
            self.tabulate(photo, faces if self.everybody else named, path)
        if not named:
            return
        if path is None or not photo.there:
            self.skipped["gone"] += 1
            return
        people = {self.shown[face.id] for face in named}
        before = self.files + self.sidecars
        reasons = set()
        if "folders" in self.kinds:
            reasons = {self.link(path, self.folders[name]) for name in sorted(people)}
        if "xmp" in self.kinds:
            reasons.add(self.mark(photo, path, named))
        self.skipped.update(reason for reason in reasons if reason)
        if "csv" in self.kinds or self.files + self.sidecars > before:
            self.photos += 1
            self.people |= people

    def tabulate(self, photo: LibraryPhoto, faces: list[LibraryFace], path: Path) -> None:
        for face in faces:
            stack, sure = self.stacks.get(face.id, (None, None))
            box = (f"{edge:.1f}" for edge in face.face.box)
            name = self.shown.get(face.id, "")
            confidence = None if sure is None else f"{sure:.4f}"
            confirmed = "yes" if face.id in self.confirmed else "no"
            self.rows.append((path, name, confirmed, *box, photo.taken_at, stack, confidence))

    def link(self, path: Path, folder: Path) -> str | None:
        """Put a photo into a folder; return why it could not be, if so."""
        target = self._free(folder / path.name)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if self.links == "copy":
                shutil.copy2(path, target)
            elif self.links == "symbolic":
                target.symlink_to(path)
            else:
                os.link(path, target)
        except OSError as error:
            full = error.errno in FULL_DISK
            what = "copy" if self.links == "copy" else f"{self.links} link"
            other = (
                "Make room, or take another folder." if full or what == "copy" else "Take copies, or symbolic links."
            )
            refused = DataError(f"{self.folder.parent}: no {what} of {path} can be made ({error.strerror}). {other}")
            if full:
                raise refused from error
            self.refused = self.refused or refused
            with suppress(OSError):
                target.unlink()
            return "on-another-disk" if error.errno == errno.EXDEV else "not-written"
        self.files += 1
        return None

    def mark(self, photo: LibraryPhoto, path: Path, faces: list[LibraryFace]) -> str | None:
        """Write a photo's sidecar; return why it could not be, if so."""
        regions = [
            Region.of_pixels(self.shown[face.id], face.face.box, width=photo.width, height=photo.height)
            for face in faces
        ]
        try:
            if self.beside:
                write_sidecar(path, regions)
            else:
                target = self.folder / path.relative_to(self.root).with_name(new_sidecar(path).name)
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomic(target, sidecar_content(path, regions))
        except DataError:
            return "sidecar-refused"
        except OSError as error:
            if error.errno in FULL_DISK:
                raise
            return "not-written"
        self.sidecars += 1
        return None

    @cached_property
    def root(self) -> Path:
        """The folder that holds all photos of the library."""
        return Path(os.path.commonpath([path.parent for photo in _photos(self.library) for path in photo.paths]))

    def _free(self, path: Path) -> Path:
        """Return the path, or the next one with a number, that no file system takes for one given out before."""
        taken = self.taken.setdefault(path.parent, set())
        number, free = 2, path
        while _key(free.name) in taken:
            ending = f"_{number}{path.suffix}"
            free = path.with_name(f"{cut(path.stem, LONGEST_NAME - len(os.fsencode(ending)))}{ending}")
            number += 1
        taken.add(_key(free.name))
        return free

    def finish(self, folder: Path) -> ExportReport:
        """Write the table, and return what was written into the folder that all moves to."""
        if self.refused is not None and not self.files:
            raise self.refused
        if "csv" in self.kinds:
            write_atomic(self.folder / TABLE, csv_bytes([COLUMNS, *self.rows]))
        return ExportReport(
            folder=str(folder),
            people=len(self.people),
            photos=self.photos,
            files=self.files,
            rows=len(self.rows),
            sidecars=self.sidecars,
            skipped=dict(self.skipped),
        )


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _photos(library: Library) -> Iterator[LibraryPhoto]:
    offset = 0
    while page := library.photos(offset=offset, limit=_PAGE):
        yield from page
        offset += len(page)


def _stacks(library: Library) -> dict[int, tuple[int, float]]:
    """Return the stack of each face that lies in one, and how surely it does."""
    stacks = library.stacks(limit=library.stack_count())
    members = ((stack.id, member) for stack in stacks for member in library.stack(stack.id)[1])
    return {member.face: (stack, member.confidence) for stack, member in members}
