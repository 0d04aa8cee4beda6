"""People who can be named at once: their photos go into a run's gallery, without any training."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.backbones.spec import ExtractorSpec
from facetl.data.manifest import Manifest
from facetl.errors import PhotoError
from facetl.faces.detection import detect_all
from facetl.faces.detectors import DetectorSpec, Face, choose
from facetl.faces.whole_photo import CroppedSpec
from facetl.images.decode import read_photo
from facetl.io.json import JsonFields
from facetl.recognition.embedded_face import EmbeddedFace, own_detector
from facetl.recognition.run_folder import RunFolder


@dataclass(frozen=True)
class Enrolment(JsonFields):
    """The result of enrolling: `people` and `faces` that are new, and how many `known` the gallery had already.

    `total` people can be named now. `skipped` counts photos by the reason why they could not be enrolled.
    """

    people: int
    faces: int
    known: int
    total: int
    skipped: Mapping[str, int]


def enrol(
    folder: Path,
    manifest: Manifest,
    contents: Sequence[str],
    embeddings: np.ndarray,
    *,
    spec: ExtractorSpec,
    cache: Path,
) -> Enrolment:
    """Put photos with one person each into the gallery of a run: all of them, or none where it cannot be written.

    A person's mean in the gallery is what a face is compared with (nearest class mean; Rebuffi et al., CVPR 2017), so
    that nothing needs to be trained. A person is enrolled under the name of their folder.

    Args:
        contents: sha256 of each photo.
        embeddings: [photos, width] float32 unit vectors.
        spec: of the run's extractor.
        cache: where faces that were found are kept.

    Raises RunError for a gallery of another head, or one that is being changed; DataError for a folder's name that
    cannot be a person's.
    """
    skipped = Counter[str]()
    faces: dict[str, list[tuple[str, EmbeddedFace]]] = defaultdict(list)
    detector = own_detector(spec)
    looked_for = None if isinstance(detector, CroppedSpec) else _faces_of(manifest, contents, detector, cache)
    for photo, sha, row in zip(manifest.photos, contents, embeddings, strict=True):
        try:
            image = read_photo(photo.path)
        except PhotoError as error:
            skipped[error.reason] += 1
            continue
        # A photo that is cropped to its face is the face: nothing is to be looked for, and nothing to be kept of it.
        seen = detector.make().detect([image])[0] if looked_for is None else looked_for.get(sha, ())
        face = choose(list(seen), image.shape)
        if face is None:
            skipped["no-face"] += 1
        else:
            faces[photo.identity].append((sha, EmbeddedFace(face, row, None)))
    run = RunFolder(folder)
    with run.changing_gallery():
        gallery = run.gallery()
        before, new, known = gallery.counts(), 0, 0
        for name, own in sorted(faces.items()):
            gallery, enrolled = gallery.with_faces(name, own)
            new += enrolled.faces
            known += enrolled.known
        run.write_gallery(gallery)
    after = gallery.counts()
    return Enrolment(len(set(after) - set(before)), new, known, len(after), dict(skipped))


def _faces_of(
    manifest: Manifest, contents: Sequence[str], detector: DetectorSpec, cache: Path
) -> Mapping[str, Sequence[Face]]:
    shas = dict(zip(manifest.paths, contents, strict=True))
    return detect_all(shas, cache_folder=cache, detector=detector, decode=read_photo).faces
