"""The settings of one training, saved with the run, and the named presets. No TensorFlow here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from facetl.errors import TrainingError

SAMPLERS = ("neighbours", "random", "pk", "pairs")
SCHEDULES = ("decay", "cosine")
STANDARDISATIONS = ("none", "features", "whiten", "within", "discriminant")
INITIALISERS = ("glorot", "orthogonal", "identity")
MININGS = ("batch-hard", "batch-all", "semi-hard", "distance-weighted")

# A number, or where it begins and where it ends: linear over the epochs.
Course = float | tuple[float, float]


class LossOptions(NamedTuple):
    """A loss's margin and scale on unit embeddings; None where it has none. `margin_below` bounds the margin."""

    margin: float | None = None
    scale: float | None = None
    margin_below: float = math.inf


# What each loss takes unless told otherwise: docs/recipes.md gives the papers.
LOSSES: Mapping[str, LossOptions] = MappingProxyType(
    {
        "triplet": LossOptions(margin=0.2),
        "contrastive": LossOptions(margin=1.0, margin_below=2),
        "n-pair": LossOptions(scale=10.0),
        "multi-similarity": LossOptions(margin=0.1, scale=50.0, margin_below=2),
        "supcon": LossOptions(scale=10.0),
        "softmax": LossOptions(scale=10.0),
        "arcface": LossOptions(margin=0.5, scale=16.0, margin_below=math.pi / 2),
        "cosface": LossOptions(margin=0.35, scale=16.0, margin_below=2),
        "proxy-anchor": LossOptions(margin=0.1, scale=32.0, margin_below=1),
        "circle": LossOptions(margin=0.4, scale=80.0, margin_below=1),
    }
)


def _ends(name: str, course: Course) -> tuple[float, ...]:
    """Return a setting's first and last value, or the one that it keeps; TrainingError for another form."""
    values = course if isinstance(course, tuple) else (course,)
    if len(values) > 2 or not values or not all(isinstance(value, int | float) for value in values):
        raise TrainingError(f"{name}: expected a number or a pair of them, first and last, got {course!r}.")
    return tuple(values)


def _said(course: Course) -> str:
    return ":".join(str(value) for value in course) if isinstance(course, tuple) else str(course)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
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
        epochs: at most; `patience` epochs without a better validation AUC end it earlier.
        learning_rate, schedule, decay: `decay` multiplies the rate after each epoch, `cosine` lowers it to 0.
        weight_decay: decoupled, of Adam.
        validation: share of the training people held out to choose the epoch and the threshold.
        fallback: whether the raw features take the head's place where they tell people apart better (see fallback).
        plot_embeddings: whether TensorBoard shows a few validation people's embeddings in the plane, epoch by epoch.
        seed: of every random choice.
    """

    widths: tuple[int, ...] = (512, 256, 128)
    activations: tuple[str, ...] = ("linear", "linear", "linear")
    normalised: tuple[bool, ...] = (False, False, True)
    dropout: float = 0.0
    input_dropout: float = 0.5
    root: bool = True
    standardise: str = "discriminant"
    components: int = 300
    regions: bool = True
    joined: int = 512
    shrinkage: float = 0.05
    initialiser: str = "identity"
    loss: str = "triplet"
    margin: float | None = None
    loss_scale: float | None = None
    softness: float = 0.5
    sampler: str = "neighbours"
    most_pairs: int = 0
    rounds: int = 1
    anchors_per_person: int = 20
    temperature: Course = 0.5
    candidates: Course = 2000
    uniform_share: Course = 0.2
    warmup: int = 2
    ramp: int = 3
    people_per_batch: int = 128
    photos_per_person: int = 8
    mining: str = "batch-hard"
    batch_size: int = 256
    epochs: int = 14
    patience: int = 14
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    decay: float = 0.95
    weight_decay: float = 0.0
    validation: float = 0.12
    fallback: bool = True
    plot_embeddings: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if not len(self.widths) == len(self.activations) == len(self.normalised) > 0:
            raise TrainingError(
                f"head: widths, activations and normalised must be of one length, got {len(self.widths)}, "
                f"{len(self.activations)} and {len(self.normalised)}."
            )
        if not self.normalised[-1]:
            raise TrainingError("head: the last layer must be normalised, since distances are of unit vectors.")
        for name, allowed in (
            ("loss", LOSSES),
            ("sampler", SAMPLERS),
            ("schedule", SCHEDULES),
            ("standardise", STANDARDISATIONS),
            ("mining", MININGS),
            ("initialiser", INITIALISERS),
        ):
            if getattr(self, name) not in allowed:
                raise TrainingError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}.")
        for name in ("temperature", "learning_rate", "epochs", "batch_size", "candidates", "rounds", "joined"):
            if not all(0 < value < math.inf for value in _ends(name, getattr(self, name))):
                raise TrainingError(f"{name}: expected a number above 0, got {_said(getattr(self, name))}.")
        for name in ("dropout", "input_dropout", "uniform_share", "shrinkage"):
            if not all(0 <= value <= 1 for value in _ends(name, getattr(self, name))):
                raise TrainingError(f"{name}: expected a share in [0, 1], got {_said(getattr(self, name))}.")
        if not self.softness >= 0 or self.anchors_per_person < 0:
            raise TrainingError("softness and anchors_per_person: expected numbers from 0.")
        if self.people_per_batch < 2 or self.photos_per_person < 2:
            raise TrainingError("pk: a batch needs at least 2 people with 2 photos each.")
        if self.most_pairs < 0 or self.most_pairs == 1:
            raise TrainingError(f"most_pairs: expected 2 or more, or 0 for all, got {self.most_pairs}.")
        self._check_loss()

    def _check_loss(self) -> None:
        own = LOSSES[self.loss]
        if self.sampler == "pairs" and self.loss != "contrastive":
            raise TrainingError(
                f"sampler: pairs gives pairs of photos, which the loss contrastive takes, got the loss {self.loss}. "
                "Choose the loss contrastive, or another sampler."
            )
        if self.loss != "triplet" and self.sampler not in ("pk", "pairs"):
            raise TrainingError(
                f"loss: {self.loss} needs to know who is in a batch, which the sampler pk tells, got the sampler "
                f"{self.sampler}. Choose the sampler pk, or the loss triplet."
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
    def loss_options(self) -> LossOptions:
        """The margin and scale that the loss is taken with: those given, else its own."""
        own = LOSSES[self.loss]
        return own._replace(
            margin=own.margin if self.margin is None else self.margin,
            scale=own.scale if self.loss_scale is None else self.loss_scale,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types, the loss's margin and scale as they are used."""
        options = self.loss_options
        used = {**asdict(self), "margin": options.margin, "loss_scale": options.scale}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in used.items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainingSettings:
        """Rebuild settings that `to_json` gave; TrainingError names a field that is not known."""
        known = {field.name for field in fields(cls)}
        if unknown := set(values) - known:
            raise TrainingError(f"settings: not known in this version: {', '.join(sorted(unknown))}.")
        frozen: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**frozen)


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


# What has a say only with some samplers: refused elsewhere, when it is asked for by name.
_APPLIES = (
    (
        ("mining",),
        "the sampler pk and the loss triplet",
        lambda chosen: (chosen.sampler, chosen.loss) == ("pk", "triplet"),
    ),
    (("people_per_batch", "photos_per_person"), "the sampler pk", lambda chosen: chosen.sampler == "pk"),
    (("batch_size",), "the samplers random, neighbours and pairs", lambda chosen: chosen.sampler != "pk"),
    (("most_pairs",), "the sampler pairs", lambda chosen: chosen.sampler == "pairs"),
    (
        ("temperature", "candidates", "uniform_share", "warmup"),
        "the sampler neighbours",
        lambda chosen: chosen.sampler == "neighbours",
    ),
)


def preset(name: str, **changes: Any) -> TrainingSettings:
    """Return a preset with some settings changed; a change of None keeps the preset's value.

    A loss that needs the sampler `pk` gets it unless another is named, and the sampler `pairs` gets its loss. Raises
    TrainingError for a change that would have no effect under the sampler and the loss.
    """
    if name not in PRESETS:
        raise TrainingError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}.")
    given = {key: value for key, value in changes.items() if value is not None}
    if given.get("loss", "triplet") in LOSSES.keys() - {"triplet"}:
        given = {"sampler": "pk", **given}
    if given.get("sampler") == "pairs":
        given = {"loss": "contrastive", **given}
    chosen = replace(PRESETS[name], **given)
    for names, where, applies in _APPLIES:
        idle = [setting for setting in names if setting in given]
        if idle and not applies(chosen):
            raise TrainingError(
                f"{idle[0]}: has a say with {where}, got the sampler {chosen.sampler} and the loss {chosen.loss}. "
                "Leave it out."
            )
    return chosen
