"""A run on pairs: of a split's test people, or of a list by folds, with intervals by person and rates by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facetl.data.manifest import Manifest, Photo
from facetl.data.pair_lists import FoundPair, PairsProtocol, PathPairs, find_pairs, shared_people
from facetl.embeddings.dataset import Collection
from facetl.errors import DataError
from facetl.io.json import plain
from facetl.metrics.bootstrap import VerificationIntervals, verification_intervals
from facetl.metrics.groups import GroupReport, group_rates
from facetl.metrics.linalg import normalised
from facetl.metrics.pairs import FoldedPairs, Ints, Pairs, fold_pairs
from facetl.metrics.roc import Bools, Floats
from facetl.metrics.verification import (
    Verification,
    pair_distances,
    pair_thresholds,
    threshold_from,
    verify_at,
    verify_folds,
)
from facetl.recognition.photo_embeddings import Embedded
from facetl.runs.evaluated_run import TRAINED, EvaluatedRun, TrainingOverlap
from facetl.runs.pretrained import ReferenceNet

# A method's name, and its unit embeddings of the validation and of the test photos, [photos, width] each.
Method = tuple[str, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class SplitEvaluation:
    """Scores of every method on what is held out, and the distances of the same pairs for each.

    Attributes:
        verifications, distances: method → scores, and squared distances [pairs]; empty where nothing is held out to
            measure by, and then `pairs` is None.
        embeddings: of the test photos by the last method, which is the run's own.
        thresholds: method → the threshold from the validation side.
        rank_1: method → share of test photos whose nearest person, by the mean of the validation photos, is the right
            one; empty where the two sides have different people.
    """

    verifications: Mapping[str, Verification]
    distances: Mapping[str, np.ndarray]
    pairs: FoldedPairs | None
    embeddings: np.ndarray
    thresholds: Mapping[str, float]
    rank_1: Mapping[str, float]

    @property
    def threshold(self) -> float:
        """The threshold of the run's own method."""
        return list(self.thresholds.values())[-1]


def evaluate_split(collection: Collection, methods: Iterable[Method], *, seed: int) -> SplitEvaluation:
    """Verify pairs of test photos by every method, each at a threshold from the validation side.

    methods: taken one at a time, since the raw features of thousands of photos fill hundreds of megabytes; the last
    is the run's own.
    """
    held_out_labels, tested_labels = collection.side("validation")[1], collection.side("test")[1]
    pairs = fold_pairs(tested_labels, seed=seed) if len(tested_labels) else None
    verifications, distances, thresholds, rank_1 = {}, {}, {}, {}
    embeddings = np.zeros((0, 0), np.float32)
    for name, chosen, embeddings in methods:
        thresholds[name] = threshold_from(chosen, held_out_labels, seed=seed)
        if pairs is None:
            continue
        distances[name] = pair_distances(embeddings, pairs)
        verifications[name] = verify_at(distances[name], pairs.same, threshold=thresholds[name], fold=pairs.fold)
        if collection.manifest.same_people:
            rank_1[name] = _rank_1(chosen, held_out_labels, embeddings, tested_labels)
    return SplitEvaluation(verifications, distances, pairs, embeddings, thresholds, rank_1)


def _rank_1(gallery: np.ndarray, of_gallery: np.ndarray, probes: np.ndarray, of_probes: np.ndarray) -> float:
    """Return the share of probes whose nearest mean of a person's gallery photos is their own person's."""
    people = np.unique(of_gallery)
    means = normalised(np.stack([gallery[of_gallery == person].mean(axis=0) for person in people]))
    return float(np.mean(people[np.argmax(probes @ means.T, axis=1)] == of_probes))


_AT_THRESHOLD = ("far_at_threshold", "frr_at_threshold")


@dataclass(frozen=True)
class PairEvaluation:
    """Method → scores on the same pairs; the trained head is `trained`.

    Attributes:
        verifications: at each fold's threshold from the other folds; at the run's where there is one fold.
        at_threshold: the trained head's scores at the run's calibrated threshold.
        intervals, intervals_at_threshold: of the trained head's scores, by person; of the second kind the rates and
            the accuracy at the threshold count.
        groups: error rates by group at the run's threshold, None unless asked for.
        ceiling: what a face-trained net gives on the same pairs, name → scores; empty unless asked for.
        missing: pairs that could not be scored, their photo being absent or unreadable.
        left_out: pairs with people of the run's training, where they were to be left out.
        shared: people in more than one fold, on whom a fold's threshold from the others was chosen, too.
    """

    run: str
    threshold_chosen: str
    verifications: Mapping[str, Verification]
    at_threshold: Verification
    intervals: VerificationIntervals
    intervals_at_threshold: VerificationIntervals
    groups: GroupReport | None
    ceiling: Mapping[str, Verification]
    overlap_with_training: TrainingOverlap
    has_baselines: bool
    missing: int
    left_out: int
    shared: tuple[str, ...] = ()

    @property
    def trained(self) -> Verification:
        """The trained head's scores by folds."""
        return self.verifications[TRAINED]

    def to_json(self) -> dict[str, Any]:
        """Return the trained head's scores, `threshold` and the rates being the run's, and `baselines`."""
        by_folds = self.trained.folds > 1
        baselines = {name: scores.to_json() for name, scores in self.verifications.items() if name != TRAINED}
        at_threshold = plain(self.intervals_at_threshold)
        intervals = plain(self.intervals) | {key: at_threshold[key] for key in _AT_THRESHOLD}
        return {
            "run": self.run,
            **self.trained.to_json(),
            "accuracy_by": "folds" if by_folds else "threshold",
            "threshold": self.at_threshold.threshold,
            "threshold_chosen": self.threshold_chosen,
            "accuracy_at_threshold": self.at_threshold.accuracy,
            "far_at_threshold": self.at_threshold.far_at_threshold,
            "frr_at_threshold": self.at_threshold.frr_at_threshold,
            "intervals": intervals | {"accuracy_at_threshold": at_threshold["accuracy"]},
            "baselines": baselines if self.has_baselines else None,
            "ceiling": {name: scores.to_json() for name, scores in self.ceiling.items()} or None,
            "groups": None if self.groups is None else self.groups.to_json(),
            "missing_pairs": self.missing,
            "left_out_pairs": self.left_out,
            "people_in_several_folds": len(self.shared),
            **self.overlap_with_training.to_json(),
        }


def evaluate_pairs(
    run: EvaluatedRun,
    protocol: PairsProtocol | PathPairs,
    images: Path,
    *,
    cache: Path,
    groups: Mapping[str, str] | None = None,
    ceiling: ReferenceNet | None = None,
    unseen: bool = False,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> PairEvaluation:
    """Verify a list's pairs, whose photos lie below `images`, by each method.

    groups: person → group, names NFC. ceiling: a net to measure on the same pairs. `unseen` leaves out pairs with a
    person who took part in the run's training. seed: of the intervals. Raises DataError for photos that are not
    there or pairs of one kind only, RunError.
    """
    found, missing = find_pairs(protocol, images)
    asked = found
    if unseen:
        strangers = run.strangers(_people(found))
        asked = tuple(pair for pair in found if {pair.first_person, pair.second_person} <= strangers)
        if not asked:
            raise DataError("--unseen: expected pairs of people outside the run's training, found none. Give others.")
    left_out = len(found) - len(asked)
    embedded = run.embed(_manifest(images, asked), cache=cache, on_progress=on_progress)
    readable, pairs = _rows(embedded, asked)
    fold = np.array([pair.fold for pair in readable])
    verifications, distances = {}, np.zeros(0)
    for name, embeddings, threshold in run.methods(embedded):
        distances = pair_distances(embeddings, pairs)
        verifications[name] = _verified(distances, pairs.same, fold, threshold)
    above = {}
    if ceiling is not None:
        far = ceiling.distances(embedded.manifest, pairs, cache=cache, on_progress=on_progress)
        above[ceiling.name] = _verified(far, pairs.same, fold, ceiling.threshold)
    # The last method is the trained head.
    own = run.recognizer.threshold
    first, second = (np.array([getattr(pair, side) for pair in readable]) for side in ("first_person", "second_person"))
    by_folds = pair_thresholds(verifications[TRAINED].thresholds, fold)
    intervals = partial(verification_intervals, distances, pairs.same, first, second, seed=seed)
    grouped = None
    if groups is not None:
        one, other = (np.array([groups.get(person, "") for person in people.tolist()]) for people in (first, second))
        grouped = group_rates(distances, pairs.same, one, other, first, second, threshold=own, seed=seed)
    return PairEvaluation(
        run=run.name,
        threshold_chosen=run.threshold_chosen,
        verifications=verifications,
        at_threshold=verify_at(distances, pairs.same, threshold=own),
        intervals=intervals(threshold=by_folds, fold=fold),
        intervals_at_threshold=intervals(threshold=own),
        groups=grouped,
        ceiling=above,
        overlap_with_training=run.overlap_with_training(_people(readable)),
        has_baselines=run.baselines is not None,
        missing=missing + len(asked) - len(readable),
        left_out=left_out,
        shared=shared_people(protocol),
    )


def _verified(distances: Floats, same: Bools, fold: Ints, threshold: float) -> Verification:
    """Score by folds, or at a method's own threshold where there is one fold."""
    if len(np.unique(fold)) > 1:
        return verify_folds(distances, same, fold)
    return verify_at(distances, same, threshold=threshold)


def _manifest(images: Path, pairs: Sequence[FoundPair]) -> Manifest:
    """Return the photos of the pairs, each once, in order of (person, path)."""
    photos = {pair.first: pair.first_person for pair in pairs} | {pair.second: pair.second_person for pair in pairs}
    ordered = sorted(photos.items(), key=lambda item: (item[1], item[0].as_posix()))
    return Manifest(images, tuple(Photo(path, person) for path, person in ordered))


def _rows(embedded: Embedded, asked: Sequence[FoundPair]) -> tuple[list[FoundPair], Pairs]:
    """Return the pairs whose photos could both be read, and their rows."""
    row_of = {path: row for row, path in enumerate(embedded.manifest.paths)}
    readable = [pair for pair in asked if pair.first in row_of and pair.second in row_of]
    if not readable:
        raise DataError(f"{embedded.manifest.root}: expected pairs of photos that can be read, found none.")
    columns = ([row_of[getattr(pair, side)] for pair in readable] for side in ("first", "second"))
    first, second = (np.array(column, np.int64) for column in columns)
    return readable, Pairs(first, second, np.array([pair.same for pair in readable]))


def _people(pairs: Sequence[FoundPair]) -> set[str]:
    return {person for pair in pairs for person in (pair.first_person, pair.second_person)}
