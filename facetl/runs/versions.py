"""The versions of a run: what an update replaced is kept, and any version can be put back.

A version is all that a run folder holds, but for its gallery, which people are enrolled in at any time and which stays
as long as its embeddings can be compared with those of the head in use. The version in use lies in the run folder
itself; every other one in `versions/NUMBER/` below it. A version is written beside the folder and takes its place when
it is complete.

    config.json     version: its number, from 1; compatible_heads: digests of heads whose galleries its head answers
                    for; update: how it came about
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.errors import RunError
from facetl.io.json import JsonFields
from facetl.recognition.run_folder import CONFIG, GALLERY, RunFolder

VERSIONS = "versions"
# What people are enrolled in goes its own way: see `_take_gallery`. The lock lay in the folder once.
_NOT_OF_A_VERSION = (VERSIONS, GALLERY, "gallery.lock", "gallery.pid")


@dataclass(frozen=True)
class Version(JsonFields):
    """A version of a run.

    Attributes:
        number: counted from 1, the run as it was trained.
        folder: where it lies.
        in_use: whether it is the one that the run answers with.
        update: what its config says of the update that made it; None for one that was trained.
    """

    number: int
    folder: Path
    in_use: bool
    update: dict[str, Any] | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, the number as `version`."""
        version = super().to_json()
        return {"version": version.pop("number"), **version}


def history(folder: Path) -> tuple[Version, ...]:
    """Return the versions of a run, oldest first; RunError where it, or one of them, is damaged."""
    RunFolder(folder).recover()
    stored = sorted((folder / VERSIONS).glob(f"*/{CONFIG}"))
    found = [_version(folder, in_use=True), *(_version(path.parent, in_use=False) for path in stored)]
    return tuple(sorted(found, key=lambda version: version.number))


def next_number(folder: Path) -> int:
    """Return the number that a run's next version gets: none had it before."""
    return history(folder)[-1].number + 1


def put_in_place(folder: Path, write: Callable[[Path], None], *, head: str) -> bool:
    """Replace the version in use by one that `write` makes in a folder it is given; the old one is kept.

    head: digest of the version that the new one was made from. The gallery stays if the new version's
    `compatible_heads` say so, or else waits with its own version; returns whether it stayed. RunError where another
    process changed the run meanwhile, or changes it now.
    """
    run = RunFolder(folder)
    run.recover()
    with run.changing_gallery():
        if run.head_digest() != head:
            raise RunError(f"{folder}: the run was changed by another process meanwhile. Update it again.")
        with RunFolder.new(folder) as partial:
            write(partial.path)
            _keep(folder, partial.path, without=None)
            return _take_gallery(run, partial)


def roll_back(folder: Path, to: int | None = None) -> Version:
    """Put an earlier version of a run back in use, by default the one before; the one in use until now is kept.

    Any version can be asked for, a later one, too. RunError for one that is not there.
    """
    run = RunFolder(folder)
    run.recover()
    with run.changing_gallery():
        return _roll_back(run, to)


def _roll_back(run: RunFolder, to: int | None) -> Version:
    folder, versions = run.path, history(run.path)
    now = next(version for version in versions if version.in_use)
    before = [version.number for version in versions if version.number < now.number]
    wanted = to if to is not None else (before[-1] if before else None)
    chosen = next((version for version in versions if version.number == wanted and not version.in_use), None)
    if chosen is None:
        others = ", ".join(str(version.number) for version in versions if not version.in_use)
        raise RunError(
            f"{folder}: version {now.number} is in use, and can be exchanged for another one; got "
            f"{'none before it' if wanted is None else wanted}. "
            + (f"Name one by --to: {others}." if others else "There is none yet: facetl update makes one.")
        )
    with RunFolder.new(folder) as partial:
        _copy(chosen.folder, partial.path)
        _answer_for(partial, folder)
        _keep(folder, partial.path, without=chosen.number)
        _take_gallery(run, partial)
    return _version(folder, in_use=True)


def _version(folder: Path, *, in_use: bool) -> Version:
    config = RunFolder(folder).config()
    try:
        number, update = int(config.get("version", 1)), config.get("update")
        if update is not None and not isinstance(update, dict):
            raise TypeError("update is no object")
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder}: expected a version of a run ({error}). Restore it from a backup.") from error
    return Version(number, folder, in_use, update)


def _keep(folder: Path, partial: Path, *, without: int | None) -> None:
    """Bring all versions along into the folder that will replace the run's, the one in use among them."""
    (partial / VERSIONS).mkdir(mode=0o700)
    for version in history(folder):
        if version.number != without:
            left = _NOT_OF_A_VERSION if version.in_use else ()
            _copy(version.folder, partial / VERSIONS / str(version.number), left)


def _take_gallery(run: RunFolder, partial: RunFolder) -> bool:
    """Bring the gallery along where the new head answers for it; else it waits with its version. Returns which.

    A gallery that has waited with the version that comes back is taken, too.
    """
    gallery, waiting = run.stored_gallery(), partial.stored_gallery()
    if gallery is None:
        return True
    if gallery.head not in {partial.head_digest(), *partial.compatible_heads()}:
        kept = partial.path / VERSIONS / str(_version(run.path, in_use=True).number)
        RunFolder(kept).write_gallery(gallery)
        return False
    # Written anew: a file that is linked to a version's own must not be written over.
    partial.write_gallery(gallery if waiting is None else gallery.with_rows_of(waiting))
    return True


def _answer_for(partial: RunFolder, folder: Path) -> None:
    """Let a version that comes back answer for galleries of versions whose heads answer for its own.

    Whether two heads can be compared is the same from either side.
    """
    digest = partial.head_digest()
    others = [RunFolder(version.folder) for version in history(folder)]
    mutual = {other.head_digest() for other in others if digest in other.compatible_heads()}
    config = partial.config()
    config["compatible_heads"] = sorted({*partial.compatible_heads(), *mutual} - {digest})
    partial.write_config(config)


def _copy(source: Path, target: Path, left: Collection[str] = ()) -> None:
    """Copy a version's files, as links to the same bytes where the disk can: a run's files are replaced, never changed.

    left: names at the top that stay behind.
    """

    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name in left and Path(folder) == source]

    shutil.copytree(source, target, copy_function=_link, dirs_exist_ok=True, ignore=ignored)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
