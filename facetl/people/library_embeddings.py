"""The features of a library's faces, from the library's own cache. No TensorFlow until one is missing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.extractor import make_extractor
from facetl.backbones.photo_net import FeatureMap, PhotoNet
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.face_features import FacePlace, face_features, face_layout, fill_faces, missing_faces
from facetl.embeddings.fill import FillReport
from facetl.embeddings.index import MissingCacheError
from facetl.errors import CacheLockedError, LibraryError
from facetl.io.arrays import RowView
from facetl.metrics.linalg import normalised
from facetl.people.library import Library
from facetl.people.store.photos import photos_of
from facetl.recognition.identifier import Identifier
from facetl.recognition.recognizer import Recognizer, refuse_other_weights
from facetl.training.head import embed


@dataclass(frozen=True)
class FaceFeatures:
    """Faces that have a feature.

    Attributes:
        ids: [n] int64, in the order asked for.
        features: [n, dim] float16 rows on disk; None where no face has one.
        layout: of which maps a feature is made; None where no face has one.
        report: what the fill did.
    """

    ids: NDArray[np.int64]
    features: RowView | None
    layout: FeatureMap | None
    report: FillReport


def library_features(
    library: Library,
    faces: Sequence[int] | NDArray[np.int64],
    spec: ExtractorSpec,
    weights: Weights,
    *,
    make_net: Callable[[ExtractorSpec], PhotoNet],
    on_progress: Callable[[int, int], None] | None = None,
) -> FaceFeatures:
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
    with library.database.read() as sql:
        photos = photos_of(sql, sorted({face.photo for face in wanted if face.key in lacking}))
    photo_of = {photo.id: photo for photo in photos}
    places = {
        face.key: FacePlace(photo_of[face.photo].path or Path("gone"), photo_of[face.photo].sha, face.face)
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
        return FaceFeatures(ids, None, None, report)
    features = face_features([face.key for face in wanted], spec, weights, cache=cache)
    return FaceFeatures(ids, features, face_layout(spec, weights, cache=cache), report)


_TOGETHER = 4096  # faces that are embedded and kept at a time


def library_vectors(
    library: Library,
    recognizer: Recognizer,
    faces: Sequence[int] | NDArray[np.int64],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Embed a library's faces, each once a run, computing first the features that are missing.

    Embeddings lie as float16 rows in the library's embedding cache, under the face's key, where forgetting finds them.

    Args:
        faces: ids.
        on_progress: called with faces done and faces in all, of those that are computed now.

    Returns:
        The ids [n] int64, in the order given, of those faces that have a feature (a photo may be gone before one of its
        faces has), and their embeddings [n, width] float32 unit vectors.

    Raises LibraryError for ids that are none, RunError when the extractor's weights are no longer those of the
    training, CacheLockedError, CacheFullError, CacheError.
    """
    ids = np.asarray(faces, np.int64)
    keys = [face.key for face in library.faces(ids.tolist())]
    fingerprint = run_fingerprint(recognizer)
    found = _read(library.cache_folder, fingerprint, keys)
    key_of = dict(zip(ids.tolist(), keys, strict=True))
    missing = [face for face, key in key_of.items() if key not in found]
    for start in range(0, len(missing), _TOGETHER):
        some = missing[start : start + _TOGETHER]

        def progress(done: int, total: int, start: int = start, some: int = len(some)) -> None:
            if on_progress is not None:
                on_progress(start + min(done, some), len(missing))

        fresh = run_features(library, recognizer, some, on_progress=progress)
        if fresh.features is None:
            continue
        halves = embed(recognizer.head, fresh.features).astype(np.float16)
        fresh_keys = [key_of[face] for face in fresh.ids.tolist()]
        found |= dict(zip(fresh_keys, halves, strict=True))
        # While another process writes, they are not kept, and computed again the next time.
        with suppress(CacheLockedError):
            _keep(library.cache_folder, fingerprint, recognizer, fresh_keys, halves)
    there = np.array([key in found for key in keys], bool)
    if not there.any():
        return ids[:0], np.empty((0, recognizer.head.output_shape[-1]), np.float32)
    rows = np.stack([found[key] for key in keys if key in found])
    return ids[there], normalised(rows.astype(np.float32))


def run_features(
    library: Library,
    recognizer: Recognizer,
    faces: Sequence[int] | NDArray[np.int64],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> FaceFeatures:
    """Give faces their features by a run's backbone; as `library_features`, and RunError for other weights."""
    backbone = recognizer.backbone
    spec, weights = backbone.spec, backbone.weights
    refuse_other_weights(spec, weights)
    return library_features(
        library,
        faces,
        spec,
        weights,
        # Of several crops each is cached by itself, for which the run's net is not made.
        make_net=lambda view: backbone if view == spec else make_extractor(view, weights),
        on_progress=on_progress,
    )


def run_fingerprint(recognizer: Recognizer) -> str:
    """Return 64 hex digits that tell a run's embeddings from all others: of its extractor, its weights and its head."""
    extractor = recognizer.backbone
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
    extractor = recognizer.backbone
    description = {
        **extractor.spec.to_json(),
        "weights_sha256": extractor.weights.sha256,
        "head": f"embeddings of {halves.shape[1]} numbers",
    }
    with EmbeddingCache.open(cache, fingerprint=fingerprint, description=description, write=True) as opened:
        opened.append(keys, halves)


def known_people(
    library: Library, recognizer: Recognizer, faces: NDArray[np.int64], embeddings: NDArray[np.float32]
) -> Identifier:
    """Return an identifier of the people whom the answers of a library name.

    Args:
        faces: ids [n]; embeddings: [n, width] of unit norm.

    Raises LibraryError where none of them has a name.
    """
    named = library.named()
    rows = [row for row, face in enumerate(faces.tolist()) if face in named]
    if not rows:
        raise LibraryError(f"{library.folder}: nobody is named yet. Run facetl people name first.")
    return Identifier(
        embeddings[rows],
        [named[face] for face in faces[rows].tolist()],
        threshold=recognizer.threshold,
        calibration=recognizer.calibration,
    )
