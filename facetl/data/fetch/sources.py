"""Named sources of faces, each made into a folder of people on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from facetl.data.fetch import orl, tfds
from facetl.data.manifest import Manifest
from facetl.data.walk import TERMS_FILE
from facetl.errors import DataError
from facetl.io.files import atomic_folder, beside
from facetl.io.json import JsonFields

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Fetched(JsonFields):
    """A folder of people: where it lies, how much it holds, and the terms under which it may be used."""

    name: str
    root: Path
    people: int
    photos: int
    terms: str
    skipped: Mapping[str, int] = field(default_factory=dict)


def fetch(name: str, out: Path | str, *, progress: Progress | None = None) -> Fetched:
    """Make a named source into the folder `out`, or check a local folder and leave it where it is.

    `name` is "sample" (400 faces of 40 people), "lfw", "tfds:NAME" for any data set of TensorFlow Datasets
    with an image and a label, or the path of a folder of people, for which `out` is not used. `progress` is
    called with (photos done, photos in all). The folder appears under its name only when it is complete, with
    the terms of the data in TERMS.txt; a complete one is returned at once, and an interrupted one is gone on
    with.

    Raises DataError for an unknown name, a source out of reach, or an `out` that holds something else.
    """
    out = Path(os.path.abspath(Path(out).expanduser()))
    if name == "sample":
        return _made(name, out, orl.write, progress)
    dataset = "lfw" if name == "lfw" else name.removeprefix("tfds:") if name.startswith("tfds:") else ""
    if dataset:
        return _made(f"tfds:{dataset}", out, partial(tfds.write, dataset), progress)
    folder = Path(name).expanduser()
    if name in ("", "tfds:") or not (folder.exists() or os.sep in name):
        raise DataError(f"a source is sample, lfw, tfds:NAME or a folder of people, got {name!r}. Check the name.")
    return _fetched(name, folder)


def _made(source: str, out: Path, write: Callable[..., str], progress: Progress | None) -> Fetched:
    """Fetch a source into `out`; `write` writes its photos into a folder and returns their terms."""
    if _complete(source, out):
        return _fetched(source, out)
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(
            f"{source} is written into a new folder, but {out} holds something else. Choose another folder."
        )
    # The same for the same source, so that what an interrupted run has written is found again.
    mark = hashlib.blake2b(source.encode(), digest_size=4).hexdigest()
    unfinished = beside(out, f".{mark}.partial")
    try:
        with atomic_folder(out, partial=unfinished, keep=True):
            terms = write(unfinished, progress=progress)
            manifest = Manifest.from_folder(unfinished)
            note = f"Source: {source}, {len(manifest)} photos of {len(manifest.identities)} people.\n\n{terms}"
            (unfinished / TERMS_FILE).write_text(note, encoding="utf-8")
    except OSError as error:
        # Another process may have been faster with the same source.
        if not _complete(source, out):
            raise DataError(
                f"{source} cannot be written to {out}: {error.strerror}. Free space or choose another folder."
            ) from error
        shutil.rmtree(unfinished, ignore_errors=True)
    return _fetched(source, out)


def _complete(source: str, out: Path) -> bool:
    """Return whether `out` holds the whole of a source already."""
    stated = re.match(r"Source: (?P<source>\S+), (?P<photos>[0-9]+) photos of ", _note(out))
    if stated is None or stated["source"] != source:
        return False
    if source == "sample":
        return orl.complete(out)
    return len(Manifest.from_folder(out)) >= int(stated["photos"])


def _note(folder: Path) -> str:
    try:
        return (folder / TERMS_FILE).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _fetched(name: str, folder: Path) -> Fetched:
    manifest = Manifest.from_folder(folder)
    note = _note(folder)
    return Fetched(
        name=name,
        root=manifest.root,
        people=len(manifest.identities),
        photos=len(manifest),
        # Without the line that names what the folder was made from.
        terms=note.partition("\n\n")[2] if note.startswith("Source: ") else note,
        skipped=dict(manifest.skipped),
    )
