"""The embeddings of a library's faces: features from the library's cache, then a run's head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from facetl.features.extractor import make_extractor
from facetl.library.features import library_features
from facetl.library.library import Library
from facetl.recognition.embedding import refuse_other_weights
from facetl.recognition.recognizer import Recognizer
from facetl.training.head import embed


def library_embeddings(
    library: Library,
    recognizer: Recognizer,
    faces: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embed a library's faces, computing first the features that are missing.

    Args:
        faces: ids; all good faces where it is None.
        on_progress: called with faces done and faces in all, of features.

    Returns:
        The ids [n] int64, in the order given, of those faces that have a feature (a photo may be gone before one of its
        faces has), and their embeddings [n, width] float32 unit vectors.

    Raises LibraryError for ids that are none, RunError when the extractor's weights are no longer those of the
    training, CacheLockedError, CacheFullError, CacheError.
    """
    extractor = recognizer.extractor
    spec, weights = extractor.spec, extractor.weights
    refuse_other_weights(spec, weights)
    found = library_features(
        library,
        library.face_ids() if faces is None else faces,
        spec,
        weights,
        # Of several crops each is cached by itself, for which the run's net is not made.
        make_net=lambda view: extractor if view == spec else make_extractor(view, weights),
        on_progress=on_progress,
    )
    if found.features is None:
        return found.ids, np.empty((0, recognizer.head.output_shape[-1]), np.float32)
    return found.ids, embed(recognizer.head, found.features)
