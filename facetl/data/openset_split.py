"""An open-set split: people who are known by some photos, and strangers who are not known at all."""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.data.manifest import Manifest, Photo
from facetl.data.walk import TERMS_FILE
from facetl.errors import DataError
from facetl.io.files import atomic_folder, beside, csv_bytes, write_atomic
from facetl.io.json import write_json

LISTING = "openset.csv"
SUMMARY = "openset.json"
COLUMNS = ("Photo", "Person", "Part")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OpenSetSplit:
    """Photos in three parts, each in the order of the manifest.

    gallery and probe hold different photos of the known people, unknown holds all photos of the strangers.
    left_out counts people who are neither: those with one photo, or more than were asked for.
    """

    root: Path
    gallery: tuple[Photo, ...]
    probe: tuple[Photo, ...]
    unknown: tuple[Photo, ...]
    left_out: int
    seed: int
    skipped: Mapping[str, int]

    @property
    def known(self) -> tuple[str, ...]:
        """The people of the gallery, sorted."""
        return tuple(sorted({photo.identity for photo in self.gallery}))

    @property
    def strangers(self) -> tuple[str, ...]:
        """The people of whom the gallery has no photo, sorted."""
        return tuple(sorted({photo.identity for photo in self.unknown}))

    def to_json(self) -> dict[str, object]:
        """Return the sizes, the seed and the people of each side as plain types."""
        return {
            "known": len(self.known),
            "strangers": len(self.strangers),
            "gallery_photos": len(self.gallery),
            "probe_photos": len(self.probe),
            "unknown_photos": len(self.unknown),
            "left_out_people": self.left_out,
            "seed": self.seed,
            "skipped": dict(self.skipped),
            "known_people": list(self.known),
            "stranger_people": list(self.strangers),
        }


def split_openset(
    manifest: Manifest,
    *,
    strangers: int | None = None,
    known: int | None = None,
    gallery_photos: int = 5,
    seed: int,
) -> OpenSetSplit:
    """Draw strangers and known people by lot, and the known ones' gallery photos.

    A known person gives `gallery_photos` to the gallery, or all but one where there are no more, and the rest to
    the probes. `strangers` None takes a quarter of all people; `known` None takes everyone else with two photos
    or more. The lot depends on the seed and the photos' names alone.

    Raises DataError where there are too few people.
    """
    rng = np.random.default_rng(seed)
    counts = manifest.counts()
    strangers = max(1, round(len(counts) / 4)) if strangers is None else strangers
    if gallery_photos < 1 or strangers < 0 or (known is not None and known < 1):
        raise DataError(
            "an open-set split needs 1 gallery photo or more a person, 1 known person or more and no negative number "
            f"of strangers, got {gallery_photos}, {known} and {strangers}."
        )
    lot = [manifest.identities[place] for place in rng.permutation(len(counts)).tolist()]
    if known is None:
        unknown = set(lot[:strangers])
        chosen = {name for name in lot[strangers:] if counts[name] > 1}
    else:  # known people are picked first: only they must have two photos
        chosen = set([name for name in lot if counts[name] > 1][:known])
        unknown = set([name for name in lot if name not in chosen][:strangers])
    if len(chosen) < (known or 1) or len(unknown) < strangers:
        raise DataError(
            f"{known or 1} known people or more, with 2 photos each, and {strangers} strangers are needed, got "
            f"{len(counts)} people, {sum(count > 1 for count in counts.values())} of them with 2 photos or more. "
            "Ask for fewer, or add photos."
        )
    in_gallery = _gallery(manifest, chosen, gallery_photos, rng)
    known_photos = [photo for photo in manifest.photos if photo.identity in chosen]
    return OpenSetSplit(
        root=manifest.root,
        gallery=tuple(photo for photo in known_photos if photo.path in in_gallery),
        probe=tuple(photo for photo in known_photos if photo.path not in in_gallery),
        unknown=tuple(photo for photo in manifest.photos if photo.identity in unknown),
        left_out=len(counts) - len(chosen) - len(unknown),
        seed=seed,
        skipped=manifest.skipped,
    )


def write_openset(
    split: OpenSetSplit, out: Path | str, *, link: bool = False, progress: Progress | None = None
) -> Path:
    """Write OUT/gallery/Person/... and OUT/probe/Person/..., strangers in probe alone, with openset.csv and .json.

    Photos are copied, or with `link` stand there as symbolic links. The folder appears when it is complete;
    `progress` is called with (photos done, photos in all). Returns its absolute path.
    Raises DataError where `out` holds something already, lies inside the folder of people, or cannot be written.
    """
    out = Path(os.path.abspath(Path(out).expanduser()))
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise DataError(f"an open-set split is written into a new folder, but {out} exists. Choose another folder.")
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(split.root)):
        raise DataError(f"{out} lies inside the folder of people and would be taken for one. Choose another folder.")
    try:
        with atomic_folder(out, partial=beside(out, f".{os.getpid()}.partial")) as partial:
            _write_photos(split, partial, link=link, progress=progress)
            rows = ((name, photo.identity, part) for photo, name, part in _placed(split))
            write_atomic(partial / LISTING, csv_bytes([COLUMNS, *rows]))
            write_json(partial / SUMMARY, split.to_json())
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error.strerror}. Free space or choose another folder.") from error
    return out


def _gallery(manifest: Manifest, chosen: set[str], at_most: int, rng: np.random.Generator) -> set[Path]:
    """Choose the photos by which the known people are known."""
    own: defaultdict[str, list[Path]] = defaultdict(list)
    for photo in manifest.photos:
        own[photo.identity].append(photo.path)
    shown = set()
    for name in sorted(chosen):
        lot = rng.permutation(len(own[name])).tolist()
        shown |= {own[name][place] for place in lot[: min(at_most, len(lot) - 1)]}
    return shown


def _placed(split: OpenSetSplit) -> Iterator[tuple[Photo, str, str]]:
    """Give each photo with its path below the new folder and its part."""
    for part, photos in (("gallery", split.gallery), ("probe", split.probe), ("unknown", split.unknown)):
        side = "gallery" if part == "gallery" else "probe"
        for photo in photos:
            yield photo, f"{side}/{photo.path.relative_to(split.root).as_posix()}", part


def _write_photos(split: OpenSetSplit, folder: Path, *, link: bool, progress: Progress | None) -> None:
    (folder / "gallery").mkdir()
    (folder / "probe").mkdir()
    placed = list(_placed(split))
    for done, (photo, name, _) in enumerate(placed, start=1):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            target.symlink_to(os.path.realpath(photo.path))
        else:
            shutil.copy2(photo.path, target)
        if progress is not None:
            progress(done, len(placed))
    if (split.root / TERMS_FILE).is_file():
        shutil.copy2(split.root / TERMS_FILE, folder / TERMS_FILE)
