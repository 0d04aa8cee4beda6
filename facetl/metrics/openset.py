"""Open-set identification: who is it, of the people in a gallery, or nobody of them?

Terms follow ISO/IEC 19795-1:2021 and NIST's FRVT 1:N reports (Grother, Ngan and Hanaoka, 2019): a probe of a
person in the gallery is mated, a stranger's is not. FPIR is the share of strangers' probes that are answered with a
name; DIR, the detection and identification rate (1 − FNIR at rank 1), the share of mated ones answered rightly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facetl.errors import DataError
from facetl.io.files import csv_bytes, write_atomic
from facetl.io.json import JsonFields, plain
from facetl.metrics.ranking import SHRINKAGE, Gallery, checked_embeddings, checked_names
from facetl.metrics.roc import Bools, Floats, negatives_needed, tar_at_far

UNKNOWN = "unknown"
FPIRS: Mapping[str, float] = {"0.01": 0.01, "0.1": 0.1}

_GUESSES = 6
_SWEEP = 101


@dataclass(frozen=True)
class Guess(JsonFields):
    """The result of one probe: the best candidates with their distances, and the answer at the threshold.

    person is who it is, known whether the gallery has photos of that person; answer is a name or "unknown".
    """

    photo: str
    person: str
    known: bool
    answer: str
    candidates: tuple[tuple[str, float], ...]

    @property
    def right(self) -> bool:
        """True where the answer is the person, or "unknown" for a stranger."""
        return self.answer == (self.person if self.known else UNKNOWN)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `right`."""
        candidates = [{"person": name, "distance": distance} for name, distance in self.candidates]
        return super().to_json() | {"right": self.right, "candidates": candidates}


@dataclass(frozen=True)
class SweepPoint:
    """Rates at one threshold.

    accuracy is over all probes, strangers being right as "unknown"; dir the share of known people's probes named
    rightly, misidentified the share named wrongly, fpir the share of strangers' that are named; None without such.
    """

    threshold: float
    accuracy: float
    dir: float | None
    misidentified: float | None
    fpir: float | None


@dataclass(frozen=True)
class OpenSetReport(JsonFields):
    """Rates of naming a gallery's people and leaving strangers unknown.

    top1 and top6 are of the known people's probes alone, without a threshold (closed-set, ranks 1 and 6).
    at_threshold has the rates at `threshold`, which comes from the gallery alone or from the caller. dir_at_fpir
    is None where strangers' probes are too few to see the rate, strangers_needed has how many it takes. best is
    the best point of the sweep: chosen on the probes, so an upper bound and no result. confusion counts true
    person (or "unknown") → answer → probes. personal_thresholds is empty for other methods than "personal".
    """

    method: str
    people: int
    gallery_photos: int
    known_probes: int
    stranger_probes: int
    strangers: int
    top1: float | None
    top6: float | None
    threshold: float
    threshold_from: str
    at_threshold: SweepPoint
    dir_at_fpir: Mapping[str, float | None]
    sweep: tuple[SweepPoint, ...]
    confusion: Mapping[str, Mapping[str, int]]
    guesses: tuple[Guess, ...]
    personal_thresholds: Mapping[str, float]

    @property
    def accuracy_with_unknown(self) -> float:
        """Share of all probes answered rightly at the threshold, "unknown" being right for strangers."""
        return self.at_threshold.accuracy

    @property
    def best(self) -> SweepPoint:
        """The point of the sweep with the highest accuracy, the lowest threshold of equals."""
        return max(self.sweep, key=lambda point: point.accuracy)

    @property
    def strangers_needed(self) -> dict[str, int]:
        """The number of strangers' photos that each rate needs which is None because there are too few."""
        return {
            name: negatives_needed(fpir)
            for name, fpir in FPIRS.items()
            if self.stranger_probes < negatives_needed(fpir)
        }

    def dir_cells(self) -> dict[str, str]:
        """Return the DIR at each FPIR as a table has it: three decimals, or what is missing."""
        needed = self.strangers_needed
        return {
            name: f"needs {needed[name]:,} strangers' photos, got {self.stranger_probes:,}"
            if name in needed
            else "needs photos of known people"
            if rate is None
            else f"{rate:.3f}"
            for name, rate in self.dir_at_fpir.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and what follows from them."""
        return super().to_json() | {
            "accuracy_with_unknown": self.accuracy_with_unknown,
            "strangers_needed": self.strangers_needed,
            "best_on_probes": plain(self.best),
        }


def identify_openset(
    gallery: npt.ArrayLike,
    gallery_labels: npt.ArrayLike,
    probes: npt.ArrayLike,
    probe_labels: npt.ArrayLike,
    *,
    method: str = "centroid",
    k: int = 3,
    shrinkage: float = SHRINKAGE,
    threshold: float | None = None,
    thresholds: npt.ArrayLike | None = None,
    photos: Sequence[str] | None = None,
) -> OpenSetReport:
    """Ask a gallery for each probe; probe people who are not in the gallery are strangers.

    gallery, probes: float [photos, dim] of unit norm; labels: str [photos]. method, k, shrinkage: see `Gallery`.
    threshold: the distance up to which the best candidate is accepted; None learns it from the gallery alone. A
    threshold for pairs of photos does not fit centroids, which lie nearer. thresholds: float [points] of the
    sweep, None for 101 from 0 to the farthest answer. photos: what to call each probe, None for its number.

    Raises DataError where shapes, norms or names are wrong, or the gallery cannot give a threshold.
    """
    names = checked_names(probe_labels, len(checked_embeddings(probes, "probe")))
    if photos is not None and len(photos) != len(names):
        raise DataError(f"Each of {len(names)} probes needs a photo's name. Received: {len(photos)}.")
    if threshold is not None and not np.isfinite(threshold):
        raise DataError(f"A threshold must be a distance. Received: {threshold}.")
    people = Gallery(gallery, gallery_labels, method=method, k=k, shrinkage=shrinkage)
    if UNKNOWN in people.people:
        raise DataError(
            f"Nobody in the gallery can be called {UNKNOWN!r}, the answer for strangers. Rename the folder."
        )
    used = people.threshold() if threshold is None else float(threshold)
    ranked = people.rank(probes, top=_GUESSES)
    candidates = np.array(people.people)[ranked.people]
    nearest = ranked.distances[:, 0]
    known = np.isin(names, people.people)
    hits = candidates == names[:, None]
    right = hits[:, 0]
    guesses = tuple(
        Guess(
            photo=str(number) if photos is None else photos[number],
            person=str(names[number]),
            known=bool(known[number]),
            answer=str(candidates[number, 0]) if nearest[number] <= used else UNKNOWN,
            candidates=tuple(zip(candidates[number].tolist(), ranked.distances[number].tolist(), strict=True)),
        )
        for number in range(len(names))
    )
    return OpenSetReport(
        method=method,
        people=len(people.people),
        gallery_photos=people.photos,
        known_probes=int(np.count_nonzero(known)),
        stranger_probes=int(np.count_nonzero(~known)),
        strangers=len(np.unique(names[~known])),
        top1=float(right[known].mean()) if known.any() else None,
        top6=float(hits[known].any(axis=1).mean()) if known.any() else None,
        threshold=used,
        threshold_from="gallery" if threshold is None else "given",
        at_threshold=_sweep(nearest, right, known, np.array([used]))[0],
        dir_at_fpir={name: dir_at_fpir(nearest, right, known, fpir) for name, fpir in FPIRS.items()},
        sweep=_sweep(nearest, right, known, _sweep_thresholds(thresholds, nearest)),
        confusion=_confusion(guesses),
        guesses=guesses,
        personal_thresholds=dict(zip(people.people, (used + people.shifts).tolist(), strict=True))
        if method == "personal"
        else {},
    )


def dir_at_fpir(nearest: Floats, right: Bools, known: Bools, fpir: float) -> float | None:
    """Return the detection and identification rate at the loosest threshold whose FPIR does not exceed `fpir`.

    nearest: float [probes], the distance to the best candidate; right: bool [probes], whether that is the person;
    known: bool [probes], whether the gallery has the person. None where the rate cannot be seen in so few strangers.
    """
    if known.all() or not known.any():
        return None
    # Named wrongly is not detected at any threshold: farther than every stranger.
    distances = np.where(known & ~right, nearest.max() + 1.0, nearest)
    return tar_at_far(distances, known, fpir)


def _sweep_thresholds(given: npt.ArrayLike | None, nearest: Floats) -> Floats:
    if given is None:
        # A personal threshold's excess can take a distance below 0.
        return np.linspace(min(0.0, float(nearest.min())), float(nearest.max()), _SWEEP)
    thresholds = np.unique(np.asarray(given, np.float64))
    if not thresholds.size or not np.isfinite(thresholds).all():
        raise DataError("A sweep needs one threshold or more, all finite. Received: none, or some that are not.")
    return thresholds


def _sweep(nearest: Floats, right: Bools, known: Bools, thresholds: Floats) -> tuple[SweepPoint, ...]:
    accepted = (
        np.searchsorted(np.sort(nearest[probes]), thresholds, side="right").tolist()
        for probes in (known & right, known & ~right, ~known)
    )
    mated, strangers = int(np.count_nonzero(known)), int(np.count_nonzero(~known))
    return tuple(
        SweepPoint(
            threshold=threshold,
            accuracy=(named + strangers - false) / len(nearest),
            dir=named / mated if mated else None,
            misidentified=wrong / mated if mated else None,
            fpir=false / strangers if strangers else None,
        )
        for threshold, named, wrong, false in zip(thresholds.tolist(), *accepted, strict=True)
    )


def _confusion(guesses: Sequence[Guess]) -> dict[str, dict[str, int]]:
    """Return true person, strangers last → answer → probes, what is right first, then the most frequent."""
    rows: dict[str, Counter[str]] = {}
    for guess in sorted(guesses, key=lambda guess: (not guess.known, guess.person)):
        rows.setdefault(guess.person if guess.known else UNKNOWN, Counter())[guess.answer] += 1
    return {
        person: dict(sorted(answers.items(), key=lambda item: (item[0] != person, -item[1], item[0])))
        for person, answers in rows.items()
    }


def write_openset_tables(report: OpenSetReport, folder: Path | str) -> tuple[Path, ...]:
    """Write sweep.csv, confusion.csv and guesses.csv into a folder, and return their paths.

    sweep.csv has a row a threshold and a column a rate, empty where there is nothing to count; confusion.csv a row
    for each person and answer that occur; guesses.csv a row a probe, its best candidates from the nearest on.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ranks = range(1, 1 + max(len(guess.candidates) for guess in report.guesses))
    names = [name for rank in ranks for name in (f"Guess{rank}", f"Distance{rank}")]
    tables: dict[str, list[Sequence[object]]] = {
        "sweep.csv": [[field.name for field in fields(SweepPoint)], *map(astuple, report.sweep)],
        "confusion.csv": [
            ("Person", "Answer", "Photos"),
            *((person, answer, n) for person, answers in report.confusion.items() for answer, n in answers.items()),
        ],
        "guesses.csv": [
            ("Photo", "Person", "Known", "Answer", "Right", *names),
            *(
                (
                    guess.photo,
                    guess.person,
                    int(guess.known),
                    guess.answer,
                    int(guess.right),
                    *(cell for name, distance in guess.candidates for cell in (name, f"{distance:.6f}")),
                )
                for guess in report.guesses
            ),
        ],
    }
    for name, rows in tables.items():
        write_atomic(folder / name, csv_bytes(rows))
    return tuple(folder / name for name in tables)
