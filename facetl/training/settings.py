"""The settings of one training, saved with the run, and the named presets. No TensorFlow here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from facetl.errors import TrainingError
from facetl.io.setting import field_names, option_of, setting
from facetl.losses.registry import LOSSES, MINERS, LossSpec
from facetl.samplers.sampler import SAMPLERS, Schedule, check_schedule

SCHEDULES = ("decay", "cosine")
STANDARDISATIONS = ("none", "features", "whiten", "within", "discriminant")
INITIALISERS = ("glorot", "orthogonal", "identity")
MININGS = tuple(MINERS)


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """The settings of every training by gradient descent; those that follow restate the defaults.

    Attributes:
        batch_size: examples a step.
        epochs: at most; `patience` epochs without a better validation AUC end it earlier.
        learning_rate, schedule, decay: `cosine` lowers the rate to 0, `decay` multiplies it after each epoch.
        weight_decay: decoupled, of Adam.
        seed: of every random choice.
    """

    batch_size: int = setting(64, "Photos a step.", min=2)
    epochs: int = setting(20, "At most.", min=1)
    patience: int = setting(20, "Epochs without a better validation AUC.", min=1)
    learning_rate: float = setting(1e-3, "Of the first epoch.")
    schedule: str = setting("cosine", "decay or cosine.")
    decay: float = setting(0.95, "Times the rate after each epoch, with --schedule decay.", min=0)
    weight_decay: float = setting(1e-4, "Decoupled, of Adam.", min=0)
    seed: int = setting(0, "Of every random choice.", min=0)

    def __post_init__(self) -> None:
        self._check_choices(schedule=SCHEDULES)
        check_bounds(self)
        check_schedule("learning_rate", self.learning_rate)

    def _check_choices(self, **allowed: Iterable[str]) -> None:
        for name, choices in allowed.items():
            if getattr(self, name) not in choices:
                raise TrainingError(f"{name}: expected one of {', '.join(choices)}, got {getattr(self, name)!r}.")

    def of_fit(self) -> dict[str, Any]:
        """Return the settings that every training has, by name."""
        return {each.name: getattr(self, each.name) for each in fields(FitSettings)}

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types, in the order in which the class declares them."""
        values = {name: getattr(self, name) for name in field_names(type(self))}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild settings that `to_json` gave; TrainingError names a field that is not known."""
        if unknown := set(values) - set(field_names(cls)):
            raise TrainingError(f"settings: not known in this version: {', '.join(sorted(unknown))}.")
        frozen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**frozen)


def check_bounds(settings: Any) -> None:
    """Raise TrainingError for a setting below the least value of its option."""
    for name in field_names(type(settings)):
        option, value = option_of(type(settings), name), getattr(settings, name)
        if option is not None and option.min is not None and value is not None and not value >= option.min:
            raise TrainingError(f"{name}: expected {option.min:g} or more, got {value:g}.")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(FitSettings):
    """Every choice of a head's training.

    Attributes:
        widths: units of the dense layers; the last is the embedding's length.
        activations: one Keras activation per layer.
        normalised: per layer, whether its output is L2-normalised; the last must be.
        dropout: share of a layer's inputs dropped in training, before every dense layer but the first.
        input_dropout: the same before the first.
        root: take the signed square root of the features first (power normalisation; Perronnin et al. 2010), unless
            they are signed themselves, as embeddings are.
        standardise: `none`, `features` (zero mean, unit variance), `whiten` (the same, then PCA to `components`), or
            `within` (then also whitened by the scatter within a person; Hatch, Kajarekar, Stolcke 2006), or
            `discriminant` (then also turned so that the directions that tell people apart best come first, each scaled
            by how far it can be trusted; Ioffe 2006).
        components: principal components kept; at most half as many as there are training photos.
        regions: with `discriminant`, learn one for each of nine regions of each tapped map, and join them.
        joined: directions kept of the regions' together.
        shrinkage: of the scatter within a person towards a multiple of the identity, in [0, 1].
        initialiser: of the dense layers, `glorot` or `orthogonal`.
        loss: one of LOSSES; all but `triplet` take their batches from `pk`, and `contrastive` also from `pairs`.
        margin, loss_scale: of the loss; None for its own, see `loss_options`. The triplet loss's margin is a squared
            distance, the contrastive loss's a distance, ArcFace's an angle in radians, the others' are cosines. No
            threshold follows from it: that comes from validation people, whatever the margin.
        softness: of the triplet loss, 0 for the hinge max(0, x); above it softness · log(1 + exp(x / softness)), which
            never quite lets go of a solved triplet (the soft margin of Hermans, Beyer, Leibe 2017).
        sampler: `neighbours`, `random` or `pk`; `pairs` draws pairs for the contrastive loss in place of triplets.
        most_pairs: distinct pairs that `pairs` draws from, half of each kind; 0 for all that the photos make.
        rounds: times every anchor is drawn in an epoch; `pairs` draws two pairs for each.
        anchors_per_person: at most so many photos of a person are anchors in an epoch, drawn anew; 0 for all.
        temperature: of the neighbours' softmax over squared distance; smaller is sharper. This and the next two are a
            number, or a pair (first epoch's, last epoch's) with a straight line between.
        candidates: nearest photos of other people among which a negative is drawn.
        uniform_share: ε, share of triplets drawn uniformly even when warmed up.
        warmup: epochs of uniform draws only.
        ramp: epochs over which the share of neighbour draws then grows to 1 − ε.
        people_per_batch, photos_per_person: of `pk`.
        mining: of the triplet loss in batches from `pk`.
        batch_size: triplets a step (`random`, `neighbours`), or pairs (`pairs`).
        validation: share of the training people held out to choose the epoch and the threshold.
        fallback: whether the raw features take the head's place where they tell people apart better (see fallback).
        plot_embeddings: whether TensorBoard shows a few validation people's embeddings in the plane, epoch by epoch.

    The others are those of FitSettings.
    """

    widths: tuple[int, ...] = setting((512, 256, 128), "Units of the dense layers, as 512,256,128.")
    activations: tuple[str, ...] = setting(
        ("linear", "linear", "linear"), "One per layer, or one for all, as sigmoid,sigmoid,tanh."
    )
    normalised: tuple[bool, ...] = (False, False, True)
    dropout: float = setting(0.0, "Share of the hidden layers' inputs dropped.")
    input_dropout: float = setting(0.5, "Share of the first layer's inputs dropped.")
    root: bool = setting(True, "Take the signed square root of the features first.")
    standardise: str = setting("discriminant", "none, features, whiten, within or discriminant.")
    components: int = setting(300, "Principal components kept.", min=2)
    regions: bool = setting(True, "A discriminant of each of nine regions, with --standardise discriminant.")
    joined: int = setting(512, "Directions kept of the regions together.", min=1)
    shrinkage: float = setting(0.05, "Of the scatter within a person, in [0, 1].")
    initialiser: str = setting("identity", "Of the dense layers: glorot, orthogonal or identity.")
    loss: str = setting(
        "triplet",
        "triplet, contrastive, n-pair, multi-similarity, supcon, softmax, arcface, cosface, proxy-anchor or circle; "
        "all but triplet with --sampler pk, contrastive also with pairs.",
    )
    margin: float | None = setting(None, "Of the loss. Default: its own.")
    loss_scale: float | None = setting(None, "Of the loss's similarities, 1 / temperature. Default: its own.")
    softness: float = setting(0.5, "Of the triplet loss; 0 is the hinge.", min=0)
    sampler: str = setting("neighbours", "neighbours, random, pk or pairs.")
    most_pairs: int = setting(0, "Distinct pairs to draw from, with --sampler pairs; 0 for all.", min=0)
    rounds: int = setting(1, "Times every anchor is drawn in an epoch.", min=1)
    anchors_per_person: int = setting(20, "Photos of a person that are anchors in an epoch, at most; 0 for all.", min=0)
    temperature: Schedule = setting(0.5, "Of the neighbours' weights; smaller is sharper.")
    candidates: Schedule = setting(2000, "Nearest photos of others to draw from.", whole=True)
    uniform_share: Schedule = setting(0.2, "Share of triplets drawn uniformly.")
    warmup: int = setting(2, "Epochs of uniform draws at first.", min=0)
    ramp: int = setting(3, "Epochs in which neighbour draws then take over.", min=0)
    people_per_batch: int = setting(128, "P, with --sampler pk.", min=2)
    photos_per_person: int = setting(8, "K at most, with --sampler pk.", min=2)
    mining: str = setting(
        "batch-hard",
        "batch-hard, batch-all, semi-hard or distance-weighted, with --sampler pk and the triplet loss.",
    )
    batch_size: int = setting(256, "Triplets or pairs a step, but with --sampler pk.", min=1)
    epochs: int = 14
    patience: int = 14
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    decay: float = 0.95
    weight_decay: float = 0.0
    validation: float = 0.12
    fallback: bool = setting(True, "Keep the raw features where the head is not better. Default: the preset's.")
    plot_embeddings: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.widths) == len(self.activations) == len(self.normalised) > 0:
            raise TrainingError(
                f"head: widths, activations and normalised must be of one length, got {len(self.widths)}, "
                f"{len(self.activations)} and {len(self.normalised)}."
            )
        if not self.normalised[-1]:
            raise TrainingError("head: the last layer must be normalised, since distances are of unit vectors.")
        self._check_choices(loss=LOSSES, standardise=STANDARDISATIONS, mining=MININGS, initialiser=INITIALISERS)
        for name in ("temperature", "candidates"):
            check_schedule(name, getattr(self, name))
        for name in ("dropout", "input_dropout", "uniform_share", "shrinkage"):
            check_schedule(name, getattr(self, name), share=True)
        if self.most_pairs == 1:
            raise TrainingError(f"most_pairs: expected 2 or more, or 0 for all, got {self.most_pairs}.")
        self._check_loss()

    @property
    def sampler_gives(self) -> str:
        """The form of the sampler's batches, `triplets`, `labels` or `pairs`; TrainingError for an unknown sampler."""
        if self.sampler not in SAMPLERS:
            raise TrainingError(f"sampler: expected one of {', '.join(SAMPLERS)}, got {self.sampler!r}.")
        return SAMPLERS[self.sampler].gives

    def _check_loss(self) -> None:
        own, gives = LOSSES[self.loss], self.sampler_gives
        if gives == "pairs" and self.loss != "contrastive":
            raise TrainingError(
                f"sampler: {self.sampler} gives pairs of photos, which the loss contrastive takes, got the loss "
                f"{self.loss}. Choose the loss contrastive, or another sampler."
            )
        if self.loss != "triplet" and gives == "triplets":
            raise TrainingError(
                f"loss: {self.loss} needs the person of each photo of a batch, which the sampler pk gives, got the "
                f"sampler {self.sampler}. Choose the sampler pk, or the loss triplet."
            )
        for name, default, limit in (
            ("margin", own.margin, own.margin_below),
            ("loss_scale", own.scale, math.inf),
        ):
            value = getattr(self, name)
            if value is not None and default is None:
                raise TrainingError(f"{name}: the loss {self.loss} has none, got {value}. Leave it out.")
            if value is not None and not 0 < value < limit:
                bound = f" and below {limit:.4g}" if limit < math.inf else ""
                raise TrainingError(f"{name}: expected a number above 0{bound} for {self.loss}, got {value}.")

    @property
    def loss_options(self) -> LossSpec:
        """The margin and scale that the loss is taken with: those given, else its own."""
        own = LOSSES[self.loss]
        return own._replace(
            margin=own.margin if self.margin is None else self.margin,
            scale=own.scale if self.loss_scale is None else self.loss_scale,
        )

    @property
    def whitening_options(self) -> dict[str, Any]:
        """The arguments of `Whitening.fit`."""
        names = ("root", "components", "regions", "joined", "shrinkage", "seed")
        return {"method": self.standardise} | {name: getattr(self, name) for name in names}

    @property
    def layer_options(self) -> dict[str, Any]:
        """The arguments of `build_trunk`."""
        names = ("widths", "activations", "normalised", "dropout", "input_dropout", "initialiser", "seed")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types, the loss's margin and scale as they are used."""
        options = self.loss_options
        return super().to_json() | {"margin": options.margin, "loss_scale": options.scale}


BALANCED = TrainingSettings()

# The classical transfer-learning recipe: see docs/recipes.md. Its tap is `avg`, on the photo without its mirror.
TUTORIAL = TrainingSettings(
    activations=("sigmoid", "sigmoid", "tanh"),
    normalised=(False, True, True),
    dropout=0.0,
    input_dropout=0.0,
    root=False,
    standardise="none",
    initialiser="glorot",
    softness=0.0,
    sampler="random",
    anchors_per_person=0,
    learning_rate=1e-4,
    schedule="decay",
    decay=0.999,
    weight_decay=0.0,
    batch_size=64,
    epochs=60,
    patience=60,
    # Its figures are those of its recipe, also where the raw features are better.
    fallback=False,
)

BEST = replace(BALANCED, widths=(512,), activations=("linear",), normalised=(True,))

PRESETS = {"balanced": BALANCED, "tutorial": TUTORIAL, "best": BEST}


def preset(name: str, **changes: Any) -> TrainingSettings:
    """Return a preset with some settings changed; see `changed`. TrainingError for a preset that is not known."""
    if name not in PRESETS:
        raise TrainingError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}.")
    return changed(PRESETS[name], **changes)


def changed(base: TrainingSettings, **changes: Any) -> TrainingSettings:
    """Return settings with some of them changed; a change of None keeps the value.

    A loss that needs the sampler `pk` gets it unless another is named, and the sampler `pairs` gets its loss; another
    loss brings its own margin and scale. Raises TrainingError for a change that would have no effect under the sampler
    and the loss.
    """
    given = {key: value for key, value in changes.items() if value is not None}
    if given.get("loss", "triplet") in LOSSES.keys() - {"triplet"}:
        given = {"sampler": "pk", **given}
    if given.get("sampler") == "pairs":
        given = {"loss": "contrastive", **given}
    if given.get("loss", base.loss) != base.loss:
        given = {"margin": None, "loss_scale": None, **given}
    chosen = replace(base, **given)
    for name in given:
        samplers = [
            known
            for known, sampler in SAMPLERS.items()
            if name in sampler.effective_settings or (name == "batch_size" and sampler.sized)
        ]
        mined = name == "mining"
        if (samplers and chosen.sampler not in samplers) or (mined and chosen.loss != "triplet"):
            where = f"the sampler {' or '.join(samplers)}{' and the loss triplet' if mined else ''}"
            raise TrainingError(
                f"{name}: counts only with {where}, got the sampler {chosen.sampler} and the loss {chosen.loss}. "
                "Leave it out."
            )
    return chosen
