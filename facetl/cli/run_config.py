"""`--config`: a run is repeated from its own config.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar

import typer

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.cli.output import notify
from facetl.cli.settings_options import Given
from facetl.errors import FacetlError, RunError
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.scratch.scratch_settings import ScratchSettings
from facetl.recognition.run_folder import CONFIG, stored_extractor
from facetl.training.settings import FitSettings, TrainingSettings

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Repeat a run from its config.json: its settings, extractor and shares of people count wherever no option "
        "is given.",
    ),
]
# What the settings of a verb's runs have, and no other's.
_MADE_BY: Mapping[str, tuple[str, type[FitSettings]]] = {
    "widths": ("facetl train", TrainingSettings),
    "net": ("facetl scratch", ScratchSettings),
    "student": ("facetl distill", DistillationSettings),
}

S = TypeVar("S", bound=FitSettings)


@dataclass(frozen=True)
class RunConfig(Generic[S]):
    """A run's config.json, to be repeated.

    Attributes:
        path: of the file.
        settings: of its training.
        content: all that the file holds.
    """

    path: Path
    settings: S
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | None, kind: type[S]) -> Self | None:
        """Read a config.json, or that of a run's folder; None for none.

        Raises RunError where it is damaged or of another verb's run.
        """
        if path is None:
            return None
        path = path.expanduser()
        path = path / CONFIG if path.is_dir() else path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"--config: expected a run's {CONFIG}, got {path} ({error}).") from error
        found = content.get("settings") if isinstance(content, dict) else None
        stored: Mapping[str, Any] = found if isinstance(found, dict) else {}
        made_by = [_MADE_BY[name] for name in _MADE_BY if name in stored]
        if not made_by:
            raise RunError(f"--config: expected the {CONFIG} of a run that was trained, got {path} without settings.")
        verb, own = made_by[0]
        if own is not kind:
            raise RunError(f"--config: {path} is of a run that {verb} made. Give it to {verb}.")
        try:
            return cls(path, kind.from_json(stored), content)
        except (FacetlError, TypeError, ValueError) as error:
            raise RunError(f"--config: {path} holds settings that cannot be: {error}") from error

    @property
    def layout(self) -> str:
        """How the folder of photos was read."""
        return str(self.content.get("layout", "folders"))

    def extractor(self) -> tuple[ExtractorSpec, Weights]:
        """Return the extractor."""
        try:
            return stored_extractor(self.content, self.path.parent)
        except (FacetlError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"--config: {self.path} names no extractor of this version ({error!r}).") from error

    def weights_file(self) -> Path | None:
        """Return the file of weights that the run was given; None where the extractor's own are found."""
        weights = self.extractor()[1]
        return weights.path if weights.source == "file" else None

    def warn_of_other_weights(self, weights: Weights) -> None:
        """Warn the user where other weights are in use than the run's."""
        stored = self.extractor()[1]
        if stored.sha256 != weights.sha256:
            notify(f"warning: the run of {self.path} had other weights, {stored.description}; its figures will differ")


def shares_of(repeated: RunConfig[Any] | None, given: Given, **shares: float) -> dict[str, float]:
    """Return the shares of people by side: those given, else those of the run to repeat, else the defaults.

    A run that was made before they were kept has none.
    """
    stored = {} if repeated is None else repeated.content.get("split", {})
    try:
        return {side: share if side in given else float(stored.get(side, share)) for side, share in shares.items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError(f"--config: expected the shares of people by side, got {stored!r}.") from error
