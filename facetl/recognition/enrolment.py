"""A person's photos into a run's gallery."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from facetl.errors import DataError
from facetl.recognition.embedded_face import EmbeddedFace, EmbeddedPhoto
from facetl.recognition.gallery_file import Enrolled
from facetl.recognition.run_folder import RunFolder


@dataclass(frozen=True)
class EnrolReport:
    """What enrolling did; `total` faces are the person's now, of `people` in the gallery."""

    enrolled: Enrolled
    total: int
    people: int

    def to_json(self) -> dict[str, object]:
        """Return the fields as plain types."""
        return {**asdict(self.enrolled), "total": self.total, "people": self.people}


def enroll(
    run: RunFolder,
    name: str,
    photos: Iterable[EmbeddedPhoto],
    *,
    face: int | None = None,
    largest: bool = False,
    skipped: Counter[str],
) -> EnrolReport:
    """Add a person's photos to the gallery of a run: all of them, or none where one is refused.

    face: which one of each photo, counted from the left from 1; largest: the largest of each. A photo without a face
    is counted in `skipped`. Raises DataError for a photo with several faces where neither is given, for a number that
    a photo has not, and where no photo shows a face; RunError.
    """
    chosen: list[tuple[str, EmbeddedFace]] = []
    for photo in photos:
        if photo.faces:
            chosen.append((photo.sha, _face_of(photo, face, largest)))
        else:
            skipped["no-face"] += 1
    if not chosen:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no photo"
        raise DataError(f"enrolling {name} needs photos that show a face, got {reasons}. Give others.")
    with run.changing_gallery():
        gallery, enrolled = run.gallery().with_faces(name, chosen)
        run.write_gallery(gallery)
    counts = gallery.counts()
    return EnrolReport(enrolled, counts[enrolled.name], len(counts))


def _face_of(photo: EmbeddedPhoto, face: int | None, largest: bool) -> EmbeddedFace:
    if face is not None:
        if face > len(photo.faces):
            raise DataError(f"--face {face}: {photo.path} shows {len(photo.faces)}, counted from the left from 1.")
        return photo.faces[face - 1]
    if len(photo.faces) > 1 and not largest:
        where = "; ".join(
            f"{number}: {' '.join(f'{edge:g}' for edge in seen.box)}" for number, seen in enumerate(photo.faces, 1)
        )
        raise DataError(
            f"{photo.path}: a photo to enrol shows one face, or --face N or --largest says which; found "
            f"{len(photo.faces)} ({where}). Nothing was enrolled."
        )
    return photo.largest
