"""Faces that came into a library since it was last stacked."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facetl.library.library import Library
from facetl.library.stacking import StackReport, restack, stack_new
from facetl.recognition.recognizer import Recognizer


def stack_what_is_new(
    library: Library, recognizer: Recognizer, *, on_progress: Callable[[int, int], None] | None = None
) -> StackReport:
    """Add the good faces that lie in no stack to the stacks there are; stack all of them where there is none yet.

    on_progress: called with faces done and faces in all, of features that are missing. Raises as `restack`.
    """
    if not library.stack_count():
        return restack(library, recognizer, on_progress=on_progress)
    said = library.said()
    faces = library.face_ids()
    stacked = library.stacks_of(faces.tolist())
    new = [face for face in faces.tolist() if face not in stacked and face not in said.not_faces]
    return stack_new(library, recognizer, np.array(new, np.int64), on_progress=on_progress)
