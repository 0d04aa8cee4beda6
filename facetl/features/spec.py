"""What names a feature: the net, where it is tapped, and how its input is prepared. No TensorFlow here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from facetl.errors import FacetlError

# Raise it when the pixels a net sees, or the pooling behind it, change: rows of the old way are then not reused.
PREPROCESSING = 1
AVERAGE = "avg"


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec:
    """The settings of a frozen extractor.

    Attributes:
        name: `inception_v3`, any net of keras.applications by its function's name, or a path to a frozen
            GraphDef (`.pb`) with `Model_Input:0` and `Model_Output:0`.
        tap: layer whose output is the feature; `avg` is the net's global average pool. For a GraphDef,
            a tensor's name, or `avg` for its output.
        grid: the tapped map is average-pooled to grid × grid cells, which are flattened; 1 with `avg`.
        crop: central square as a fraction of the shorter side, 1 for the whole photo.
        mirror: the feature is the mean over the photo and its mirror image.
    """

    name: str = "inception_v3"
    tap: str = "mixed2"
    grid: int = 7
    crop: float = 1.0
    mirror: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise FacetlError(f"crop: expected a fraction in (0, 1], got {self.crop}. 1 takes the whole photo.")
        if self.grid < 1:
            raise FacetlError(f"grid: expected a whole number from 1, got {self.grid}.")

    @classmethod
    def of(
        cls,
        name: str = "inception_v3",
        *,
        tap: str | None = None,
        grid: int | None = None,
        crop: float = 1.0,
        mirror: bool = True,
    ) -> ExtractorSpec:
        """Fill in what is not given: the tap measured best for inception_v3, the global average for others."""
        best = name == cls.name
        tap = tap or (cls.tap if best else AVERAGE)
        if grid is None:
            grid = 1 if tap == AVERAGE else cls.grid
        return cls(name=name, tap=tap, grid=grid, crop=crop, mirror=mirror)

    @property
    def is_graph_def(self) -> bool:
        """Whether the net is a frozen GraphDef file."""
        return self.name.endswith(".pb")

    def fingerprint(self, weights_sha256: str) -> str:
        """Return the hex digest that tells features of this extractor and weights from all others."""
        settings = self.to_json()
        if self.is_graph_def:
            # The file's content is the net; where it lies is not.
            settings["name"] = Path(self.name).name
        settings |= {"weights": weights_sha256, "precision": "float32", "preprocessing": PREPROCESSING}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain types."""
        return asdict(self)
