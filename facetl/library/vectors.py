"""The embeddings of a library's faces under the run in use, kept in its cache, so that only new faces cost anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.errors import CacheLockedError
from facetl.evaluation.projection import normalised
from facetl.features.cache import EmbeddingCache
from facetl.features.index import MissingCacheError
from facetl.library.embedding import library_embeddings
from facetl.library.library import Library
from facetl.recognition.recognizer import Recognizer

_TOGETHER = 4096  # faces that are embedded and kept at a time


def library_vectors(
    library: Library,
    recognizer: Recognizer,
    faces: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Give the embeddings of faces as `library_embeddings` does, but compute each once a run.

    They lie as float16 rows in the library's embedding cache, under the face's key, where forgetting finds them.

    Args:
        faces: ids; all good faces where it is None.
        on_progress: called with faces done and faces in all, of those that are computed now.

    Returns:
        ids [n] int64, in the order given, of the faces that can be embedded, and float32 [n, width] unit vectors.

    Raises as `library_embeddings`.
    """
    ids = library.face_ids() if faces is None else np.asarray(faces, np.int64)
    keys = [face.key for face in library.faces(ids.tolist())]
    fingerprint = run_fingerprint(recognizer)
    found = _read(library.cache_folder, fingerprint, keys)
    missing = [face for face, key in zip(ids.tolist(), keys, strict=True) if key not in found]
    key_of = dict(zip(ids.tolist(), keys, strict=True))
    for start in range(0, len(missing), _TOGETHER):
        some = missing[start : start + _TOGETHER]

        def progress(done: int, total: int, start: int = start, some: int = len(some)) -> None:
            if on_progress is not None:
                on_progress(start + min(done, some), len(missing))

        fresh, vectors = library_embeddings(library, recognizer, some, on_progress=progress)
        halves = vectors.astype(np.float16)
        fresh_keys = [key_of[face] for face in fresh.tolist()]
        found |= dict(zip(fresh_keys, halves, strict=True))
        # While another process writes, they are not kept, and computed again the next time.
        with suppress(CacheLockedError):
            _keep(library.cache_folder, fingerprint, recognizer, fresh_keys, halves)
    there = np.array([key in found for key in keys], bool)
    if not there.any():
        return ids[:0], np.empty((0, recognizer.head.output_shape[-1]), np.float32)
    rows = np.stack([found[key] for key in keys if key in found])
    return ids[there], normalised(rows.astype(np.float32))


def run_fingerprint(recognizer: Recognizer) -> str:
    """Return 64 hex digits that tell a run's embeddings from all others: of its extractor, its weights and its head."""
    extractor = recognizer.extractor
    digest = hashlib.sha256(b"embeddings" + extractor.spec.fingerprint(extractor.weights.sha256).encode())
    for weights in recognizer.head.get_weights():
        digest.update(repr(weights.shape).encode() + np.ascontiguousarray(weights).tobytes())
    return digest.hexdigest()


def _read(cache: Path, fingerprint: str, keys: Sequence[str]) -> dict[str, NDArray[np.float16]]:
    try:
        opened = EmbeddingCache.open(cache, fingerprint=fingerprint, write=False)
    except MissingCacheError:
        return {}
    with opened:
        there = [key for key, known in zip(keys, opened.has(keys), strict=True) if known]
        return dict(zip(there, opened.rows(there), strict=True)) if there else {}


def _keep(
    cache: Path, fingerprint: str, recognizer: Recognizer, keys: Sequence[str], halves: NDArray[np.float16]
) -> None:
    if not keys:
        return
    extractor = recognizer.extractor
    description = {
        **extractor.spec.to_json(),
        "weights_sha256": extractor.weights.sha256,
        "head": f"embeddings of {halves.shape[1]} numbers",
    }
    with EmbeddingCache.open(cache, fingerprint=fingerprint, description=description, write=True) as opened:
        opened.append(keys, halves)
