"""The features of a library's faces, from the library's own cache. No TensorFlow until one is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.features.faces import FacePlace, face_features, face_layout, fill_faces, missing_faces
from facetl.features.fill import FillReport
from facetl.features.joined import JoinedRows
from facetl.features.layout import Layout
from facetl.features.net import PhotoNet
from facetl.features.rows import CachedRows
from facetl.features.spec import ExtractorSpec
from facetl.features.weights import Weights
from facetl.library.collection import photos_of
from facetl.library.library import Library


@dataclass(frozen=True)
class FeaturedFaces:
    """Faces that have a feature.

    Attributes:
        ids: [n] int64, in the order asked for.
        features: [n, dim] float16 rows on disk; None where no face has one.
        layout: of which maps a feature is made; None where no face has one.
        report: what the fill did.
    """

    ids: NDArray[np.int64]
    features: CachedRows | JoinedRows | None
    layout: Layout | None
    report: FillReport


def library_features(
    library: Library,
    faces: Sequence[int] | NDArray[np.int64],
    spec: ExtractorSpec,
    weights: Weights,
    *,
    make_net: Callable[[ExtractorSpec], PhotoNet],
    on_progress: Callable[[int, int], None] | None = None,
) -> FeaturedFaces:
    """Give faces their features, computing what the library's cache lacks; a face whose photo is gone has none.

    Args:
        faces: ids.
        make_net: builds the net of a view of `spec`; called only if a feature is missing.
        on_progress: called with faces done and faces in all.

    Raises LibraryError for ids that are none, CacheLockedError, CacheFullError, CacheError.
    """
    cache = library.cache_folder
    wanted = library.faces([int(face) for face in faces])
    keys = [face.key for face in wanted]
    lacking = set(missing_faces(keys, spec, weights, cache=cache))
    with library.database.read() as run:
        photos = photos_of(run, sorted({face.photo for face in wanted if face.key in lacking}))
    photo_of = {photo.id: photo for photo in photos}
    places = {
        face.key: FacePlace(_lying(photo_of[face.photo].paths), photo_of[face.photo].sha, face.face)
        for face in wanted
        if face.key in lacking
    }
    there = len(wanted) - len(places)

    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress(there + done, there + total)

    report = fill_faces(places, spec, weights, make_net=make_net, cache=cache, on_progress=progress)
    if report.skipped:
        lacking = set(missing_faces(keys, spec, weights, cache=cache))
        wanted = [face for face in wanted if face.key not in lacking]
    ids = np.array([face.id for face in wanted], np.int64)
    if not wanted:
        return FeaturedFaces(ids, None, None, report)
    features = face_features([face.key for face in wanted], spec, weights, cache=cache)
    return FeaturedFaces(ids, features, face_layout(spec, weights, cache=cache), report)


def _lying(paths: Sequence[Path]) -> Path:
    """Return the first path at which a file lies; the first, or none that exists, where there is none."""
    return next((path for path in paths if path.is_file()), paths[0] if paths else Path("gone"))
