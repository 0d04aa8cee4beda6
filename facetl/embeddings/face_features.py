"""Features of single faces in photos of many: each face has a row of its own in the embedding cache.

A row's key is not the sha256 of a photo but that of a face: of the photo, the detector, and what it found of the face.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.backbones.photo_net import FeatureMap, PhotoNet, maps_of
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.fill import FillReport, stored_layout
from facetl.embeddings.index import MissingCacheError
from facetl.errors import DataError
from facetl.faces.alignment import aligned
from facetl.faces.detectors import Face, quarters
from facetl.faces.landmark_store import packed
from facetl.images.decode import ReadPhoto, read_batches, read_photo
from facetl.io.arrays import RowView, concat_columns

UNUSABLE = "unusable-landmarks"
# Side of a crop as a multiple of the longer side of the face's box: the margin of FaceNet's alignment script, 44 of 182
# pixels (github.com/davidsandberg/facenet), and, for an extractor that finds the face itself, as much as that needs.
_MARGIN, _ROOM = 182 / (182 - 44), 1 / 0.6


@dataclass(frozen=True, eq=False)
class FacePlace:
    """The place of a face: a photo's path, the sha256 of its bytes, and the face in it."""

    path: Path
    sha: str
    face: Face


def face_key(sha: str, detector: str, face: Face) -> str:
    """Return the 64 hex digits by which a face is known.

    Args:
        sha: the sha256 of the photo's bytes, 64 hex digits.
        detector: the fingerprint of the detector that found the face.
        face: what it found, of which single precision counts.
    """
    return hashlib.sha256(bytes.fromhex(sha) + detector.encode() + packed(face)).hexdigest()


def face_image(image: NDArray[np.uint8], face: Face, spec: ExtractorSpec) -> NDArray[np.uint8]:
    """Return what an extractor is shown of a face, [height, width, 3] uint8.

    That is the aligned face where the extractor takes aligned ones, else a square about the face's box, with a margin,
    as far as the photo goes, turned by quarters until the face is upright.

    Args:
        image: the photo, [height, width, 3] uint8 RGB, upright.

    Raises DataError for landmarks that span no face.
    """
    if spec.align != "none":
        return aligned(image, [face])
    left, top, right, bottom = face.box
    half = max(face.width + 1, face.height + 1) / 2 * (_ROOM if spec.family.finds_faces else _MARGIN)
    across, down = (left + right) / 2, (top + bottom) / 2
    rows = slice(max(0, round(down - half + 0.5)), max(1, round(down + half + 0.5)))
    columns = slice(max(0, round(across - half + 0.5)), max(1, round(across + half + 0.5)))
    crop = image[rows, columns]
    if not crop.size:
        raise DataError(f"a face lies in its photo, got the box {face.box} outside. Detect the face again.")
    return np.ascontiguousarray(np.rot90(crop, quarters(face)))


def missing_faces(keys: Sequence[str], spec: ExtractorSpec, weights: Weights, *, cache: Path) -> list[str]:
    """Return the keys, in order, of those faces that lack the row of a view."""
    lacking = [_lacking(keys, view, weights, cache) for view in spec.views]
    return [key for key in dict.fromkeys(keys) if any(key in one for one in lacking)]


def face_features(keys: Sequence[str], spec: ExtractorSpec, weights: Weights, *, cache: Path) -> RowView:
    """Return the features of faces, [keys, dim] float16 rows on disk; CacheError where one has none."""
    parts = []
    for view in spec.views:
        with EmbeddingCache.open(cache, fingerprint=view.fingerprint(weights.sha256), write=False) as rows:
            parts.append(rows.gather(keys))
    return concat_columns(parts)


def face_layout(spec: ExtractorSpec, weights: Weights, *, cache: Path) -> FeatureMap:
    """Return of which maps the features of `face_features` are made; CacheError where there are none yet."""
    layouts = []
    for view in spec.views:
        with EmbeddingCache.open(cache, fingerprint=view.fingerprint(weights.sha256), write=False) as rows:
            layouts.append(stored_layout(rows.stored_description, rows.dim or 0))
    return FeatureMap.joined(layouts)


def fill_faces(
    faces: Mapping[str, FacePlace],
    spec: ExtractorSpec,
    weights: Weights,
    *,
    make_net: Callable[[ExtractorSpec], PhotoNet],
    cache: Path,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
) -> FillReport:
    """Give every face a row in the cache, computing only what is missing; each photo is decoded once.

    A batch is durable when it is done: an interrupted fill (Ctrl-C, kill, full disk) goes on where it stopped. Faces
    whose photo cannot be read, or whose landmarks span no face, are counted by reason and tried again on every run.

    Args:
        faces: key → where the face is to be seen.
        make_net: builds the net of a view of `spec`; called only if one of its rows is missing.
        batch_size: faces that become durable together.
        on_progress: called with faces done and faces in all; first with those that need no work.

    Returns the report, in which a `photo` is a face. Raises CacheLockedError where rows are missing and another
    process writes, CacheFullError, CacheError.
    """
    began = time.perf_counter()
    filling = _Filling(faces, spec, weights, make_net, cache, batch_size, on_progress or (lambda done, total: None))
    computed, rate = filling.run()
    return FillReport(
        photos=len(faces),
        computed=computed,
        reused=len(faces) - computed - filling.skipped.total(),
        skipped=dict(sorted(filling.skipped.items())),
        seconds=time.perf_counter() - began,
        rate=rate,
        flagged=dict(filling.flagged),
    )


@dataclass
class _Filling:
    """A fill under way."""

    faces: Mapping[str, FacePlace]
    spec: ExtractorSpec
    weights: Weights
    make_net: Callable[[ExtractorSpec], PhotoNet]
    cache: Path
    batch_size: int
    on_progress: Callable[[int, int], None]
    skipped: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    done: int = 0

    def run(self) -> tuple[int, float]:
        """Compute what is missing; return how many faces that were, and how many a second."""
        keys = list(self.faces)
        lacking = {view: _lacking(keys, view, self.weights, self.cache) for view in self.spec.views}
        missing = [key for key in keys if any(key in one for one in lacking.values())]
        self._advance(len(keys) - len(missing))
        if not missing:
            return 0, 0.0
        by_photo: dict[str, list[str]] = {}
        paths: dict[str, dict[Path, None]] = {}
        for key in missing:
            place = self.faces[key]
            by_photo.setdefault(place.sha, []).append(key)
            paths.setdefault(place.sha, {})[place.path] = None
        nets = {view: self.make_net(view) for view, ones in lacking.items() if ones}
        started = time.perf_counter()
        computed = 0
        pending: dict[str, NDArray[np.uint8]] = {}
        waiting = {sha: list(found) for sha, found in paths.items()}
        with closing(read_batches(waiting, read_photo, batch_size=self.batch_size)) as batches:
            for batch in batches:
                for photo in batch:
                    for key in by_photo[photo.sha]:
                        self._show(photo, key, pending)
                        if len(pending) >= self.batch_size:
                            computed += self._compute(pending, nets, lacking)
            computed += self._compute(pending, nets, lacking)
        for net in nets.values():
            for reason, times in net.flagged.items():
                self.flagged[reason] = max(self.flagged[reason], times)
        return computed, computed / max(time.perf_counter() - started, 1e-9)

    def _show(self, photo: ReadPhoto, key: str, pending: dict[str, NDArray[np.uint8]]) -> None:
        reason = photo.reason
        if photo.image is not None:
            try:
                pending[key] = face_image(photo.image, self.faces[key].face, self.spec)
                return
            except DataError:
                reason = UNUSABLE
        self.skipped[reason] += 1
        self._advance(1)

    def _compute(
        self,
        pending: dict[str, NDArray[np.uint8]],
        nets: Mapping[ExtractorSpec, PhotoNet],
        lacking: Mapping[ExtractorSpec, set[str]],
    ) -> int:
        """Write the rows of a batch, view after view, and empty it."""
        for view, net in nets.items():
            keys = [key for key in pending if key in lacking[view]]
            if not keys:
                continue
            rows = net.extract([pending[key] for key in keys])
            fingerprint = view.fingerprint(self.weights.sha256)
            description = {**asdict(view), "weights_sha256": self.weights.sha256}
            if (maps := maps_of(net)) is not None:
                description["layout"] = maps.to_json()
            with EmbeddingCache.open(self.cache, fingerprint=fingerprint, description=description, write=True) as cache:
                cache.append(keys, rows)
        count = len(pending)
        pending.clear()
        self._advance(count)
        return count

    def _advance(self, faces: int) -> None:
        self.done += faces
        self.on_progress(self.done, len(self.faces))


def _lacking(keys: Sequence[str], view: ExtractorSpec, weights: Weights, cache: Path) -> set[str]:
    """Return the keys of the faces that have no row of this view."""
    try:
        rows = EmbeddingCache.open(cache, fingerprint=view.fingerprint(weights.sha256), write=False)
    except MissingCacheError:
        return set(keys)
    with rows:
        return {key for key, there in zip(keys, rows.has(keys), strict=True) if not there}
