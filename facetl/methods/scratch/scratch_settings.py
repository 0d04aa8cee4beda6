"""The settings of a training from scratch, saved with the run. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from facetl.errors import TrainingError
from facetl.io.setting import setting
from facetl.training.settings import FitSettings, TrainingSettings

NETS = ("small", "nn1", "nn1-relu", "nn2", "nns1", "nns2")
OBJECTIVES = ("softmax", "arcface", "triplet", "contrastive")
# Those whose steps are people with several photos each.
RELATIONAL = ("triplet", "contrastive")
# Less than a head's: an untrained net cannot yet meet a wide one.
_ARCFACE_MARGIN = 0.3


@dataclass(frozen=True, kw_only=True)
class ScratchSettings(FitSettings):
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

    The others are those of FitSettings.
    """

    net: str = setting("small", "small, or FaceNet's nn1, nn1-relu, nn2, nns1, nns2: docs/nets.md.")
    size: int | None = setting(None, "Side of the net's input, pixels. Default: its own.")
    width: int = setting(128, "Length of the embedding.")
    grey: bool = setting(False, "Let the net see grey alone.", negated=False)
    objective: str = setting(
        "softmax",
        "softmax, a classifier that is chopped off in the end; arcface; triplet, with semi-hard negatives; or "
        "contrastive, a Siamese net.",
    )
    margin: float | None = setting(None, "Of arcface (radians) and triplet. Default: their own.")
    loss_scale: float | None = setting(None, "Of arcface's similarities. Default: its own.")
    label_smoothing: float = setting(0.1, "Of the softmax, in [0, 1).")
    align: str = "none"
    crop: float = 1.0
    mirror: bool = setting(True, "Average a photo and its mirror.")
    augment: bool = setting(True, "Mirror, shift, scale, brighten and darken training photos.")
    batch_size: int = setting(32, "Photos a step; not with triplet.", min=2)
    people_per_batch: int = setting(16, "Of a step, with triplet.", min=2)
    photos_per_person: int = setting(4, "At most, of a step with triplet.", min=2)
    epochs: int = 60
    patience: int = 60
    learning_rate: float = 1e-3
    schedule: str = setting("cosine", "cosine or decay.")
    decay: float = 0.95
    weight_decay: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choices(net=NETS, objective=OBJECTIVES)
        if not 0 <= self.label_smoothing < 1:
            raise TrainingError(f"label_smoothing: expected a share in [0, 1), got {self.label_smoothing}.")
        if self.objective == "softmax" and (self.margin, self.loss_scale) != (None, None):
            raise TrainingError("margin, loss_scale: the softmax has none. Leave them out.")
        # The margin and the batches are checked there.
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
            **self.of_fit(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain types, the objective's margin and scale as they are used.

        `loss` is the objective under the name that other runs have.
        """
        used = {} if self.objective == "softmax" else self.training.loss_options._asdict()
        margin, scale = used.get("margin"), used.get("scale")
        return super().to_json() | {"loss": self.objective, "margin": margin, "loss_scale": scale}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild settings that `to_json` gave; TrainingError names a field that is not known."""
        return super().from_json({name: value for name, value in values.items() if name != "loss"})
