"""The settings of a distillation, saved with the run. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from facetl.errors import TrainingError
from facetl.io.setting import setting
from facetl.training.settings import FitSettings

STUDENTS = ("mobilenet_v3_small", "mobilenet_v3_large", "mobilenet_v2")
INITIAL = ("auto", "scratch")
AUGMENTATIONS = ("none", "mirror", "full")
LEAST_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(FitSettings):
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

    The others are those of FitSettings.
    """

    student: str = setting(
        "mobilenet_v3_small", "mobilenet_v3_small, mobilenet_v3_large, mobilenet_v2, or a Keras file."
    )
    size: int = setting(112, "Side of the student's input, pixels.", min=LEAST_SIDE)
    alpha: float = setting(1.0, "Multiplies the channels of its layers (alpha).", name="width")
    tap: str | None = setting(None, "Layer behind which it is cut. Default: its end.")
    initial: str = setting("auto", "auto: ImageNet's weights where they can be had; scratch: random.")
    frozen: bool = setting(False, "Keep the student's net as it is; train a projection of its features.", negated=False)
    components: int = setting(400, "Seen by that projection, at most.", min=2)
    hint_epochs: int = setting(30, "Epochs in which its maps learn the teacher's, at first.", min=0)
    hint_learning_rate: float = setting(3e-3, "At its height, in these epochs.")
    cosine: float = setting(1.0, "Weight of the cosine to the teacher's.", min=0)
    l2: float = setting(0.0, "Weight of the distance to the teacher's.", min=0)
    distances: float = setting(1.0, "Weight of distances of pairs (RKD).", min=0)
    angles: float = setting(0.0, "Weight of angles of triplets (RKD).", min=0)
    soft: float = setting(0.0, "Weight of soft targets, training people.", min=0)
    temperature: float = setting(2.0, "Of the soft targets.")
    dropout: float = setting(0.0, "Share of the projection's inputs dropped.")
    augment: str = setting("full", "none, mirror or full.")
    batch_size: int = 64
    epochs: int = setting(20, "At most, behind those.", min=1)
    patience: int = 20
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    decay: float = 0.95
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.student not in STUDENTS and not self.student.endswith(".keras"):
            raise TrainingError(
                f"student: expected one of {', '.join(STUDENTS)} or a Keras file (.keras), got {self.student!r}."
            )
        self._check_choices(initial=INITIAL, augment=AUGMENTATIONS)
        if not 0 < self.alpha <= 2:
            raise TrainingError(f"alpha: expected a factor in (0, 2], got {self.alpha:g}.")
        if not any(self.weights.values()):
            raise TrainingError(f"loss weights: expected one of {', '.join(self.weights)} above 0, got none.")
        if not self.temperature > 0 or not 0 <= self.dropout < 1:
            raise TrainingError(
                f"temperature, dropout: expected one above 0 and a share in [0, 1), got {self.temperature:g} and "
                f"{self.dropout:g}."
            )
        if not self.hint_learning_rate > 0:
            raise TrainingError(f"hint_learning_rate: expected a rate above 0, got {self.hint_learning_rate:g}.")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each loss by its name."""
        return {name: getattr(self, name) for name in ("cosine", "l2", "distances", "angles", "soft")}

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types; `loss` is there as other runs have it."""
        return super().to_json() | {"loss": "distillation"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild the settings of a student's run, beside which its teacher's name, alignment and crop are kept."""
        beside = ("loss", "teacher", "align", "crop")
        return super().from_json({name: value for name, value in values.items() if name not in beside})
