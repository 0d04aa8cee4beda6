"""The people of a library as a gallery: whom a face of another photo may be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facetl.errors import LibraryError
from facetl.library.library import Library
from facetl.recognition.identifier import Identifier
from facetl.recognition.recognizer import Recognizer


def known_people(
    library: Library, recognizer: Recognizer, faces: NDArray[np.int64], embeddings: NDArray[np.float32]
) -> Identifier:
    """Return who can be named by the faces of a library that were said to be somebody.

    Args:
        faces: ids [n]; embeddings: [n, width] of unit norm.

    Raises LibraryError where none of them has a name.
    """
    named = library.named()
    rows = [row for row, face in enumerate(faces.tolist()) if face in named]
    if not rows:
        raise LibraryError(f"{library.folder}: nobody is named yet. Name a stack first.")
    return Identifier(
        embeddings[rows],
        [named[face] for face in faces[rows].tolist()],
        threshold=recognizer.threshold,
        calibration=recognizer.calibration,
    )
