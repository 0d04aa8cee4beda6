"""A run under evaluation: what it makes of any photos, its baselines beside it, and the people it knows already."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facetl.data.manifest import Manifest
from facetl.errors import RunError
from facetl.io.arrays import Rows
from facetl.io.files import stored_arrays, write_arrays
from facetl.losses.registry import LOSSES
from facetl.metrics.baselines import Baselines
from facetl.metrics.linalg import Float32s, centred, check_dim, normalised, projected
from facetl.recognition.photo_embeddings import Embedded, embed_manifest
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.training import layers  # noqa: F401 - registers the layer that a stored head may hold
from facetl.training.fit import Embedder
from facetl.training.head import embed

TRAINED = "trained"
BASELINES = "baselines.npz"
UNTRAINED = "untrained.keras"
RUN_BASELINES = ("raw", "whitened", "lda", "untrained")
_MAPS = ("whitened", "lda")


@dataclass(frozen=True)
class RunBaselines:
    """The baselines of one run, features → unit embeddings: what a photo's would be without the trained head.

    They were fitted on the training photos, which need not be at hand any more when other photos are evaluated.

    Attributes:
        mean: of the training features, float32 [dim].
        centre: what the raw features lose before they are normalised, that mean or zeros (see Raw).
        maps: `whitened` and `lda`, float32 [dim, width] each, applied to features minus the mean.
        untrained: the head with random weights, features [batch, dim] → [batch, width].
        thresholds: baseline → squared distance up to which two photos count as one person, as chosen in training.
    """

    mean: Float32s
    centre: Float32s
    maps: Mapping[str, Float32s]
    untrained: keras.Model
    thresholds: Mapping[str, float]

    @classmethod
    def of(cls, baselines: Baselines, untrained: keras.Model, thresholds: Mapping[str, float]) -> RunBaselines:
        """Take them from fitted baselines; `thresholds` may hold more than the baselines."""
        whitened, lda = baselines.whitened.projection, baselines.lda.projection
        mean, centre = baselines.raw.mean, baselines.raw.centre
        if whitened is None or lda is None or mean is None or centre is None:
            raise RunError("A run's baselines are fitted ones. Received: baselines before fit.")
        kept = {name: thresholds[name] for name in RUN_BASELINES}
        return cls(mean, centre, {"whitened": whitened, "lda": lda}, untrained, kept)

    def embedders(self) -> Mapping[str, Embedder]:
        """Return baseline → its way from features, float [photos, dim], to unit-norm float32 [photos, width].

        Each raises DataError where the features have another length than those of training.
        """
        linear = {name: partial(self._mapped, name) for name in _MAPS}
        return {"raw": partial(centred, centre=self.centre), **linear, "untrained": self._untrained}

    def _mapped(self, name: str, features: Rows) -> Float32s:
        check_dim(features, len(self.mean))
        return normalised(projected(features, self.maps[name], self.mean @ self.maps[name]))

    def _untrained(self, features: Rows) -> np.ndarray:
        check_dim(features, len(self.mean))
        return embed(self.untrained, features)

    def save(self, folder: Path) -> None:
        """Write `baselines.npz` and `untrained.keras` into a run folder, readable by their owner alone."""
        arrays: dict[str, np.ndarray] = {"mean": self.mean, "centre": self.centre}
        for name in _MAPS:
            # Columns of one size: float16 then keeps three digits of each, in half the space.
            scale = np.abs(self.maps[name]).max(axis=0)
            scale = np.where(scale > 0, scale, 1).astype(np.float32)
            arrays |= {f"{name}_axes": (self.maps[name] / scale).astype(np.float16), f"{name}_scale": scale}
        arrays["thresholds"] = np.array([self.thresholds[name] for name in RUN_BASELINES], np.float64)
        write_arrays(folder / BASELINES, **arrays)
        self.untrained.save(folder / UNTRAINED)
        (folder / UNTRAINED).chmod(0o600)

    @classmethod
    def load(cls, folder: Path) -> RunBaselines | None:
        """Load a run's baselines; None for a run that was made before they were kept.

        Raises RunError where a file is damaged, or one of the two is missing.
        """
        if not (folder / BASELINES).exists() and not (folder / UNTRAINED).exists():
            return None
        remedy = "Train again."
        try:
            with stored_arrays(folder / BASELINES, "the run's baselines", remedy) as stored:
                mean, centre = stored["mean"].astype(np.float32), stored["centre"].astype(np.float32)
                maps = {
                    name: stored[f"{name}_axes"].astype(np.float32) * stored[f"{name}_scale"].astype(np.float32)
                    for name in _MAPS
                }
                thresholds = dict(zip(RUN_BASELINES, stored["thresholds"].tolist(), strict=True))
        except FileNotFoundError as error:
            raise RunError(f"{folder}: the run's baselines cannot be read ({error}). {remedy}") from error
        untrained = RunFolder(folder).model(UNTRAINED)
        shapes = [axes.shape[:1] for axes in maps.values()]
        if [centre.shape, *shapes] != [mean.shape] * (1 + len(_MAPS)) or untrained.input_shape[1:] != mean.shape:
            raise RunError(f"{folder}: the run's baselines are of different lengths. Train again.")
        return cls(mean, centre, maps, untrained, thresholds)


@dataclass(frozen=True)
class TrainingOverlap:
    """The people of an evaluation whom the run knows already: they make the result flatter it.

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
        """The run's name."""
        return RunFolder(self.folder).name

    @property
    def threshold_chosen(self) -> str:
        """The rule by which the run's threshold was chosen, as a phrase."""
        calibration = self.recognizer.calibration
        return "not recorded" if calibration is None else calibration.reached_by

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
        """Return who of these people, by NFC-normalised name, took part in the training."""
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
