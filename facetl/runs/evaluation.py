"""A run on photos by protocol: triplets, an open set, clusters; the run's baselines always beside it.

What a method is asked, and at which threshold, is the same for all; see `pair_evaluation` for pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage  # type: ignore[import-untyped,unused-ignore]

from facetl.data.check import without_copies
from facetl.data.manifest import Manifest
from facetl.data.triplets import read_triplets, triplet_manifest, triplet_people, triplet_rows
from facetl.errors import DataError
from facetl.io.files import csv_bytes, write_atomic
from facetl.metrics.cluster_scores import ClusterScores, Elbow, elbow, elbow_ks, score_clusters
from facetl.metrics.openset import OpenSetReport, identify_openset, write_openset_tables
from facetl.metrics.pairs import Ints
from facetl.metrics.triplet_scores import TripletScores, score_triplets
from facetl.report.plots import elbow_plot, figure_png, openset_sweep_plot
from facetl.runs.evaluated_run import TRAINED, EvaluatedRun, TrainingOverlap

# All distances of so many photos fill 800 MB, and their number grows with the square.
MOST_CLUSTERED = 10_000
# Long lists of single answers are given of the trained head alone.
_LISTS = ("guesses", "sweep", "confusion", "personal_thresholds")

_MISSING = -1

SWEEP_PLOT = "sweep.png"
CLUSTERS = "clusters.csv"
ELBOW_PLOT = "elbow.png"

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True)
class TripletEvaluation:
    """Method → scores on the same triplets; the trained head is `trained`.

    missing counts triplets with a photo that cannot be read, left_out those with people of the run's training.
    """

    run: str
    scores: Mapping[str, TripletScores]
    overlap_with_training: TrainingOverlap
    has_baselines: bool
    missing: int
    left_out: int

    def to_json(self) -> dict[str, Any]:
        """Return the trained head's scores, and the others' under `baselines`."""
        return {
            "run": self.run,
            **_beside({name: scores.to_json() for name, scores in self.scores.items()}, self.has_baselines),
            "missing_triplets": self.missing,
            "left_out_triplets": self.left_out,
            **self.overlap_with_training.to_json(),
        }


@dataclass(frozen=True)
class OpenSetEvaluation:
    """Method → report on the same gallery and probes; the trained head is `trained`.

    copies counts probe photos that were left out because the gallery holds the same bytes.
    """

    run: str
    reports: Mapping[str, OpenSetReport]
    overlap_with_training: TrainingOverlap
    has_baselines: bool
    copies: int
    skipped: Mapping[str, int]

    @property
    def trained(self) -> OpenSetReport:
        """The run's own report."""
        return self.reports[TRAINED]

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write the run's guesses, sweep and confusion as CSV, and the sweep as a picture, for their owner alone."""
        tables = write_openset_tables(self.trained, folder)
        return *tables, _written(folder / SWEEP_PLOT, figure_png(openset_sweep_plot(self.trained)))

    def to_json(self) -> dict[str, Any]:
        """Return the trained head's report, and the others' without their long lists under `baselines`."""
        reports = {name: report.to_json() for name, report in self.reports.items()}
        for name, report in reports.items():
            if name != TRAINED:
                reports[name] = {key: value for key, value in report.items() if key not in _LISTS}
        return {
            "run": self.run,
            **_beside(reports, self.has_baselines),
            "probe_copies_of_gallery": self.copies,
            "skipped": dict(self.skipped),
            # `people` are those of the gallery.
            "people_in_training": self.overlap_with_training.to_json()["people_in_training"],
        }


@dataclass(frozen=True)
class ClusterEvaluation:
    """Method → scores of its clusters against the people of the folder; the trained head is `trained`.

    photos are the relative path, person and cluster, by the trained head, of each photo.
    """

    run: str
    scores: Mapping[str, ClusterScores]
    thresholds: Mapping[str, float]
    elbow: Elbow | None
    overlap_with_training: TrainingOverlap
    has_baselines: bool
    photos: tuple[tuple[str, str, int], ...]
    skipped: Mapping[str, int]

    def write(self, folder: Path) -> tuple[Path, ...]:
        """Write the trained head's clusters as CSV, and the elbow where there is one, for their owner alone."""
        folder.mkdir(parents=True, exist_ok=True)
        written = [_written(folder / CLUSTERS, csv_bytes([("Photo", "Person", "Cluster"), *self.photos]))]
        if self.elbow is not None:
            picture = figure_png(elbow_plot(self.elbow, people=self.overlap_with_training.people))
            written.append(_written(folder / ELBOW_PLOT, picture))
        return tuple(written)

    def to_json(self) -> dict[str, Any]:
        """Return the trained head's scores, and the others' under `baselines`; `elbow` is null unless asked for."""
        scores = {name: {**s.to_json(), "threshold": self.thresholds[name]} for name, s in self.scores.items()}
        return {
            "run": self.run,
            **_beside(scores, self.has_baselines),
            "clustering": "average linkage",
            "true": "folder names",
            "elbow": None if self.elbow is None else self.elbow.to_json(),
            "skipped": dict(self.skipped),
            "people_in_training": self.overlap_with_training.to_json()["people_in_training"],
        }


def evaluate_triplets(
    run: EvaluatedRun,
    triplets_file: Path,
    images: Path,
    *,
    cache: Path,
    unseen: bool = False,
    on_progress: Progress = None,
) -> TripletEvaluation:
    """Judge the 2N pairs of N triplets by each method, whose paths in the file are relative to `images`.

    `unseen` leaves out triplets with a person who took part in the run's training. Raises DataError for a file,
    photo or row that does not fit, RunError.
    """
    triplets = read_triplets(triplets_file)
    manifest = triplet_manifest(images, triplets)
    rows = triplet_rows(manifest, triplets)
    left_out = 0
    if unseen:
        strangers = run.strangers(_named(manifest))
        stranger = np.isin([photo.identity for photo in manifest.photos], list(strangers))
        rows = rows[np.asarray(stranger[rows].all(axis=1))]
        left_out = len(triplets) - len(rows)
        if not len(rows):
            raise DataError(
                "--unseen: expected triplets of people outside the run's training, found none. Make others."
            )
    embedded = run.embed(manifest.select(np.unique(rows)), cache=cache, on_progress=on_progress)
    row_of = {path: row for row, path in enumerate(embedded.manifest.paths)}
    rows = np.array([row_of.get(path, _MISSING) for path in manifest.paths], np.int64)[rows]
    readable = (rows != _MISSING).all(axis=1)
    if not readable.any():
        raise DataError(f"{triplets_file}: expected triplets of photos that can be read, found none.")
    rows = rows[readable]
    people = triplet_people(embedded.manifest, rows)
    scores = {
        name: score_triplets(
            *(embeddings[column] for column in rows.T), threshold=threshold, margin=run.margin, people=people
        )
        for name, embeddings, threshold in run.methods(embedded)
    }
    overlap = run.overlap_with_training(_named(embedded.manifest))
    missing = int(np.count_nonzero(~readable))
    return TripletEvaluation(run.name, scores, overlap, run.baselines is not None, missing, left_out)


def evaluate_openset(
    run: EvaluatedRun,
    gallery: Path,
    probe: Path,
    *,
    cache: Path,
    method: str = "centroid",
    k: int = 3,
    unseen: bool = False,
    on_progress: Progress = None,
) -> OpenSetEvaluation:
    """Ask a gallery folder for each photo of a probe folder; probe people without a gallery folder are strangers.

    Photos that stand under two people are left out, and so are probe photos that the gallery holds, too: they would
    always be found. The threshold is learnt from the gallery; where it shows one person, or nobody there has two
    photos, it is the method's threshold for pairs. `unseen` leaves out people who took part in the training. Raises
    DataError, RunError.
    """
    known, asked = (_folder(run, folder, unseen=unseen) for folder in (gallery, probe))
    in_gallery = run.embed(known, cache=cache, on_progress=on_progress)
    probes = run.embed(asked, cache=cache, on_progress=on_progress)
    fresh = ~np.isin(probes.contents, in_gallery.contents)
    if not fresh.any():
        raise DataError(f"{probe}: expected photos that are not in {gallery}, found none. Give other photos.")
    probes = probes.select(fresh)
    names = np.array([photo.identity for photo in in_gallery.manifest.photos])
    asked_names = np.array([photo.identity for photo in probes.manifest.photos])
    counts = in_gallery.manifest.counts()
    not_learnt = len(counts) < 2 or max(counts.values()) < 2
    paths = probes.manifest.relative_paths
    identify = partial(identify_openset, method=method, k=k, photos=paths)
    reports = {
        name: identify(embeddings, names, of_probes, asked_names, threshold=threshold if not_learnt else None)
        for (name, embeddings, threshold), (_, of_probes, _) in zip(
            run.methods(in_gallery), run.methods(probes), strict=True
        )
    }
    return OpenSetEvaluation(
        run.name,
        reports,
        run.overlap_with_training([*names.tolist(), *asked_names.tolist()]),
        run.baselines is not None,
        int(np.count_nonzero(~fresh)),
        dict(sorted((Counter(in_gallery.report.skipped) + Counter(probes.report.skipped)).items())),
    )


def evaluate_clusters(
    run: EvaluatedRun,
    folder: Path,
    *,
    cache: Path,
    unseen: bool = False,
    with_elbow: bool = False,
    seed: int = 0,
    on_progress: Progress = None,
) -> ClusterEvaluation:
    """Cluster a folder's photos by average linkage at each method's threshold, and compare with its people.

    Raises DataError for more than MOST_CLUSTERED photos, RunError.
    """
    manifest = _folder(run, folder, unseen=unseen)
    if len(manifest) > MOST_CLUSTERED:
        raise DataError(
            f"{folder}: all distances of at most {MOST_CLUSTERED:,} photos fit into memory, found {len(manifest):,}. "
            "Give a folder with fewer."
        )
    embedded = run.embed(manifest, cache=cache, on_progress=on_progress)
    labels = embedded.manifest.labels
    scores, thresholds = {}, {}
    clusters = np.zeros(len(labels), np.int64)
    for name, embeddings, threshold in run.methods(embedded):
        clusters = average_linkage(embeddings, threshold=threshold)
        scores[name] = score_clusters(labels, clusters)
        thresholds[name] = threshold
    bend = elbow(embedded.embeddings, elbow_ks(len(labels)), seed=seed) if with_elbow else None
    names = [photo.identity for photo in embedded.manifest.photos]
    return ClusterEvaluation(
        run.name,
        scores,
        thresholds,
        bend,
        run.overlap_with_training(embedded.manifest.identities),
        run.baselines is not None,
        # The last method is the trained head.
        tuple(zip(embedded.manifest.relative_paths, names, clusters.tolist(), strict=True)),
        embedded.report.skipped,
    )


def average_linkage(embeddings: np.ndarray, *, threshold: float) -> Ints:
    """Merge the nearest clusters while the mean squared distance between their photos is ≤ threshold.

    embeddings: float [photos, dim] of unit norm. Returns each photo's cluster, int64 [photos], from 0.
    """
    photos = len(embeddings)
    if photos < 2:
        return np.zeros(photos, np.int64)
    condensed = np.empty(photos * (photos - 1) // 2, np.float64)
    start = 0
    for row in range(photos - 1):
        stop = start + photos - 1 - row
        # 2 − 2 cos, clipped: rounding must not make a distance negative.
        np.clip(2.0 - 2.0 * (embeddings[row + 1 :] @ embeddings[row]), 0.0, 4.0, out=condensed[start:stop])
        start = stop
    return np.asarray(fcluster(linkage(condensed, "average"), threshold, "distance"), np.int64) - 1


def _folder(run: EvaluatedRun, folder: Path, *, unseen: bool) -> Manifest:
    manifest = without_copies(Manifest.from_folder(folder))
    if not unseen:
        return manifest
    strangers = run.strangers(manifest.identities)
    photos = tuple(photo for photo in manifest.photos if photo.identity in strangers)
    if not photos:
        raise DataError(f"--unseen: {folder} holds nobody outside the run's training. Give other people's photos.")
    return replace(manifest, photos=photos)


def _written(path: Path, content: bytes) -> Path:
    write_atomic(path, content)
    return path


def _named(manifest: Manifest) -> list[str]:
    return [name for name in manifest.identities if name]


def _beside(scores: Mapping[str, Mapping[str, Any]], has_baselines: bool) -> dict[str, Any]:
    """Return the trained head's scores, and the others' under `baselines`: null where the run kept none."""
    baselines = {name: dict(others) for name, others in scores.items() if name != TRAINED}
    return {**scores[TRAINED], "baselines": baselines if has_baselines else None}
