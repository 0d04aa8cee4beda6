"""The settings of one training, saved with the run, and the named presets. No TensorFlow here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from facetl.errors import TrainingError

SAMPLERS = ("neighbours", "random", "pk")
SCHEDULES = ("decay", "cosine")
STANDARDISATIONS = ("none", "features", "whiten", "within", "discriminant")
INITIALISERS = ("glorot", "orthogonal", "identity")
MININGS = ("batch-hard", "batch-all")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Every choice of a head's training.

    Attributes:
        widths: units of the dense layers; the last is the embedding's length.
        activations: one Keras activation per layer.
        normalised: per layer, whether its output is L2-normalised; the last must be.
        dropout: share of a layer's inputs dropped in training, before every dense layer but the first.
        input_dropout: the same before the first.
        root: take the signed square root of the features first (power normalisation; Perronnin et al. 2010).
        standardise: `none`, `features` (zero mean, unit variance), `whiten` (the same, then PCA to `components`), or
            `within` (then also whitened by the scatter within a person; Hatch, Kajarekar, Stolcke 2006), or
            `discriminant` (then also turned so that the directions that tell people apart best come first, each scaled
            by how far it can be trusted; Ioffe 2006).
        components: principal components kept; at most half as many as there are training photos.
        shrinkage: of the scatter within a person towards a multiple of the identity, in [0, 1].
        initialiser: of the dense layers, `glorot` or `orthogonal`.
        margin: α of the triplet loss, in squared distance.
        softness: 0 for the hinge max(0, x); above it softness · log(1 + exp(x / softness)), which never quite
            lets go of a solved triplet (the soft margin of Hermans, Beyer, Leibe 2017).
        sampler: `neighbours`, `random` or `pk`.
        rounds: times every anchor is drawn in an epoch.
        anchors_per_person: at most so many photos of a person are anchors in an epoch, drawn anew; 0 for all.
        temperature: of the neighbours' softmax over squared distance; smaller is sharper.
        candidates: nearest photos of other people among which a negative is drawn.
        uniform_share: ε, share of triplets drawn uniformly even when warmed up.
        warmup: epochs of uniform draws only.
        ramp: epochs over which the share of neighbour draws then grows to 1 − ε.
        people_per_batch, photos_per_person, mining: of `pk`.
        batch_size: triplets a step (`random`, `neighbours`).
        epochs: at most; `patience` epochs without a better validation AUC end it earlier.
        learning_rate, schedule, decay: `decay` multiplies the rate after each epoch, `cosine` lowers it to 0.
        weight_decay: decoupled, of Adam.
        validation: share of the training people held out to choose the epoch and the threshold.
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
    shrinkage: float = 0.05
    initialiser: str = "identity"
    margin: float = 0.2
    softness: float = 0.5
    sampler: str = "neighbours"
    rounds: int = 1
    anchors_per_person: int = 20
    temperature: float = 0.5
    candidates: int = 2000
    uniform_share: float = 0.2
    warmup: int = 2
    ramp: int = 3
    people_per_batch: int = 128
    photos_per_person: int = 8
    mining: str = "batch-hard"
    batch_size: int = 256
    epochs: int = 14
    patience: int = 8
    learning_rate: float = 5e-4
    schedule: str = "cosine"
    decay: float = 0.95
    weight_decay: float = 0.0
    validation: float = 0.12
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
            ("sampler", SAMPLERS),
            ("schedule", SCHEDULES),
            ("standardise", STANDARDISATIONS),
            ("mining", MININGS),
            ("initialiser", INITIALISERS),
        ):
            if getattr(self, name) not in allowed:
                raise TrainingError(f"{name}: expected one of {', '.join(allowed)}, got {getattr(self, name)!r}.")
        for name in (
            "margin",
            "temperature",
            "learning_rate",
            "epochs",
            "batch_size",
            "candidates",
            "rounds",
        ):
            if getattr(self, name) <= 0:
                raise TrainingError(f"{name}: expected a number above 0, got {getattr(self, name)}.")
        for name in ("dropout", "input_dropout", "uniform_share", "shrinkage"):
            if not 0 <= getattr(self, name) <= 1:
                raise TrainingError(f"{name}: expected a share in [0, 1], got {getattr(self, name)}.")
        if self.softness < 0 or self.anchors_per_person < 0:
            raise TrainingError("softness and anchors_per_person: expected numbers from 0.")
        if self.people_per_batch < 2 or self.photos_per_person < 2:
            raise TrainingError("pk: a batch needs at least 2 people with 2 photos each.")

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

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
    margin=0.2,
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
)

PRESETS = {"balanced": BALANCED, "tutorial": TUTORIAL}


def preset(name: str, **changes: Any) -> TrainingSettings:
    """Return a preset with some settings changed; a change of None keeps the preset's value."""
    if name not in PRESETS:
        raise TrainingError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}.")
    return replace(PRESETS[name], **{key: value for key, value in changes.items() if value is not None})
