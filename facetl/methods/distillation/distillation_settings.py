"""The settings of a distillation, saved with the run. No TensorFlow here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from facetl.errors import TrainingError
from facetl.training.settings import TrainingSettings

STUDENTS = ("mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v2")
INITIAL = ("auto", "scratch")
AUGMENTATIONS = ("none", "mirror", "full")
LEAST_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class DistillationSettings:
    """Every choice of a distillation.

    Attributes:
        student: one of STUDENTS, or the path of a Keras file (`.keras`), photos → a map or a vector.
        size: side of the student's input, pixels; a file's own where it has one.
        alpha: multiplies the channels of every layer of a net of STUDENTS.
        tap: layer behind which the student is cut; None for its end.
        initial: `auto` begins with ImageNet weights where they can be had, for mobilenet_v2 else with the registry's
            stand-in, else at random; `scratch` at random.
        frozen: the student's trunk stays as it begins, and only a projection of its cached output is trained.
        components: of that output's principal components, what the projection sees, at most.
        hint_epochs: passes over the photos in which the student's maps learn the teacher's before its embeddings are
            looked at; 0 for none. Without effect where the trunk is frozen or the teacher's features have no maps.
        hint_learning_rate: at its height; it rises in the first of these epochs and then falls to 0.
        cosine: weight of 1 − cos(student, teacher), each photo by itself.
        l2: weight of |student − teacher|, the Euclidean distance.
        distances, angles: weights of the relational losses (Park, Kim, Lu, Cho: Relational Knowledge Distillation, CVPR
            2019).
        soft: weight of the soft targets: which training person a photo looks like (Hinton, Vinyals, Dean: Distilling
            the Knowledge in a Neural Network, 2015).
        temperature: of both softmaxes there.
        dropout: share of the projection's inputs dropped in training.
        augment: `none`, `mirror`, or `full`: shifted, scaled, turned and of another brightness and contrast, too.
        batch_size: photos a step.
        epochs: at most; `patience` epochs without a better validation AUC end it earlier.
        learning_rate, schedule, decay: `cosine` lowers the rate to 0, `decay` multiplies it after each epoch.
        weight_decay: decoupled, of Adam.
        seed: of every random choice.
    """

    student: str = "mobilenet_v3_small"
    size: int = 112
    alpha: float = 1.0
    tap: str | None = None
    initial: str = "auto"
    frozen: bool = False
    components: int = 400
    hint_epochs: int = 30
    hint_learning_rate: float = 3e-3
    cosine: float = 1.0
    l2: float = 0.0
    distances: float = 1.0
    angles: float = 0.0
    soft: float = 0.0
    temperature: float = 2.0
    dropout: float = 0.0
    augment: str = "full"
    batch_size: int = 64
    epochs: int = 20
    patience: int = 20
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    decay: float = 0.95
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.student not in STUDENTS and not self.student.endswith(".keras"):
            raise TrainingError(
                f"student: expected one of {', '.join(STUDENTS)} or a Keras file (.keras), got {self.student!r}."
            )
        for name, known in (("initial", INITIAL), ("augment", AUGMENTATIONS)):
            if getattr(self, name) not in known:
                raise TrainingError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}.")
        if self.size < LEAST_SIDE or not 0 < self.alpha <= 2:
            raise TrainingError(
                f"size, alpha: expected at least {LEAST_SIDE} pixels and a factor in (0, 2], got {self.size} and "
                f"{self.alpha:g}."
            )
        weights = self.weights
        if not all(weight >= 0 for weight in weights.values()) or not any(weights.values()):
            told = ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
            raise TrainingError(f"loss weights: expected numbers from 0, one of them above it, got {told}.")
        if not self.temperature > 0 or not 0 <= self.dropout < 1:
            raise TrainingError(
                f"temperature, dropout: expected one above 0 and a share in [0, 1), got {self.temperature:g} and "
                f"{self.dropout:g}."
            )
        if self.components < 2:
            raise TrainingError(f"components: expected at least 2, got {self.components}.")
        if self.hint_epochs < 0 or not self.hint_learning_rate > 0:
            raise TrainingError(
                f"hint_epochs, hint_learning_rate: expected a number from 0 and a rate above 0, got {self.hint_epochs} "
                f"and {self.hint_learning_rate:g}."
            )
        # What the two share is checked in one place.
        _ = self.training

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss by its name."""
        return {name: getattr(self, name) for name in ("cosine", "l2", "distances", "angles", "soft")}

    @property
    def training(self) -> TrainingSettings:
        """The same choices in the terms of a head's training, whose schedule and standardisation are used."""
        return TrainingSettings(
            sampler="random",
            standardise="whiten",
            components=self.components,
            batch_size=self.batch_size,
            epochs=self.epochs,
            patience=self.patience,
            learning_rate=self.learning_rate,
            schedule=self.schedule,
            decay=self.decay,
            weight_decay=self.weight_decay,
            seed=self.seed,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types; `loss` is there as other runs have it."""
        return {**asdict(self), "loss": "distillation"}
