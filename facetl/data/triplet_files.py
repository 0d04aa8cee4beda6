"""Triplets in a file, `Anchor,Positive,Negative`: read exactly or not at all, and found again among the photos."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np

from facetl.data.manifest import Manifest, Photo
from facetl.data.pair_lists import listed_photo, relative_path
from facetl.data.table_files import SEE, is_plain, records, shown, wrong_at
from facetl.data.triplets import Ints, Triplet
from facetl.errors import DataError
from facetl.io.files import csv_bytes, write_atomic

COLUMNS = ("Anchor", "Positive", "Negative")


def write_triplets(path: Path | str, triplets: Sequence[Triplet]) -> None:
    """Write a CSV with the columns Anchor, Positive and Negative; the file appears when it is complete.

    Raises DataError where something else lies under that name already (a test set is not written over), and for a
    photo whose name is no UTF-8 or breaks a line.
    """
    write_table(path, COLUMNS, [tuple(triplet) for triplet in triplets], what="triplets")


def write_table(path: Path | str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, what: str) -> None:
    """Write a CSV of photos' names and other text into a new file; see `write_triplets`. what: its rows, for errors."""
    path = Path(path)
    odd = next((name for name in chain.from_iterable(rows) if not _can_be_listed(name)), None)
    if odd is not None:
        raise DataError(f"a list holds photos' names as plain UTF-8 text, got {odd!a}. Rename the photo.")
    content = csv_bytes([columns, *rows])
    if os.path.lexists(path):
        if path.is_file() and path.read_bytes() == content:
            return
        raise DataError(f"{what} are written into a new file, but {path} exists. Choose another name.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}. Choose another place.") from error


def read_triplets(path: Path | str) -> list[Triplet]:
    """Read a CSV with a header that names Anchor, Positive and Negative; other columns are passed over.

    Paths are relative to the folder of people, with / or, where there is none, with \\ between folders. A
    byte-order mark, Windows line ends, blank lines and capitals in the header do not matter.

    Raises DataError with the file's name and the line when anything else is found.
    """
    path = Path(path)
    columns = [column.casefold() for column in COLUMNS]
    return [_triplet(path, line, [cells[column] for column in columns]) for line, cells in records(path, columns)]


def triplet_manifest(root: Path | str, triplets: Sequence[Triplet]) -> Manifest:
    """List the photos that triplets name, each once, whatever else lies in the folder.

    A person is the folder right below the deepest one that all paths share; a photo in that one itself is
    nobody's (identity ""). Raises DataError for a photo that does not exist.
    """
    root = Path(os.path.abspath(Path(root).expanduser()))
    named = sorted(set(chain.from_iterable(triplets)))
    shared = len(PurePosixPath(os.path.commonpath([str(PurePosixPath("/", name).parent) for name in named])).parts) - 1
    photos = []
    for name in named:
        folders = PurePosixPath(name).parts[shared:-1]
        person = unicodedata.normalize("NFC", folders[0]) if folders else ""
        photos.append(Photo(path=listed_photo(root, name), identity=person))
    photos.sort(key=lambda photo: (photo.identity, photo.path.relative_to(root).as_posix()))
    return Manifest(root=root, photos=tuple(photos))


def triplet_rows(manifest: Manifest, triplets: Sequence[Triplet]) -> Ints:
    """Return where each triplet's photos stand in a manifest: int64 [triplets, 3], anchor, positive, negative.

    Raises DataError for a photo that is not there, and where people are known and a row does not show two
    photos of one person and one of another.
    """
    place = {
        unicodedata.normalize("NFC", path.relative_to(manifest.root).as_posix()): row
        for row, path in enumerate(manifest.paths)
    }
    rows = np.empty((len(triplets), 3), np.int64)
    for number, triplet in enumerate(triplets):
        for column, name in enumerate(triplet):
            row = place.get(unicodedata.normalize("NFC", name))
            if row is None:
                raise DataError(
                    f"triplet {number + 1} names {shown(name)}, which is not among the {len(manifest):,} photos "
                    f"that can be read in {manifest.root}. Mend the photo, or leave the triplet out."
                )
            rows[number, column] = row
        anchor, positive, negative = (manifest.photos[row].identity for row in rows[number].tolist())
        if anchor and negative and (anchor != positive or anchor == negative):
            raise DataError(
                f"triplet {number + 1} must show one person twice, then another, got {anchor}, {positive}, {negative}. "
                f"{SEE}"
            )
    return rows


def triplet_people(manifest: Manifest, rows: Ints) -> Ints | None:
    """Return who stands against whom: int64 [triplets, 2], the anchor's and the negative's person.

    None where a photo lies in no person's folder, so that nobody knows who it shows.
    """
    if "" in manifest.identities:
        return None
    return manifest.labels[rows[:, [0, 2]]].astype(np.int64)


def _triplet(path: Path, line: int, cells: Sequence[str]) -> Triplet:
    triplet = Triplet(*(relative_path(path, line, cell) for cell in cells))
    if len(set(triplet)) < 3:
        raise wrong_at(path, line, f"expected three photos, got {', '.join(map(shown, triplet))}.")
    return triplet


def _can_be_listed(name: str) -> bool:
    """Tell whether a list with this name can be read again: a lone surrogate is a byte that is no text."""
    with suppress(UnicodeEncodeError):
        return is_plain(name) and bool(name.encode("utf-8"))
    return False
