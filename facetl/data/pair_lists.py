"""Lists of photos that others have made, pairs above all: read exactly, or refused with the file's name and line."""

from __future__ import annotations

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from facetl.errors import DataError
from facetl.io.text import printable, unescaped

SEE = "See docs/protocols."
_SHOWN = 60  # characters of what was found that an error repeats
_BREAKING = ("Cc", "Zl", "Zp")  # control characters and line ends: they would break a path, a terminal or a line
_LFW_SUFFIXES = (".jpg", ".png", ".jpeg")
_PAIR_COLUMNS = ("first", "second", "same")
_PERSON_COLUMNS = ("first_person", "second_person")
_GROUP_COLUMNS = ("person", "group")
_TRUTHS = {
    **dict.fromkeys(("1", "true", "yes", "same"), True),
    **dict.fromkeys(("0", "false", "no", "different"), False),
}


@dataclass(frozen=True)
class Pair:
    """Two photos, each a (name, number from 1), whether they show the same person, and the fold from 0."""

    first: tuple[str, int]
    second: tuple[str, int]
    same: bool
    fold: int

    @property
    def people(self) -> tuple[str, str]:
        """The names of who is on them."""
        return self.first[0], self.second[0]


@dataclass(frozen=True)
class PathPair:
    """Two photos by their paths below a folder, who is on them, whether that is one person, the fold from 0."""

    first: str
    second: str
    same: bool
    fold: int
    people: tuple[str, str]


P = TypeVar("P", Pair, PathPair)


@dataclass(frozen=True)
class _Folds(Generic[P]):
    folds: int
    pairs: tuple[P, ...]

    def fold(self, fold: int) -> tuple[P, ...]:
        """Return the pairs of one fold, in the order of the file."""
        if not 0 <= fold < self.folds:
            raise DataError(f"fold must be 0 to {self.folds - 1}, got {fold}.")
        return tuple(pair for pair in self.pairs if pair.fold == fold)

    def people(self, fold: int) -> frozenset[str]:
        """Return the names of everyone in a fold: those a model tested on it must never have seen."""
        return frozenset(name for pair in self.fold(fold) for name in pair.people)


class PairsProtocol(_Folds[Pair]):
    """Pairs in folds; no person of a published fold appears in another, which `people` lets one check."""


class PathPairs(_Folds[PathPair]):
    """Pairs of paths in folds; whether folds share people is up to the list, and `people` lets one check."""


@dataclass(frozen=True)
class FoundPair:
    """A pair of either kind of list whose two photos exist; people's names are NFC, as in a manifest."""

    first: Path
    second: Path
    same: bool
    fold: int
    first_person: str
    second_person: str


def read_pairs(path: Path | str) -> PairsProtocol | PathPairs:
    """Read pairs in either form: LFW's, which begins with numbers, or a CSV, which begins with its columns.

    Raises DataError with the file's name and the line when anything else is found.
    """
    path = Path(path)
    heading = _lines(path)[0]
    if heading.split() and all(field.isdecimal() for field in heading.split()):
        return read_lfw_pairs(path)
    if path.suffix.lower() == ".csv" or "," in heading:
        return read_path_pairs(path)
    columns = ",".join(_PAIR_COLUMNS)
    raise wrong_at(path, 1, f'expected "FOLDS N", "N" or the columns {columns}, got {shown(heading)}.')


def read_path_pairs(path: Path | str) -> PathPairs:
    """Read a CSV with a header that names first, second and same; other columns are passed over.

    first, second: paths below the folder of photos, with / (or, where there is none, \\) between folders. same:
    1 or 0, true or false, yes or no, same or different. fold, optional: a whole number; one fold where there is
    no such column. first_person, second_person, optional: who is on them; else the first folder of each path.

    Raises DataError with the file's name and the line for anything else, for a pair that is listed twice, and
    where `same` contradicts the people.
    """
    path = Path(path)
    pairs: list[PathPair] = []
    seen: dict[frozenset[str], int] = {}
    for line, cells in records(path, _PAIR_COLUMNS, optional=("fold", *_PERSON_COLUMNS)):
        pair = _path_pair(path, line, cells)
        before = seen.setdefault(frozenset((pair.first, pair.second)), line)
        if before != line:
            raise wrong_at(path, line, f"expected each pair once, got that of line {before} again.")
        pairs.append(pair)
    # Folds count from 0, from 1, or from whatever the list likes.
    fold_of = {number: fold for fold, number in enumerate(sorted({pair.fold for pair in pairs}))}
    return PathPairs(len(fold_of), tuple(replace(pair, fold=fold_of[pair.fold]) for pair in pairs))


def read_groups(path: Path | str) -> dict[str, str]:
    """Read a CSV with the columns person and group into person → group, names NFC; other columns are passed over.

    Raises DataError with the file's name and the line for an empty name and for a person who is listed twice.
    """
    path = Path(path)
    groups: dict[str, str] = {}
    lines: dict[str, int] = {}
    for line, cells in records(path, _GROUP_COLUMNS):
        person, group = (name_in(path, line, column, cells[column]) for column in _GROUP_COLUMNS)
        if person in groups:
            raise wrong_at(path, line, f"expected each person once, got {shown(person)} of line {lines[person]} again.")
        groups[person], lines[person] = group, line
    return groups


def find_pairs(protocol: PairsProtocol | PathPairs, root: Path | str) -> tuple[tuple[FoundPair, ...], int]:
    """Find the photos of pairs below a folder: the pairs of which both exist, and how many others there are.

    Raises DataError, with the first photo that is not there, when not a single pair is found.
    """
    found: list[FoundPair] = []
    missing: list[DataError] = []
    for pair in protocol.pairs:
        try:
            if isinstance(pair, Pair):
                photos = lfw_photo(root, *pair.first), lfw_photo(root, *pair.second)
            else:
                photos = listed_photo(root, pair.first), listed_photo(root, pair.second)
        except DataError as error:
            missing.append(error)
            continue
        people = (unicodedata.normalize("NFC", name) for name in pair.people)
        found.append(FoundPair(*photos, pair.same, pair.fold, *people))
    if not found:
        raise missing[0]
    return tuple(found), len(missing)


def shared_people(protocol: PairsProtocol | PathPairs) -> tuple[str, ...]:
    """Return the names, sorted and NFC, of everyone in several folds: a threshold from the others has seen them."""
    folds = [{unicodedata.normalize("NFC", name) for name in protocol.people(k)} for k in range(protocol.folds)]
    counts = Counter(name for people in folds for name in people)
    return tuple(sorted(name for name, count in counts.items() if count > 1))


def read_lfw_pairs(path: Path | str) -> PairsProtocol:
    """Read a pairs file in the form of Labeled Faces in the Wild.

    The first line is "FOLDS<tab>N" (View 2) or "N" (View 1, one fold); then for each fold N lines
    "NAME<tab>I<tab>J" of the same person and N lines "NAME<tab>I<tab>NAME<tab>J" of two people.
    Windows line ends, a byte-order mark and blank lines at the end are tolerated.

    Raises DataError with the file's name and the line when anything else is found.
    See http://vis-www.cs.umass.edu/lfw/README.txt.
    """
    path = Path(path)
    lines = _lines(path)
    folds, each = _header(path, lines[0])
    expected = folds * each * 2
    if len(lines) - 1 < expected:
        raise wrong_at(path, len(lines) + 1, f"expected {expected} pairs ({folds} x 2 x {each}), got {len(lines) - 1}.")
    pairs = []
    for index, line in enumerate(lines[1:]):
        if index == expected:
            raise wrong_at(path, index + 2, f"expected the file to end after {expected} pairs, got {line!r}.")
        pairs.append(_pair(path, index + 2, line, fold=index // (2 * each)))
    same = Counter(pair.fold for pair in pairs if pair.same)
    for fold in range(folds):
        if same[fold] != each:
            first = 2 + fold * 2 * each
            text = f"expected {each} same-person pairs in the fold that starts here, got {same[fold]}."
            raise wrong_at(path, first, text)
    return PairsProtocol(folds=folds, pairs=tuple(pairs))


def lfw_photo(root: Path | str, name: str, number: int) -> Path:
    """Find ROOT/Name/Name_0001.jpg (or .png, .jpeg) for a name and a number from 1.

    Names composed and decomposed (NFC, NFD) find each other. Raises DataError when there is no such file.
    """
    for spelling in _spellings(name):
        for suffix in _LFW_SUFFIXES:
            candidate = Path(root, spelling, f"{spelling}_{number:04d}{suffix}")
            if os.path.isfile(candidate):  # unlike Path.is_file, False for a name that is too long
                return candidate
    raise DataError(
        f"a pairs file names photo {number} of {name}, but {Path(root, name)} holds no {name}_{number:04d} "
        f"({', '.join(_LFW_SUFFIXES)}). Give the folder of images that the pairs were made for."
    )


def listed_photo(root: Path | str, name: str) -> Path:
    """Find ROOT/name for a path out of a list, escaped as by `printable` or not; NFC and NFD find each other.

    Raises DataError when the path leads out of ROOT, or there is no such file.
    """
    folder = Path(root)
    if not _stays_inside(name):
        raise DataError(f"a list names photos by paths below a folder, got {shown(name)}. {SEE}")
    meant = unescaped(name)
    # Nothing else than what is escaped on the way out: ".." could be escaped, too.
    spellings = [*_spellings(name), *(_spellings(meant) if printable(meant) == name else ())]
    for spelling in spellings:
        if os.path.isfile(folder / spelling):
            return folder / spelling
    raise DataError(
        f"a list names the photo {shown(name)}, which {folder} does not hold. "
        "Give the folder of images that the list was made for."
    )


def _spellings(name: str) -> Iterable[str]:
    return dict.fromkeys((name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)))


def _path_pair(path: Path, line: int, cells: dict[str, str]) -> PathPair:
    first, second = (relative_path(path, line, cells[column]) for column in _PAIR_COLUMNS[:2])
    if first == second:
        raise wrong_at(path, line, f"expected two photos, got {shown(first)} twice.")
    same = _TRUTHS.get(cells["same"].casefold())
    if same is None:
        raise wrong_at(path, line, f"expected same to be 1 or 0, got {shown(cells['same'])}.")
    fold = cells.get("fold", "0")
    if not (fold.isascii() and fold.isdecimal() and len(fold) < 10):
        raise wrong_at(path, line, f"expected fold to be a whole number, got {shown(fold)}.")
    people = []
    for column, photo in zip(_PERSON_COLUMNS, (first, second), strict=True):
        if column not in cells and "/" not in photo:
            text = f"expected a folder that names the person, or the column {column}, got {shown(photo)}."
            raise wrong_at(path, line, text)
        people.append(name_in(path, line, column, cells.get(column, photo.partition("/")[0])))
    if same != (people[0] == people[1]):
        text = f"expected same to be {int(not same)} for {shown(people[0])} and {shown(people[1])}, got {int(same)}."
        raise wrong_at(path, line, f"{text} Columns {', '.join(_PERSON_COLUMNS)} say who is who, where folders do not.")
    return PathPair(first, second, same, int(fold), (people[0], people[1]))


def relative_path(path: Path, line: int, cell: str) -> str:
    """Return the path in a cell, with / between folders; DataError for one that leads out of the folder of photos."""
    name = cell if "/" in cell else cell.replace("\\", "/")
    if not _stays_inside(name):
        raise wrong_at(path, line, f"expected a path below the folder of photos, got {shown(cell)}.")
    return PurePosixPath(name).as_posix()


def _stays_inside(name: str) -> bool:
    """Return whether a path is relative, climbs nowhere and names something: a list must not reach other files."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not name.startswith("/") and ".." not in parts and is_plain(name)


def _lines(path: Path) -> list[str]:
    # Not str.splitlines, which would also break at characters that may stand in a name.
    return [line.strip() for line in re.split(r"\r\n?|\n", text_of(path).rstrip())]


def _header(path: Path, line: str) -> tuple[int, int]:
    fields = line.split()
    numbers = [number for field in fields if (number := _number(field))]
    if len(fields) not in (1, 2) or len(numbers) != len(fields):
        raise wrong_at(path, 1, f'expected "FOLDS N" or "N", got {line!r}.')
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (1, numbers[0])


def _pair(path: Path, at: int, line: str, *, fold: int) -> Pair:
    # Tabs where there are any, since a name may contain a space.
    fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
    if len(fields) not in (3, 4):
        raise wrong_at(path, at, f"expected 3 or 4 fields, got {len(fields)}.")
    name, number, *other = fields
    same = len(other) == 1
    first, second = _photo(path, at, name, number), _photo(path, at, name if same else other[0], other[-1])
    pair = Pair(first, second, same, fold)
    if pair.same and pair.first == pair.second:
        raise wrong_at(path, at, f"expected two photos, got photo {pair.first[1]} of {pair.first[0]} twice.")
    if not pair.same and len(set(pair.people)) == 1:
        raise wrong_at(path, at, f"expected two people where there are 4 fields, got {pair.first[0]} twice.")
    return pair


def _photo(path: Path, at: int, name: str, number: str) -> tuple[str, int]:
    parsed = _number(number)
    if parsed is None:
        raise wrong_at(path, at, f"expected a photo number from 1, got {number!r}.")
    # A name becomes part of a path; a published list never needs to leave the folder of images.
    if name in ("", ".", "..") or any(mark in name for mark in {"/", "\\", "\0", os.sep}):
        raise wrong_at(path, at, f"expected a person's name, got {name!r}.")
    return name, parsed


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 and int(text) > 0 else None


def records(
    path: Path, columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Give the line and the named cells of each record, stripped; blank lines and other columns are passed over.

    The header names the columns, in any order and case. Raises DataError for a file that cannot be read, a column
    that is missing or named twice, a record of another length, broken quotes, and a file without records.
    """
    reader = csv.reader(io.StringIO(text_of(path), newline=""), strict=True)
    try:
        header = [name.strip().casefold() for name in next(reader, [])]
        wrong = [name for name in columns if header.count(name) != 1]
        wrong += [name for name in optional if header.count(name) > 1]
        if wrong:
            text = f"expected a header with one column {wrong[0]} ({','.join(columns)}), got {shown(','.join(header))}."
            raise wrong_at(path, 1, text)
        place = {name: header.index(name) for name in (*columns, *optional) if name in header}
        empty = True
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise wrong_at(path, reader.line_num, f"expected {len(header)} fields, got {len(cells)}.")
            empty = False
            yield reader.line_num, {name: cells[at].strip() for name, at in place.items()}
    except csv.Error as error:
        raise wrong_at(path, reader.line_num, f"expected comma-separated values, but {error}.") from None
    if empty:
        raise wrong_at(path, reader.line_num + 1, f"expected {','.join(columns)}, got the end of the file.")


def name_in(path: Path, line: int, column: str, cell: str) -> str:
    """Return a cell that names a person or a group, NFC; DataError for one that is empty or not plain."""
    if not cell or not is_plain(cell):
        raise wrong_at(path, line, f"expected {column} to be a name, got {shown(cell)}.")
    return unicodedata.normalize("NFC", cell)


def is_plain(text: str) -> bool:
    """Return whether a text has no control characters and no line ends; joiners, as some scripts need, are welcome."""
    return not any(unicodedata.category(character) in _BREAKING for character in text)


def shown(text: str) -> str:
    """Quote what was found, on one line and not too long."""
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")


def text_of(path: Path) -> str:
    """Read a UTF-8 file, its line ends as they are; DataError where that cannot be done."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist. Give the path of a pairs.txt or a CSV. {SEE}") from None
    except IsADirectoryError:
        raise DataError(
            f"a file expected, got the folder {path}. Give the path of a pairs.txt or a CSV. {SEE}"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name}: expected UTF-8 text, got byte {error.object[error.start]:#x}. {SEE}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}. {SEE}") from None


def wrong_at(path: Path, line: int, text: str) -> DataError:
    """Make the error that names the file and the line."""
    return DataError(f"{path.name}, line {line}: {text} {SEE}")
