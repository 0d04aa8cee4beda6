"""The settings of an update. No TensorFlow here."""

from __future__ import annotations

from dataclasses import dataclass

from facetl.errors import TrainingError
from facetl.io.json import JsonFields
from facetl.io.setting import setting
from facetl.training.settings import check_bounds

PARTS = ("replay", "distillation", "ewc")
DEFAULT = "replay+distillation"


@dataclass(frozen=True, kw_only=True)
class UpdateSettings(JsonFields):
    """Settings of an update; shrinkage and memory were chosen on LFW, the others are customary.

    Attributes:
        method: `naive` (fine-tuning on the new people alone), or any of `replay`, `distillation` and `ewc`, joined
            by +.
        memory: exemplars a person, of `replay` and `ewc`.
        shrinkage: of the scatter within a person, in the closed form that heads of linear layers have for `replay` and
            `distillation`, together or alone: see `facetl.methods.continual.memory`.
        epochs, learning_rate: of gradient descent, where there is no closed form.
        distillation: weight of the cosine distillation there.
        consolidation: weight of the elastic penalty.
        seed: of every random choice.
    """

    method: str = DEFAULT
    memory: int = setting(20, "Photos remembered of each person.", min=1)
    shrinkage: float = 0.1
    epochs: int = 3
    learning_rate: float = 5e-4
    distillation: float = 1.0
    consolidation: float = 1e3
    seed: int = setting(0, "Of every random choice.", min=0)

    def __post_init__(self) -> None:
        parts = self.method.split("+")
        if self.method != "naive" and (set(parts) - set(PARTS) or len(set(parts)) != len(parts)):
            raise TrainingError(
                f"method: expected naive, or one or several of {', '.join(PARTS)} joined by +, got {self.method!r}."
            )
        check_bounds(self)
        if self.epochs < 1 or not self.learning_rate > 0:
            raise TrainingError("epochs and learning_rate: expected numbers above 0.")
        if not 0 <= self.shrinkage <= 1:
            raise TrainingError(f"shrinkage: expected a share in [0, 1], got {self.shrinkage:g}.")
        if not self.distillation >= 0 or not self.consolidation >= 0:
            raise TrainingError("distillation and consolidation: expected weights from 0.")

    def has(self, part: str) -> bool:
        """Return whether the method has a part."""
        return part in self.method.split("+")

    @property
    def solved(self) -> bool:
        """True where it has a closed form for linear heads; others, and other heads, take gradient descent."""
        return (self.has("replay") or self.has("distillation")) and not self.has("ewc")
