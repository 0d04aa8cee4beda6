"""The versions of a run: what an update replaced is kept, and any version can be put back.

A version is all that a run folder holds, but for its gallery, which people are enrolled in at any time and which stays
as long as its embeddings can be compared with those of the head in use. The version in use lies in the run folder
itself; every other one in `versions/NUMBER/` below it. A version is written beside the folder and takes its place when
it is complete.

    config.json     version: its number, from 1; compatible_heads: digests of heads whose galleries its head answers
                    for; update: how it came about
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.errors import RunError
from facetl.recognition import run_folder
from facetl.recognition.gallery_file import GALLERY, LOCK, changing, compatible_heads, head_digest, stored_gallery

VERSIONS = "versions"


@dataclass(frozen=True)
class Version:
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

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain types."""
        return {"version": self.number, "folder": str(self.folder), "in_use": self.in_use, "update": self.update}


def history(folder: Path) -> tuple[Version, ...]:
    """Return the versions of a run, oldest first; RunError where it, or one of them, is damaged."""
    recover(folder)
    stored = sorted((folder / VERSIONS).glob(f"*/{run_folder.CONFIG}"))
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
    recover(folder)
    with changing(folder):
        if head_digest(folder) != head:
            raise RunError(f"{folder}: the run was changed by another process meanwhile. Update it again.")
        partial = run_folder.begin(folder)
        write(partial)
        _keep(folder, partial, without=None)
        stayed = _take_gallery(folder, partial)
        run_folder.complete(partial, folder)
    return stayed


def roll_back(folder: Path, to: int | None = None) -> Version:
    """Put an earlier version of a run back in use, by default the one before; the one in use until now is kept.

    Any version can be asked for, a later one, too. RunError for one that is not there.
    """
    versions = history(folder)
    now = next(version for version in versions if version.in_use)
    before = [version.number for version in versions if version.number < now.number]
    wanted = to if to is not None else (before[-1] if before else None)
    chosen = next((version for version in versions if version.number == wanted and not version.in_use), None)
    if chosen is None:
        others = ", ".join(str(version.number) for version in versions if not version.in_use) or "none"
        raise RunError(
            f"{folder}: version {now.number} is in use, and can be exchanged for another one: {others}; got "
            f"{'none before it' if wanted is None else wanted}."
        )
    with changing(folder):
        partial = run_folder.begin(folder)
        _copy(chosen.folder, partial)
        _answer_for(partial, folder)
        _keep(folder, partial, without=chosen.number)
        _take_gallery(folder, partial)
        run_folder.complete(partial, folder)
    return _version(folder, in_use=True)


def recover(folder: Path) -> None:
    """Put a run back whose replacement was cut short between its two renames."""
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists() and (old / run_folder.CONFIG).is_file():
        os.replace(old, folder)


def _version(folder: Path, *, in_use: bool) -> Version:
    config = _config(folder)
    try:
        number, update = int(config.get("version", 1)), config.get("update")
        if update is not None and not isinstance(update, dict):
            raise TypeError("update is no object")
    except (TypeError, ValueError) as error:
        raise RunError(f"{folder}: expected a version of a run ({error}). Restore it from a backup.") from error
    return Version(number, folder, in_use, update)


def _config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / run_folder.CONFIG).read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("config.json is no object")
    except (OSError, ValueError) as error:
        raise RunError(f"{folder}: expected a complete run folder ({error}). Run facetl train.") from error
    return config


def _keep(folder: Path, partial: Path, *, without: int | None) -> None:
    """Bring all versions along into the folder that will replace the run's, the one in use among them."""
    (partial / VERSIONS).mkdir(mode=0o700)
    for version in history(folder):
        if version.number != without:
            # What people are enrolled in goes its own way: see `_take_gallery`.
            left = (VERSIONS, GALLERY, LOCK) if version.in_use else ()
            _copy(version.folder, partial / VERSIONS / str(version.number), left)


def _take_gallery(folder: Path, partial: Path) -> bool:
    """Bring the gallery along where the new head answers for it; else it waits with its version. Returns which.

    A gallery that has waited with the version that comes back is taken, too.
    """
    gallery, waiting = stored_gallery(folder), stored_gallery(partial)
    if gallery is None:
        return True
    if gallery.head not in {head_digest(partial), *compatible_heads(partial)}:
        kept = partial / VERSIONS / str(_version(folder, in_use=True).number)
        gallery.write(kept)
        return False
    # Written anew: a file that is linked to a version's own must not be written over.
    (gallery if waiting is None else gallery.with_rows_of(waiting)).write(partial)
    return True


def _answer_for(partial: Path, folder: Path) -> None:
    """Let a version that comes back answer for galleries of versions whose heads answer for its own.

    Whether two heads can be compared is the same from either side.
    """
    digest = head_digest(partial)
    mutual = {head_digest(version.folder) for version in history(folder) if digest in compatible_heads(version.folder)}
    config = _config(partial)
    config["compatible_heads"] = sorted({*compatible_heads(partial), *mutual} - {digest})
    path = partial / run_folder.CONFIG
    # The file is linked to the version's own, which must stay as it is.
    path.unlink()
    run_folder.write_json(path, config)


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
