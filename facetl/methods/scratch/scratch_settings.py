"""The settings of a training from scratch, saved with the run. No TensorFlow here."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from facetl.errors import TrainingError
from facetl.training.settings import TrainingSettings

NETS = ("small", "nn1", "nn1-relu", "nn2", "nns1", "nns2")
OBJECTIVES = ("softmax", "arcface", "triplet", "contrastive")
# Those whose steps are people with several photos each.
RELATIONAL = ("triplet", "contrastive")
# Less than a head's: an untrained net cannot yet meet a wide one.
_ARCFACE_MARGIN = 0.3


@dataclass(frozen=True, kw_only=True)
class ScratchSettings:
    """Every choice of a training from scratch.

    Attributes:
        net: one of NETS.
        size: side of its input, pixels; None for its own.
        width: length of the embedding.
        grey: whether the net sees grey alone; photos go in as RGB either way.
        objective: `softmax`, cross-entropy of a classifier of the training people on the penultimate layer;
            `arcface`, the same of angles with a margin; `triplet`, with semi-hard negatives of the batch;
            `contrastive`, all pairs of the batch, a Siamese net.
        margin, loss_scale: of ArcFace (radians), the triplet loss (squared distance) and the contrastive loss
            (distance); None for their own.
        label_smoothing: of the softmax, in [0, 1).
        align, crop, mirror: what of a photo is seen; see ExtractorSpec.
        augment: whether training photos are mirrored, shifted, scaled and their brightness and contrast changed.
        batch_size: photos a step, with softmax and ArcFace.
        people_per_batch, photos_per_person: of a step with the triplet or the contrastive loss.
        epochs: at most; `patience` epochs without a better validation AUC end it earlier.
        learning_rate, schedule, decay: `cosine` lowers the rate to 0, `decay` multiplies it after each epoch.
        weight_decay: decoupled, of Adam.
        seed: of every random choice.
    """

    net: str = "small"
    size: int | None = None
    width: int = 128
    grey: bool = False
    objective: str = "softmax"
    margin: float | None = None
    loss_scale: float | None = None
    label_smoothing: float = 0.1
    align: str = "none"
    crop: float = 1.0
    mirror: bool = True
    augment: bool = True
    batch_size: int = 32
    people_per_batch: int = 16
    photos_per_person: int = 4
    epochs: int = 60
    patience: int = 60
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    decay: float = 0.95
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.net not in NETS:
            raise TrainingError(f"net: expected one of {', '.join(NETS)}, got {self.net!r}.")
        if self.objective not in OBJECTIVES:
            raise TrainingError(f"objective: expected one of {', '.join(OBJECTIVES)}, got {self.objective!r}.")
        if not 0 <= self.label_smoothing < 1:
            raise TrainingError(f"label_smoothing: expected a share in [0, 1), got {self.label_smoothing}.")
        if self.objective == "softmax" and (self.margin, self.loss_scale) != (None, None):
            raise TrainingError("margin, loss_scale: the softmax has none. Leave them out.")
        # What the two share is checked in one place.
        _ = self.training

    @property
    def training(self) -> TrainingSettings:
        """The same choices in the terms of a head's training, whose schedule, losses and samplers are used."""
        margin = _ARCFACE_MARGIN if self.objective == "arcface" and self.margin is None else self.margin
        named: dict[str, Any] = {"loss": "arcface"}
        if self.objective == "triplet":
            named = {"loss": "triplet", "mining": "semi-hard", "softness": 0.0}
        elif self.objective == "contrastive":
            named = {"loss": "contrastive"}
        return TrainingSettings(
            **named,
            sampler="pk",
            margin=margin,
            loss_scale=self.loss_scale,
            people_per_batch=self.people_per_batch,
            photos_per_person=self.photos_per_person,
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
        """Return the settings as plain types, the objective's margin and scale as they are used.

        `loss` is the objective under the name that other runs have.
        """
        used = {} if self.objective == "softmax" else self.training.loss_options._asdict()
        margin, scale = used.get("margin"), used.get("scale")
        return {**asdict(self), "loss": self.objective, "margin": margin, "loss_scale": scale}
