"""The transfer report: which tap, grid and crop of a frozen net tell the people of a folder apart, and at what cost."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.keras_applications import Tap, tap_candidates
from facetl.backbones.photo_net import PhotoNet, maps_of
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings.fill import with_faces
from facetl.errors import DataError
from facetl.faces.alignment import read_cropped
from facetl.images.decode import Decode, ReadPhoto, read_batches
from facetl.io.files import digests
from facetl.io.json import JsonFields
from facetl.metrics.baselines import ProbeScore, gain_stderr, probe

Progress = Callable[[int, int], None]

CROPS = (0.4, 0.5, 0.7, 1.0)
PEOPLE = 150
_PHOTOS_EACH = 4
_BATCH = 32
_TIMED = 8  # photos, three times each: the best of the three, since other programs only ever add


@dataclass(frozen=True)
class TapRow(JsonFields):
    """One feature: where it is tapped, how well PCA→LDA tells people apart by it, and its cost alone.

    `ms_per_photo` is on this machine, of the net from pixels to the feature; ratios between rows are what holds.
    """

    tap: str
    grid: int
    crop: float
    dim: int
    ms_per_photo: float
    score: ProbeScore

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, the score's among them."""
        row = super().to_json()
        return row | row.pop("score")


@dataclass(frozen=True)
class TransferReport:
    """The scores of every tap, grid and crop of an extractor on a part of a folder.

    Attributes:
        spec: the extractor with the picked tap, grid and crop.
        rows: every feature that was measured, by crop, in the net's order.
        picked: the cheapest row that the best one does not beat by more than a standard error in AUC. Its score is
            the best of many on these people, so a little flattering: measure on others.
        sweep: the picked tap and grid in each crop, narrowest first.
        hair_and_background: a sentence on how much of the accuracy comes from around the face; "" for one crop.
        people, photos: that were looked at; skipped: reason → photos, of those that were to be.
    """

    spec: ExtractorSpec
    rows: tuple[TapRow, ...]
    picked: TapRow
    sweep: tuple[TapRow, ...]
    hair_and_background: str
    people: int
    photos: int
    skipped: Mapping[str, int]
    seed: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain types."""
        return {
            "extractor": self.spec.name,
            "align": self.spec.align,
            "mirror": self.spec.mirror,
            "people": self.people,
            "photos": self.photos,
            "skipped": dict(self.skipped),
            "seed": self.seed,
            "rows": [row.to_json() for row in self.rows],
            "picked": self.picked.to_json(),
            "accuracy_by_crop": [
                {"crop": row.crop, "accuracy": row.score.accuracy, "accuracy_stderr": row.score.accuracy_stderr}
                for row in self.sweep
            ],
            "hair_and_background": self.hair_and_background,
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class _Sample:
    """Photos that can be read, each content once: sha256 of each, its path and its person."""

    waiting: dict[str, list[Path]]
    person: dict[str, str]
    decode: Decode


def transfer_report(
    manifest: Manifest,
    spec: ExtractorSpec,
    weights: Weights,
    *,
    crops: Sequence[float] = CROPS,
    people: int = PEOPLE,
    seed: int,
    make_net: Callable[[ExtractorSpec], PhotoNet],
    cache: Path,
    taps: Sequence[Tap] | None = None,
    on_progress: Progress | None = None,
    on_faces: Progress | None = None,
) -> TransferReport:
    """Measure every candidate tap and grid in every crop, on at most `people` people with 2 to 4 photos each.

    Args:
        spec: net, alignment and mirror image; its tap, grid and crops are what is looked for.
        weights: what `make_net` builds its nets with.
        cache: folder where faces found for an aligning `spec` are kept; features are not.
        taps: (tap, grid) to compare, by default those of `tap_candidates`; the one output where the net has but one.
        on_progress, on_faces: called with photos done and photos in all, of features and of finding faces.

    One forward pass a crop gives all taps. Raises DataError for too few people, WeightsError.
    """
    began = time.perf_counter()
    if people < 4:
        raise DataError(f"A transfer report needs 4 people with 2 photos each. Received: --people {people}.")
    skipped: Counter[str] = Counter()
    sample = _sample(manifest.select(_some(manifest, people, seed)), spec, cache, skipped, on_faces)
    if taps is None:
        taps = tap_candidates(spec.name) if spec.family.taps_layers else [(spec.tap, spec.grid)]
    crops = sorted({*crops}) if not spec.family.finds_faces else [1.0]
    timed: list[NDArray[np.uint8]] = []

    def note(batch: Sequence[ReadPhoto]) -> None:
        skipped.update(photo.reason for photo in batch if photo.image is None)
        timed.extend([photo.image for photo in batch if photo.image is not None][: _TIMED - len(timed)])

    scored: list[tuple[Tap, float, int, ProbeScore]] = []
    labels: NDArray[np.str_] = np.array([], str)
    for number, crop in enumerate(crops):
        net = make_net(_tapped(spec, taps, (crop,)))
        shas, joined = _extracted(net, sample, number, len(crops), on_progress, None if number else note)
        if not shas:
            raise DataError(f"{manifest.root}: expected photos that can be read, got none ({dict(skipped)}).")
        labels = np.array([sample.person[sha] for sha in shas])
        for tap, columns in zip(taps, _columns(net, taps), strict=True):
            scored.append((tap, crop, columns.stop - columns.start, probe(joined[:, columns], labels, seed=seed)))
    cost = {tap: _cost(make_net(_tapped(spec, [(tap, grid)], (crops[-1],))), timed) for tap, grid in dict(taps).items()}
    rows = tuple(TapRow(*tap, crop, dim, cost[tap[0]], score) for tap, crop, dim, score in scored)
    picked = pick(rows)
    sweep = tuple(row for row in rows if (row.tap, row.grid) == (picked.tap, picked.grid))
    return TransferReport(
        spec=replace(spec, tap=picked.tap, grid=picked.grid, crops=(picked.crop,)),
        rows=rows,
        picked=picked,
        sweep=sweep,
        hair_and_background=_around_the_face(sweep),
        people=len(np.unique(labels)),
        photos=len(labels),
        skipped=dict(sorted(skipped.items())),
        seed=seed,
        seconds=time.perf_counter() - began,
    )


def _extracted(
    net: PhotoNet,
    sample: _Sample,
    number: int,
    crops: int,
    on_progress: Progress | None,
    on_batch: Callable[[Sequence[ReadPhoto]], None] | None,
) -> tuple[list[str], NDArray[np.float16]]:
    """Return sha256 and features, [photos, dim], of the photos that can be read, for crop `number` of `crops`."""
    shas: list[str] = []
    features = [np.zeros((0, net.dim), np.float16)]
    with closing(read_batches(sample.waiting, sample.decode, batch_size=_BATCH)) as batches:
        for batch in batches:
            if on_batch is not None:
                on_batch(batch)
            images = {photo.sha: photo.image for photo in batch if photo.image is not None}
            if images:
                shas += list(images)
                features.append(net.extract(list(images.values())).astype(np.float16))
            if on_progress is not None:
                on_progress(number * len(sample.waiting) + len(shas), crops * len(sample.waiting))
    return shas, np.concatenate(features)


def pick(rows: Sequence[TapRow]) -> TapRow:
    """Return the cheapest row, by time and then by length, that the highest AUC exceeds by one standard error at most.

    The standard error is that of the difference, by person: all rows met the same pairs.
    """
    best = max(rows, key=lambda row: row.score.auc)
    good = [row for row in rows if best.score.auc - row.score.auc <= gain_stderr(best.score, row.score)]
    return min(good, key=lambda row: (row.ms_per_photo, row.dim, -row.score.auc))


def _some(manifest: Manifest, people: int, seed: int) -> NDArray[np.int64]:
    """Return rows of `people` people with two photos or more, a few of each, drawn by lot."""
    rng = np.random.default_rng(seed)
    labels = manifest.labels
    able = np.flatnonzero(np.bincount(labels) >= 2)
    chosen = np.sort(rng.permutation(able)[:people])
    drawn = [np.sort(rng.permutation(np.flatnonzero(labels == person))[:_PHOTOS_EACH]) for person in chosen]
    if len(drawn) < 4:
        raise DataError(
            f"{manifest.root}: a transfer report needs 4 people with 2 photos each, got {len(drawn)}. Add photos."
        )
    return np.concatenate(drawn)


def _sample(
    chosen: Manifest, spec: ExtractorSpec, cache: Path, skipped: Counter[str], on_faces: Progress | None
) -> _Sample:
    photos = list(chosen.paths)
    decode: Decode = read_cropped
    if spec.align != "none":
        shown = with_faces(replace(chosen, skipped={}), cache, on_faces)
        photos, decode = list(shown.photos), shown.decode
        skipped.update(shown.skipped)
    identity = {photo.path: photo.identity for photo in chosen.photos}
    found: dict[str, list[Path]] = defaultdict(list)
    for path, sha in zip(photos, digests(photos), strict=True):
        if sha is None:
            skipped["unreadable"] += 1
        else:
            found[sha].append(path)
    waiting, person = {}, {}
    for sha, paths in found.items():
        owners = {identity[path] for path in paths}
        if len(owners) > 1:
            skipped["mislabelled"] += len(paths)
        else:
            skipped["repeated"] += len(paths) - 1
            waiting[sha], person[sha] = paths, owners.pop()
    return _Sample(waiting, person, decode)


def _tapped(spec: ExtractorSpec, taps: Sequence[Tap], crops: tuple[float, ...]) -> ExtractorSpec:
    """Return the extractor of all these taps joined; one that has no layers to choose from stays as it is."""
    if not spec.family.taps_layers:
        return replace(spec, crops=crops)
    return replace(spec, tap="+".join(f"{tap}:{grid}" for tap, grid in taps), grid=taps[0][1], crops=crops)


def _columns(net: PhotoNet, taps: Sequence[Tap]) -> list[slice]:
    """Return which columns of the joined feature are each tap's."""
    layout = maps_of(net)
    if len(taps) == 1 or layout is None:
        return [slice(0, net.dim)]
    ends = np.cumsum([grid * grid * channels for grid, channels in layout.maps]).tolist()
    return [slice(start, stop) for start, stop in zip([0, *ends], ends, strict=False)]


def _cost(net: PhotoNet, images: Sequence[NDArray[np.uint8]]) -> float:
    """Return the milliseconds a photo takes, the best of three passes after one that compiles."""
    net.extract(images)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        net.extract(images)
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds) / len(images)


def _around_the_face(sweep: Sequence[TapRow]) -> str:
    if len(sweep) < 2:
        return ""
    narrow, wide = sweep[0], sweep[-1]
    gain = wide.score.accuracy - narrow.score.accuracy
    error = math.hypot(wide.score.accuracy_stderr, narrow.score.accuracy_stderr)
    accuracies = (
        f"With {wide.tap} {wide.grid}×{wide.grid} the accuracy is {narrow.score.accuracy:.3f} in the narrowest crop "
        f"({narrow.crop:g}) and {wide.score.accuracy:.3f} in the widest ({wide.crop:g}): "
    )
    if gain <= error:
        return accuracies + f"hair and background add nothing beyond a standard error ({gain:+.3f} ± {error:.3f})."
    return accuracies + f"{gain:.3f} ± {error:.3f} of it come from what lies around the face, hair and background."
