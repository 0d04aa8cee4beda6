"""A scikit-learn transformer: photos in, embeddings of a run or features of a frozen net out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from facetl.errors import DataError


class FaceEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turns photos into embeddings of a trained run, or into features of a frozen net.

    Photos are paths, files' bytes or [height, width, 3] uint8 RGB, in a sequence, or an array [n, height, width, 3].
    `fit` learns nothing: it loads the net, whose settings can be searched like any other parameter, and looks at `X` no
    further than whether it holds photos.

        pipeline = make_pipeline(FaceEmbedder("models/family"), LogisticRegression())
        search = GridSearchCV(make_pipeline(FaceEmbedder(), LDA()), {"faceembedder__tap": ["avg", "mixed2:7"]})

    Args:
        run: a run's folder; None for the features of `backbone`.
        backbone, tap, grid, crop, align, mirror, weights: the frozen net where `run` is None, as of facetl.Backbone.
        missing: "raise" for an error at the first photo that cannot be embedded, "nan" for a row of NaN.
        batch_size: photos in a forward pass.

    Attributes:
        n_features_out_: length of an embedding.
    """

    def __init__(
        self,
        run: Path | str | None = None,
        *,
        backbone: str = "inception_v3",
        tap: str | None = None,
        grid: int | None = None,
        crop: float | tuple[float, ...] | None = None,
        align: str = "none",
        mirror: bool = True,
        weights: Path | str | None = None,
        missing: str = "raise",
        batch_size: int = 32,
    ) -> None:
        self.run = run
        self.backbone = backbone
        self.tap = tap
        self.grid = grid
        self.crop = crop
        self.align = align
        self.mirror = mirror
        self.weights = weights
        self.missing = missing
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> Self:
        """Load the net.

        Raises DataError where `X` holds no photos or a parameter is unknown, RunError, WeightsError.
        """
        if self.missing not in ("raise", "nan"):
            raise DataError(f"missing: expected raise or nan, got {self.missing!r}.")
        _photos(X)
        self.n_features_out_ = int(self._recognizer().head.output_shape[-1])
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return the embeddings of photos, [n, n_features_out_] float32.

        Raises DataError where `X` holds no photos or, unless `missing` is "nan", one that cannot be embedded.
        """
        check_is_fitted(self)
        photos = _photos(X)
        found = self._recognizer().embed(photos, batch_size=self.batch_size)
        if self.missing == "raise" and found.skipped:
            first = min(set(range(len(photos))) - set(found.photos.tolist()))
            shown = photos[first] if isinstance(photos[first], (str, Path)) else f"photo {first}"
            reasons = ", ".join(f"{count} {reason}" for reason, count in found.skipped.items())
            raise DataError(
                f"{shown}: every photo must be embedded, of {len(photos)} some were not ({reasons}). Leave them "
                'out, or set missing="nan".'
            )
        rows = np.full((len(photos), self.n_features_out_), np.nan, np.float32)
        rows[found.photos] = found.embeddings
        return rows

    @property
    def _n_features_out(self) -> int:
        return self.n_features_out_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _recognizer(self) -> Any:
        """Return what embeds; it is no attribute, so that a fitted transformer can be copied and pickled."""
        if self.run is not None:
            folder = Path(self.run).expanduser()
            config = folder / "config.json"
            return _of_run(folder, config.stat().st_mtime_ns if config.is_file() else 0)
        crop = tuple(self.crop) if isinstance(self.crop, list) else self.crop
        return _of_backbone(self.backbone, self.tap, self.grid, crop, self.align, self.mirror, self.weights)


# A search fits copies of a transformer over and over: the net of the last ones stays loaded.
@lru_cache(maxsize=2)
def _of_run(folder: Path, changed: int) -> Any:
    from facetl._tensorflow import start_tensorflow

    start_tensorflow()
    from facetl.recognition.recognizer import Recognizer

    return Recognizer.load(folder)


@lru_cache(maxsize=2)
def _of_backbone(
    name: str,
    tap: str | None,
    grid: int | None,
    crop: float | tuple[float, ...] | None,
    align: str,
    mirror: bool,
    weights: Path | str | None,
) -> Any:
    from facetl.backbones.backbone import Backbone

    net = Backbone(name, tap=tap, grid=grid, crop=crop, align=align, mirror=mirror, weights=weights).net
    import keras

    from facetl.recognition.recognizer import Recognizer

    inputs = keras.Input((net.dim,), name="features")
    return Recognizer(net, keras.Model(inputs, keras.layers.Identity()(inputs), name="features_alone"), threshold=0.0)


def _photos(X: Any) -> Sequence[Any]:
    """Return photos as a sequence; DataError for anything else."""
    table = X if isinstance(X, np.ndarray) or not hasattr(X, "to_numpy") else X.to_numpy()
    if isinstance(table, np.ndarray) and table.dtype.kind in "OUS":
        # One column of a table, as a ColumnTransformer hands it over.
        table = table[:, 0] if table.ndim == 2 and table.shape[1] == 1 else table
        photos: Sequence[Any] = table.tolist() if table.ndim == 1 else []
    else:
        photos = [] if isinstance(table, (str, bytes, Path)) else list(table)
    if not photos or not all(_is_photo(one) for one in photos):
        got = f"an array {table.dtype} {table.shape}" if isinstance(table, np.ndarray) else type(X).__name__
        raise DataError(
            "X: expected photos, at least one, as paths, bytes or uint8 RGB arrays [height, width, 3], got "
            f"{got} with {'another value' if photos else 'none'}."
        )
    return photos


def _is_photo(one: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == np.uint8 and one.ndim == 3 and one.shape[2] == 3 and one.size > 0
    return isinstance(one, (str, bytes, Path))
