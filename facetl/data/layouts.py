"""Layouts of published sets of faces: what a layout is, and the function that makes a Manifest of each set's folder.

docs/datasets.md has more of each, and how to add one.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

from facetl.data.manifest import Manifest, Photo, listed
from facetl.data.pair_lists import is_plain
from facetl.data.walk import IMAGE_SUFFIXES, walk
from facetl.errors import DataError

FOLDERS, AUTO = "folders", "auto"
OTHER_NAME, NOT_LISTED, ABSENT = "other-name", "not-listed", "listed-but-absent"
TWO_SIDES = "on-two-sides"
_VGG_SIDES = ("train", "test")
_CELEBA_SIDES = {"0": "train", "1": "validation", "2": "test"}
_AGEDB = re.compile(r"[0-9]+_(?P<name>.+)_[0-9]{1,3}_[mf]\.jpe?g", re.IGNORECASE)
_LFW_LISTS = ("pairs.txt", "people.txt", "peopleDevTrain.txt")

Read = Callable[[Path], Manifest]


@dataclass(frozen=True)
class DatasetLayout:
    """A set as it lies on disk.

    Attributes:
        name: what `--layout` calls it.
        looks: what is expected below the folder, a phrase.
        source: where the set comes from. terms: under which it may be used.
        read: folder → Manifest; DataError where the folder does not look like it.
        sure: folder → whether nothing but this set looks like that.
    """

    name: str
    looks: str
    source: str
    terms: str
    read: Read
    sure: Callable[[Path], bool]


LAYOUTS: dict[str, DatasetLayout] = {}


def layout(
    name: str, *, looks: str, source: str, terms: str, sure: Callable[[Path], bool] = lambda root: False
) -> Callable[[Read], Read]:
    """Register a reader under a name; see DatasetLayout for the arguments."""

    def register(read: Read) -> Read:
        LAYOUTS[name] = DatasetLayout(name, looks, source, terms, read, sure)
        return read

    return register


def only(manifest: Manifest, pattern: str) -> Manifest:
    """Keep the photos whose path below the root matches; DataError where those are fewer than the others."""
    fits = [re.fullmatch(pattern, path) is not None for path in manifest.relative_paths]
    others = fits.count(False)
    if others > fits.count(True):
        example = manifest.relative_paths[fits.index(False)]
        raise DataError(f"Got {others} photos of another name, as {example}.")
    return _kept(manifest, fits, {OTHER_NAME: others})


def on_list(manifest: Manifest, names: Iterable[str]) -> Manifest:
    """Keep the photos whose path below the root is on a list; without names, all."""
    wanted = set(names)
    if not wanted:
        return manifest
    fits = [path in wanted for path in manifest.relative_paths]
    return _kept(manifest, fits, {NOT_LISTED: fits.count(False), ABSENT: len(wanted) - fits.count(True)})


def _kept(manifest: Manifest, fits: Iterable[bool], skipped: Mapping[str, int]) -> Manifest:
    return listed(manifest.root, compress(manifest.photos, fits), Counter(manifest.skipped) + Counter(skipped))


def lines_of(root: Path, *names: str) -> list[str]:
    """Return the lines, without their ends, of the first of some files that is below a folder; else none."""
    for name in names:
        for path in sorted(root.glob(name)):
            try:
                return path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror}. Check its permissions.") from None
    return []


def read_layout(root: Path | str, name: str = FOLDERS) -> Manifest:
    """List the photos of a folder that has a layout.

    Args:
        name: `folders` (a folder per person), a name in LAYOUTS, or `auto`: the one that the folder is without doubt,
            else `folders`.

    Returns:
        The photos, on the sides that the set's own lists give them. A person on two sides would leak from one to the
        other and is left out, counted as `on-two-sides`.

    Raises DataError for another name, and where the folder does not look like the layout; then it says how that looks,
    where the set comes from and under which terms.
    """
    root = Path(os.path.abspath(Path(root).expanduser()))
    name = recognised(root) if name == AUTO else name
    if name == FOLDERS:
        return Manifest.from_folder(root)
    if name not in LAYOUTS:
        raise DataError(f"layout: expected {', '.join((FOLDERS, AUTO, *LAYOUTS))}, got {name!r}. See docs/datasets.")
    chosen = LAYOUTS[name]
    if not root.is_dir():
        raise DataError(
            f"{root}: expected the folder of {name}, got {'a file' if root.exists() else 'nothing'}. {_whence(chosen)}"
        )
    try:
        found = replace(_on_one_side(chosen.read(root)), layout=name)
    except (DataError, csv.Error) as error:
        raise DataError(f"{root}: {name} is expected to hold {chosen.looks}. {error} {_whence(chosen)}") from error
    if not found.photos:
        raise DataError(
            f"{root}: {name} is expected to hold {chosen.looks}; every photo was passed over. {_whence(chosen)}"
        )
    return found


def recognised(root: Path) -> str:
    """Return the name of the one layout that a folder is without doubt, else `folders`."""
    sure = [one.name for one in LAYOUTS.values() if root.is_dir() and one.sure(root)]
    return sure[0] if len(sure) == 1 else FOLDERS


def _whence(chosen: DatasetLayout) -> str:
    return f"The set comes from {chosen.source}; terms: {chosen.terms}."


def _on_one_side(manifest: Manifest) -> Manifest:
    sides = Counter(identity for identity, _ in {(photo.identity, photo.split) for photo in manifest.photos})
    fits = [sides[photo.identity] == 1 for photo in manifest.photos]
    return _kept(manifest, fits, {TWO_SIDES: fits.count(False)})


def _folders(root: Path, pattern: str) -> bool:
    """Return whether there are folders, and all are named like this."""
    names = [entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")]
    return bool(names) and all(re.fullmatch(pattern, name) for name in names)


def _files(root: Path, pattern: re.Pattern[str]) -> bool:
    """Return whether there are photos in a folder itself, and all are named like this."""
    names = [name for name in os.listdir(root) if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    return bool(names) and all(map(pattern.fullmatch, names))


def _is_lfw(root: Path) -> bool:
    photos = _lfw_images(root).glob("*/*_0001.*")
    return any((root / name).is_file() for name in _LFW_LISTS) and any(
        photo.stem == f"{photo.parent.name}_0001" for photo in photos
    )


def _lfw_images(root: Path) -> Path:
    inside = [root / name for name in ("images", "lfw", "lfw-deepfunneled", "lfw_funneled", "lfw2")]
    return next((folder for folder in inside if folder.is_dir()), root)


@layout(
    "lfw",
    looks="Name/Name_0001.jpg, itself or in images/, lfw/ or lfw-deepfunneled/, with people.txt and pairs.txt beside",
    source="http://vis-www.cs.umass.edu/lfw, or facetl data fetch lfw OUT",
    terms="for research; photos from the news, their rights with the agencies; cite Huang et al., 2007",
    sure=_is_lfw,
)
def lfw(root: Path) -> Manifest:
    """Read Labeled Faces in the Wild; of View 1's lists, where they are there, the sides train and test."""
    found = only(Manifest.from_folder(_lfw_images(root)), r"(?P<name>[^/]+)/(?P=name)_[0-9]{4}\.(jpg|png)")
    sides: dict[str, str] = {}
    expected: dict[str, int] = {}
    for file, side in (("people.txt", ""), ("peopleDevTrain.txt", "train"), ("peopleDevTest.txt", "test")):
        # Lines with a number alone say how many are to come.
        rows = [
            fields
            for line in lines_of(root, file)
            if len(fields := line.split()) == 2 and re.fullmatch(r"[0-9]{1,9}", fields[1])
        ]
        expected |= {name: int(count) for name, count in rows}
        sides |= {name: side for name, _ in rows if side}
    photos = [replace(photo, split=sides.get(photo.path.parent.name, "")) for photo in found.photos]
    held = Counter(photo.path.parent.name for photo in photos)
    absent = sum(max(count - held[name], 0) for name, count in expected.items())
    return listed(found.root, photos, Counter(found.skipped) + Counter({ABSENT: absent}))


@layout(
    "agedb",
    looks="N_Name_age_gender.jpg, as 0_MariaCallas_35_f.jpg, all in one folder, itself or AgeDB/",
    source="https://ibug.doc.ic.ac.uk/resources/agedb/, on request",
    terms="for non-commercial research, by a signed agreement; cite Moschoglou et al., 2017",
    sure=lambda root: _files(root, _AGEDB),
)
def agedb(root: Path) -> Manifest:
    """Read AgeDB: a person's photos over many years, named by the files."""
    root = root / "AgeDB" if (root / "AgeDB").is_dir() else root
    album = walk([root])
    found = [(path, _AGEDB.fullmatch(path.name)) for path in album.paths]
    photos = [Photo(path, match["name"]) for path, match in found if match]
    others = len(found) - len(photos)
    if others > len(photos) or not photos:
        raise DataError(f"Got {len(photos)} photos with such names and {others} others.")
    return listed(root, photos, album.skipped + Counter({OTHER_NAME: others}))


@layout(
    "vggface2",
    looks="train/n000002/0001_01.jpg and test/, with train_list.txt, test_list.txt and identity_meta.csv beside or in "
    "meta/ or data/",
    source="https://github.com/ox-vgg/vgg_face2",
    terms="copies that go about say CC BY-NC 4.0; no longer offered by its authors; cite Cao et al., 2018",
    sure=lambda root: any((root / side).is_dir() and _folders(root / side, r"n[0-9]{6}") for side in _VGG_SIDES),
)
def vggface2(root: Path) -> Manifest:
    """Read VGGFace2 with its official sides, whose people differ; names instead of numbers where the table is there."""
    table = list(csv.reader(lines_of(root, "identity_meta.csv", "*/identity_meta.csv"), skipinitialspace=True))
    names = {row[0]: row[1] for row in table if len(row) > 1 and row[0].startswith("n") and is_plain(row[1])}
    spelt = Counter(names.values())
    photos: list[Photo] = []
    skipped: Counter[str] = Counter()
    for side in _VGG_SIDES:
        if not (root / side).is_dir():
            continue
        found = only(Manifest.from_folder(root / side), r"n[0-9]{6}/[0-9]+_[0-9]+\.jpg")
        found = on_list(found, (line.strip() for line in lines_of(root, f"{side}_list.txt", f"*/{side}_list.txt")))
        for photo in found.photos:
            name = names.get(photo.identity, photo.identity)
            photos.append(replace(photo, identity=name if spelt[name] == 1 else photo.identity, split=side))
        skipped.update(found.skipped)
    if not photos:
        raise DataError("Got neither train/ nor test/ with photos.")
    return listed(root, photos, skipped)


@layout(
    "casia",
    looks="0000045/001.jpg, a folder of seven digits per person, perhaps with a list of the photos to take beside, "
    "*list*.txt or *.lst",
    source="its authors at the Chinese Academy of Sciences (CBSR), on request",
    terms="for non-commercial research, by a signed agreement; photos from IMDb; cite Yi et al., 2014",
    sure=lambda root: _folders(root, r"[0-9]{7}"),
)
def casia(root: Path) -> Manifest:
    """Read CASIA-WebFace; of a list, such as the cleaned ones that go about, what looks like a photo's path counts."""
    found = only(Manifest.from_folder(root), r"[0-9]{7}/[0-9]+\.jpg")
    path = re.compile(r"(?:^|[\s/\\])([0-9]{7})[/\\]([0-9]+\.jpg)(?:\s|$)")
    matches = [path.search(line) for line in lines_of(root, "*list*.txt", "*.lst")]
    return on_list(found, (f"{match[1]}/{match[2]}" for match in matches if match))


@layout(
    "pubfig83",
    looks="Adam Sandler/1.jpg, a folder with the name of each of 83 people and numbered photos in it",
    source="the authors of Pinto et al., 2011; the list of addresses at https://www.cs.columbia.edu/CAVE/databases/pubfig",
    terms="for non-commercial use; photos from the web, their rights with others; cite Kumar et al., 2009",
    sure=lambda root: len(list(root.glob("*/"))) == 83 and _folders(root, r"[^\W\d_]+([ _.'-]+[^\W\d_]+)+\.?"),
)
def pubfig83(root: Path) -> Manifest:
    """Read PubFig83: a folder per person, numbered photos."""
    return only(Manifest.from_folder(root), r"[^/]*[^\W\d_]{2}[^/]*/[0-9]+\.(jpg|jpeg|png)")


@layout(
    "orl",
    looks="s1/1.pgm to s40/10.pgm, a folder sN per person",
    source="AT&T Laboratories Cambridge, or facetl data fetch sample OUT",
    terms="give credit to AT&T Laboratories Cambridge; cite Samaria and Harter, 1994",
    sure=lambda root: _folders(root, r"s[0-9]{1,2}") and any(root.glob("s*/1.pgm")),
)
def orl(root: Path) -> Manifest:
    """Read the ORL Database of Faces."""
    return only(Manifest.from_folder(root), r"s[0-9]{1,2}/[0-9]{1,2}\.pgm")


@layout(
    "celeba",
    looks="000001.jpg and so on, itself or in img_align_celeba/, with identity_CelebA.txt beside or in Anno/, and "
    "list_eval_partition.txt for the sides",
    source="https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, or facetl data fetch tfds:celeb_a OUT",
    terms="for non-commercial research; photos from the web, their rights with others; cite Liu et al., 2015",
    sure=lambda root: any(root.glob("identity_CelebA.txt")) or any(root.glob("*/identity_CelebA.txt")),
)
def celeba(root: Path) -> Manifest:
    """Read CelebA with its official sides; people are numbers."""
    people, sides = (
        dict(fields for line in lines_of(root, file, f"*/{file}") if len(fields := line.split()) == 2)
        for file in ("identity_CelebA.txt", "list_eval_partition.txt")
    )
    if not people:
        raise DataError("Got no identity_CelebA.txt that says who is on which photo.")
    album = walk([root])
    photos = [
        Photo(path, people[path.name], _CELEBA_SIDES.get(sides.get(path.name, ""), ""))
        for path in album.paths
        if path.name in people
    ]
    counts = {NOT_LISTED: len(album.paths) - len(photos), ABSENT: len(people) - len(photos)}
    return listed(root, photos, album.skipped + Counter(counts))
