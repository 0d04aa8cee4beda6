"""A run under evaluation: what it makes of any photos, its baselines beside it, and the people it knows already."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetl.data.manifest import Manifest
from facetl.errors import RunError
from facetl.losses.registry import LOSSES
from facetl.recognition.photo_embeddings import Embedded, embed_manifest
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.runs.run_baselines import RunBaselines

TRAINED = "trained"


@dataclass(frozen=True)
class TrainingOverlap:
    """How far a run knows the people it is evaluated on: then the result says little about strangers.

    Attributes:
        people: how many people the evaluated photos show.
        in_training: those among them that the run was trained on, or that chose its epoch and threshold, sorted;
            None where the run does not say.
    """

    people: int
    in_training: tuple[str, ...] | None

    @property
    def warning(self) -> str | None:
        """One sentence where the result may flatter the run, else None."""
        if self.in_training is None:
            return (
                "warning: the run does not say whom it was trained on (it was made before that was kept), so nothing "
                "tells whether it knows these people"
            )
        if not self.in_training:
            return None
        return (
            f"warning: {len(self.in_training):,} of the {self.people:,} people took part in the run's training "
            f"({self.in_training[0]} the first), so the result flatters it; --unseen leaves them out"
        )

    def to_json(self) -> dict[str, object]:
        """Return `people` and, counted, `people_in_training`: null where the run does not say."""
        return {
            "people": self.people,
            "people_in_training": None if self.in_training is None else len(self.in_training),
        }


@dataclass(frozen=True)
class EvaluatedRun:
    """A trained run that is evaluated.

    Attributes:
        folder: the run's folder.
        recognizer: the run itself; `recognizer.threshold` is its calibrated threshold.
        baselines: its baselines, None for a run that was made before they were kept.
        known: everyone in its training and validation, None where the run does not say.
        margin: of its triplet loss, or of the default one where it was trained with another loss.
    """

    folder: Path
    recognizer: Recognizer
    baselines: RunBaselines | None
    known: frozenset[str] | None
    margin: float

    @classmethod
    def load(cls, folder: Path) -> EvaluatedRun:
        """Load a run folder; raises RunError when it is none or damaged, WeightsError."""
        recognizer = Recognizer.load(folder)
        run = RunFolder(folder)
        people = run.people()
        return cls(
            folder,
            recognizer,
            RunBaselines.load(folder),
            None if people is None else people["train"] | people["validation"],
            _margin(run.config()),
        )

    @property
    def name(self) -> str:
        """What the run is called."""
        return RunFolder(self.folder).name

    @property
    def threshold_chosen(self) -> str:
        """How the run's threshold was chosen, as a phrase."""
        calibration = self.recognizer.calibration
        return "not recorded" if calibration is None else calibration.target.reached_by

    def embed(
        self, manifest: Manifest, *, cache: Path, on_progress: Callable[[int, int], None] | None = None
    ) -> Embedded:
        """Embed photos; see `embed_manifest`."""
        return embed_manifest(self.recognizer, manifest, cache=cache, on_progress=on_progress)

    def methods(self, embedded: Embedded) -> Iterator[tuple[str, np.ndarray, float]]:
        """Yield each method's name, its unit embeddings of the photos and its threshold; the trained head last.

        One at a time: the raw features of thousands of photos fill hundreds of megabytes.
        """
        if self.baselines is not None:
            for name, embedder in self.baselines.embedders().items():
                yield name, embedder(embedded.features), self.baselines.thresholds[name]
        yield TRAINED, embedded.embeddings, self.recognizer.threshold

    def overlap_with_training(self, people: Iterable[str]) -> TrainingOverlap:
        """Say who of these people, by NFC-normalised name, took part in the training."""
        named = composed(people)
        return TrainingOverlap(len(named), None if self.known is None else tuple(sorted(named & self.known)))

    def strangers(self, people: Iterable[str]) -> frozenset[str]:
        """Return those of these people who took no part in the training; RunError where the run does not say."""
        if self.known is None:
            raise RunError(
                f"--unseen: {self.folder} does not say whom it was trained on. Train again, or leave the option out."
            )
        return composed(people) - self.known


def composed(names: Iterable[str]) -> frozenset[str]:
    """Return names NFC-normalised, as a manifest has them."""
    return frozenset(unicodedata.normalize("NFC", name) for name in names)


def _margin(config: Mapping[str, Any]) -> float:
    settings: Mapping[str, object] = config.get("settings", {})
    given = settings.get("margin") if settings.get("loss", "triplet") == "triplet" else None
    default = LOSSES["triplet"].margin
    assert default is not None
    return float(given) if isinstance(given, int | float) else default
