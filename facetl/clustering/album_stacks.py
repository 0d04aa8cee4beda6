"""The faces of an album, of nobody in particular, grouped into stacks that seem to be one person's each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

from facetl.backbones.extractor import make_extractor
from facetl.clustering.clusters import cluster
from facetl.clustering.constraints import Constraints
from facetl.embeddings.face_features import FacePlace, face_features, face_key, fill_faces, missing_faces
from facetl.errors import DataError
from facetl.faces.detection import detect_all
from facetl.images.decode import read_photo
from facetl.io.files import csv_bytes, digests, write_atomic
from facetl.recognition.embedded_face import own_detector
from facetl.recognition.recognizer import Recognizer, refuse_other_weights
from facetl.training.head import embed

COLUMNS = ("path", "face", "stack", "confidence")


@dataclass(frozen=True)
class StackedFace:
    """A face of a photo: its number in the photo, counted from the left from 1, its stack, from 1, the biggest first.

    confidence: how surely it belongs there, in [0, 1].
    """

    path: Path
    face: int
    stack: int
    confidence: float


@dataclass(frozen=True)
class AlbumStacks:
    """The stacks of an album; `photos` were looked at, `without_face` of them show none, others were `skipped`."""

    faces: tuple[StackedFace, ...]
    photos: int
    without_face: int
    skipped: Mapping[str, int]

    @property
    def stacks(self) -> int:
        """The number of stacks."""
        return len({face.stack for face in self.faces})

    def write(self, path: Path) -> None:
        """Write a row for each face as CSV, for its owner alone."""
        rows = [(face.path, face.face, face.stack, f"{face.confidence:.4f}") for face in self.faces]
        write_atomic(path, csv_bytes([COLUMNS, *rows]))

    def to_json(self) -> dict[str, Any]:
        """Return how many `photos`, `faces` and `stacks` there are, and what was left out."""
        return {
            "photos": self.photos,
            "faces": len(self.faces),
            "stacks": self.stacks,
            "without_face": self.without_face,
            "skipped": dict(self.skipped),
        }


def stack_album(
    recognizer: Recognizer,
    paths: Sequence[Path],
    *,
    cache: Path,
    skipped: Mapping[str, int] | None = None,
    on_faces: Callable[[int, int], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> AlbumStacks:
    """Find the faces of photos, embed them, and group them; two faces of one photo are two people's.

    Args:
        cache: where faces and features are kept, so that a second call computes nothing.
        skipped: what was passed over before, by reason.
        on_faces, on_progress: called with photos, or faces, done and in all.
        on_notice: called with a line where faces are not as a search would find them now.

    Raises DataError where no photo shows a face, RunError when the run's weights have changed, CacheError.
    """
    spec, weights = recognizer.backbone.spec, recognizer.backbone.weights
    refuse_other_weights(spec, weights)
    reasons = Counter(dict(skipped or {}))
    shas = {path: sha for path, sha in zip(paths, digests(paths), strict=True) if sha}
    reasons["unreadable"] += len(paths) - len(shas)
    detector = recognizer.detector or own_detector(spec)
    found = detect_all(
        shas,
        cache_folder=cache,
        detector=detector,
        decode=read_photo,
        on_progress=on_faces,
        on_notice=on_notice,
    )
    reasons.update(found.report.skipped)
    from_left = attrgetter("box")
    seen = {
        path: {face_key(sha, detector.fingerprint(), face): face for face in sorted(found.faces[sha], key=from_left)}
        for path, sha in shas.items()
        if sha in found.faces
    }
    places = {key: FacePlace(path, shas[path], face) for path, faces in seen.items() for key, face in faces.items()}
    fill = fill_faces(
        places,
        spec,
        weights,
        make_net=lambda view: recognizer.backbone if view == spec else make_extractor(view, weights),
        cache=cache,
        on_progress=on_progress,
    )
    lacking = set(missing_faces(list(places), spec, weights, cache=cache)) if fill.skipped else set()
    keys = [key for key in places if key not in lacking]
    if not keys:
        raise DataError(f"Stacks need photos that show a face; received {len(paths):,} photos, and none does.")
    rows = {key: row for row, key in enumerate(keys)}
    together = {shas[path]: [rows[key] for key in faces if key in rows] for path, faces in seen.items()}
    done = cluster(
        embed(recognizer.head, face_features(keys, spec, weights, cache=cache)),
        calibration=recognizer.calibration,
        threshold=recognizer.threshold,
        constraints=Constraints(apart=[group for group in together.values() if len(group) > 1]),
    )
    faces = tuple(
        StackedFace(path, number, int(done.stack[rows[key]]) + 1, float(done.confidence[rows[key]]))
        for path, found_here in seen.items()
        for number, key in enumerate(found_here, start=1)
        if key in rows
    )
    return AlbumStacks(faces, len(seen), sum(not faces for faces in seen.values()), +reasons)
