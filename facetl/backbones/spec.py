"""What names a feature: the net, where it is tapped, and how its input is prepared. No TensorFlow here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from facetl.backbones.family import Family, family_of, identity_of, spelt_out
from facetl.errors import FacetlError
from facetl.faces.aligner import alignment_fingerprint

# Raise it when the pixels a net sees, or the pooling behind it, change: rows of the old way are then not reused.
PREPROCESSING = 1
AVERAGE = "avg"
ALIGNMENTS = ("none", "mtcnn")
# Of the aligned square; this is ArcFace's crop, from brow to chin.
ALIGNED_CROP = 0.5


@dataclass(frozen=True, kw_only=True)
class ExtractorSpec:
    """The settings of a frozen extractor.

    Attributes:
        name: `inception_v3`, any net of keras.applications by its function's name, a path to a frozen GraphDef
            (`.pb`) with `Model_Input:0` and `Model_Output:0`, to a Keras file (`.keras`) or a SavedModel's folder,
            `onnx:FILE`, or `dlib`. The three files may carry options behind a `?`: see InputForm.
        tap: layer whose output is the feature; `avg` is the net's global average pool. Several layers of a net of
            keras.applications are joined by `+`, each perhaps with a grid of its own, as `mixed2:7+mixed3:5`. For a
            GraphDef, a tensor's name, for ONNX and a SavedModel an output's, or `avg` for the output.
        grid: a tapped map is average-pooled to grid × grid cells, which are flattened; 1 with `avg`.
        crops: central squares as fractions of the shorter side, 1 for the whole photo; the features of several crops
            are joined.
        align: `mtcnn` finds the face and brings its landmarks to their places first, so that a crop of 0.5 is
            ArcFace's; `none` takes the photo as it is.
        mirror: the feature is the mean over the photo and its mirror image.
        grey: the net sees the photo in grey, the same in all three channels; faces are found in the photo as it is.
    """

    name: str = "inception_v3"
    tap: str = "mixed2:7+mixed3:5"
    grid: int = 7
    crops: tuple[float, ...] = (1.0,)
    align: str = "none"
    mirror: bool = True
    grey: bool = False

    def __post_init__(self) -> None:
        if not self.crops or not all(0 < crop <= 1 for crop in self.crops) or len(set(self.crops)) < len(self.crops):
            raise FacetlError(
                f"crop: expected different fractions in (0, 1], got {self.crop_text}. 1 takes the whole photo."
            )
        if self.align not in ALIGNMENTS:
            raise FacetlError(f"align: expected {' or '.join(ALIGNMENTS)}, got {self.align!r}.")
        for tap, grid in (*self.taps, (self.tap, self.grid)):
            if not tap or grid < 1:
                raise FacetlError(f"grid: expected a whole number from 1 for each tap, got {grid} for {tap!r}.")
        if self.family.finds_faces and (self.crops, self.tap, self.grid, self.align) != ((1,), AVERAGE, 1, "none"):
            raise FacetlError(
                f"extractor: {self.name} finds the face in the whole photo and has one output; got crop "
                f"{self.crop_text}, tap {self.tap}, grid {self.grid}, align {self.align}. Leave out --crop, --tap, "
                "--grid and --align."
            )

    @classmethod
    def of(
        cls,
        name: str = "inception_v3",
        *,
        tap: str | None = None,
        grid: int | None = None,
        crop: float | Sequence[float] | None = None,
        align: str = "none",
        mirror: bool = True,
        grey: bool = False,
    ) -> ExtractorSpec:
        """Fill in what is not given.

        That is the tap measured best for inception_v3, the global average for others; ArcFace's crop of aligned faces,
        the whole photo else.
        """
        name = spelt_out(name)
        best = name == cls.name
        tap = tap or (cls.tap if best and grid is None else "mixed2" if best else AVERAGE)
        if grid is None:
            grid = 1 if tap == AVERAGE else cls.grid
        if crop is None:
            crop = 1.0 if align == "none" else ALIGNED_CROP
        crops = tuple(crop) if isinstance(crop, Sequence) else (crop,)
        return cls(name=name, tap=tap, grid=grid, crops=crops, align=align, mirror=mirror, grey=grey)

    @property
    def taps(self) -> tuple[tuple[str, int], ...]:
        """The tapped layers in order, each with its grid."""
        if self.family is not Family.ZOO:
            return ((self.tap, self.grid),)
        parts = [part.partition(":") for part in self.tap.split("+")]
        if any(grid and not grid.isdecimal() for _, _, grid in parts):
            raise FacetlError(f"tap: expected layers as mixed2:7+mixed3:5, got {self.tap!r}.")
        return tuple((tap, int(grid) if grid else 1 if tap == AVERAGE else self.grid) for tap, _, grid in parts)

    @property
    def views(self) -> tuple[ExtractorSpec, ...]:
        """The same for each crop alone; the features of these are cached, and joined when read."""
        return tuple(replace(self, crops=(crop,)) for crop in self.crops)

    @property
    def crop_text(self) -> str:
        """The crops as `--crop` takes them."""
        return ",".join(f"{crop:g}" for crop in self.crops)

    @property
    def family(self) -> Family:
        """Which kind of extractor it is."""
        return family_of(self.name)

    @property
    def is_graph_def(self) -> bool:
        """Whether the net is a frozen GraphDef file."""
        return self.family is Family.GRAPH_DEF

    def fingerprint(self, weights_sha256: str) -> str:
        """Return the hex digest that tells features of this extractor and weights from all others."""
        settings = self.to_json() | {"name": identity_of(self.name)}
        if not self.grey:
            # As it was before there was a choice: features in colour stay what they are.
            del settings["grey"]
        if self.align != "none":
            settings["alignment"] = alignment_fingerprint()
        settings |= {"weights": weights_sha256, "precision": "float32", "preprocessing": PREPROCESSING}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain types."""
        return asdict(self) | {"crops": list(self.crops)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ExtractorSpec:
        """Rebuild the settings that `to_json` gave; FacetlError for those of another version."""
        try:
            return cls(**(dict(values) | {"crops": tuple(values["crops"])}))
        except (KeyError, TypeError) as error:
            raise FacetlError(
                f"extractor: expected the settings of this version, got {', '.join(sorted(map(str, values)))}. "
                "Train the run again."
            ) from error
