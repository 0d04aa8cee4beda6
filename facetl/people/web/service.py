"""Work of the page on a library beyond reading it and answering: import, clustering, learning, search, export."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetl.errors import LibraryError
from facetl.people.library import Library
from facetl.people.library_settings import library_detector, run_in_use, source_folders
from facetl.people.web.jobs import OnProgress

if TYPE_CHECKING:
    from facetl.clustering.active_learning import Question
    from facetl.people.learned_head import Proposal
    from facetl.recognition.recognizer import Recognizer

_NEAREST = 24


@dataclass(frozen=True)
class Alike:
    """Another stack, and how likely it shows the same person, in [0, 1]."""

    stack: int
    probability: float


@dataclass(frozen=True)
class Recognised:
    """A face of a photo that is not in the library, and whom it looks like.

    Attributes:
        box: left, top, right and bottom edge, pixels of the photo.
        name: who it is; None for unknown.
        probability: how likely that is, in [0, 1]; None where the run cannot tell.
        nearest: faces of the library, likeliest first, each with its probability.
    """

    box: tuple[float, float, float, float]
    name: str | None
    probability: float | None
    nearest: tuple[tuple[int, float], ...]


class PeopleService:
    """The page's work on one library. It keeps the run loaded, and the embeddings of the faces.

    Methods that return a string return the one line that tells the user how it ended.

    Args:
        library: an open library.
        load_run: loads the run that the library uses; without it only `export` works.
    """

    def __init__(self, library: Library, *, load_run: Callable[[], Recognizer] | None = None) -> None:
        self.library = library
        self.has_run = load_run is not None and run_in_use(library) is not None
        self._load_run = load_run
        self._lock = threading.RLock()
        self._loaded: tuple[Path, Recognizer] | None = None
        self._embedded: tuple[Any, NDArray[np.int64], NDArray[np.float32]] | None = None

    def recognizer(self) -> Recognizer:
        """Return the run in use, loaded once."""
        folder = run_in_use(self.library)
        if folder is None or self._load_run is None:
            raise LibraryError("No run is chosen yet. Run facetl people import with --run first.")
        with self._lock:
            if self._loaded is None or self._loaded[0] != folder:
                self._loaded = (folder, self._load_run())
            return self._loaded[1]

    def look(self, on_progress: OnProgress) -> str:
        """Import what is new where photos were found before, and stack it."""
        recognizer = self.recognizer()
        from facetl.people.library_clusters import stack_what_is_new
        from facetl.people.photo_import import import_photos

        # A folder that is gone, such as a disk that is not connected, must not keep the others from being looked at.
        folders = [folder for folder in source_folders(self.library) if folder.is_dir()]
        if not folders:
            raise LibraryError("None of the folders that photos were imported from is there now.")
        detector = library_detector(self.library)
        report = import_photos(self.library, folders, detector=detector, on_progress=on_progress)
        stack_what_is_new(self.library, recognizer, on_progress=on_progress)
        damaged = report.damaged_metadata
        left = f" The metadata of {damaged:,} photos is damaged; names in it may be missing." if damaged else ""
        if report.missing:
            left += f" {report.missing:,} photos are missing: facetl people prune drops those that were deleted."
        return f"{report.added:,} new photos with {report.faces:,} faces.{left}"

    def stack(self, on_progress: OnProgress) -> str:
        """Stack all faces anew."""
        recognizer = self.recognizer()
        from facetl.people.library_clusters import restack

        restack(self.library, recognizer, on_progress=on_progress)
        return f"{self.library.stack_count():,} stacks of {self.library.counts()['stacked']:,} faces."

    def learn(self, on_progress: OnProgress) -> Proposal:
        """Train on the named people, and return what that would change."""
        self.recognizer()
        from facetl.people import learned_head
        from facetl.training.settings import preset

        settings = preset("balanced")
        return learned_head.learn(
            self.library,
            settings=settings,
            on_progress=on_progress,
            on_epoch=lambda epoch, _: on_progress(epoch + 1, settings.epochs),
        )

    def apply(self, what: Proposal) -> str:
        """Use what was learnt."""
        from facetl.people import learned_head

        if not what.better:
            raise LibraryError("What was learnt is not better than what is in use: there is nothing to apply.")
        learned_head.apply(self.library)
        return f"The new head is in use, and all faces are stacked by it: {self.library.stack_count():,} stacks."

    def discard(self, what: Proposal) -> str:
        """Delete what was learnt."""
        from facetl.people import learned_head

        if what.better and learned_head.waiting(self.library) == what.run:
            learned_head.discard(self.library)
        return "What was learnt is deleted."

    def questions(self, count: int) -> Sequence[Question]:
        """Return the pairs of which it helps most to know whether they are one person's, best first."""
        recognizer = self.recognizer()
        from facetl.people.library_clusters import next_questions

        return next_questions(self.library, recognizer, count)

    def alike(self, stack: int, count: int) -> Sequence[Alike]:
        """Return the stacks whose faces are nearest, on average over all pairs, likeliest first."""
        ids, rows = self._embeddings()
        stack_of = self.library.stacks_of(ids.tolist())
        place = np.array([stack_of.get(face, -1) for face in ids.tolist()])
        own = place == stack
        if not own.any():
            return []
        stacks, of = np.unique(place, return_inverse=True)
        sums = np.zeros((len(stacks), rows.shape[1]))
        np.add.at(sums, of, rows)
        means = sums / np.bincount(of)[:, None]
        # The mean squared distance of two stacks' unit vectors follows from their mean vectors.
        distances = 2.0 - 2.0 * means @ rows[own].mean(axis=0)
        order = [at for at in np.argsort(distances, kind="stable") if stacks[at] not in (stack, -1)]
        # Two faces of one photo are two people's.
        photos = {face.photo for face in self.library.faces(ids[own].tolist())}
        apart = {stack_of.get(face.id) for photo in photos for face in self.library.faces_of(photo)}
        near = [at for at in order if int(stacks[at]) not in apart][:count]
        return [Alike(int(stacks[at]), self._probability(float(distances[at]))) for at in near]

    def recognise(self, photo: NDArray[np.uint8]) -> Sequence[Recognised]:
        """Return the faces of a photo [height, width, 3] uint8 RGB, who they are, and the faces most like them."""
        recognizer = self.recognizer()
        from facetl.people.library_embeddings import known_people

        seen = recognizer.faces(photo)
        if not seen:
            return []
        ids, rows = self._embeddings()
        named = self.library.named()
        answers: list[Any] = [None] * len(seen)
        if any(face in named for face in ids.tolist()):
            identifier = known_people(self.library, recognizer, ids, rows)
            answers = identifier.answers(np.stack([one.embedding for one in seen]))
        found = []
        for one, answer in zip(seen, answers, strict=True):
            distances = 2.0 - 2.0 * rows @ one.embedding
            near = np.argsort(distances, kind="stable")[:_NEAREST]
            found.append(
                Recognised(
                    box=one.face.box,
                    name=None if answer is None else answer.name,
                    probability=None if answer is None else answer.probability,
                    nearest=tuple((int(ids[at]), self._probability(float(distances[at]))) for at in near),
                )
            )
        return found

    def export(
        self,
        folder: Path,
        on_progress: OnProgress,
        *,
        kinds: frozenset[str],
        links: str = "hard",
        names: tuple[str, ...] | None = None,
    ) -> str:
        """Write people for other programs; see `facetl.people.people_export.export`."""
        from facetl.people.people_export import export

        report = export(self.library, folder, kinds=kinds, links=links, names=names, on_progress=on_progress)
        left = f" {sum(report.skipped.values()):,} photos were left out." if report.skipped else ""
        return f"{report.people:,} people on {report.photos:,} photos, in {report.folder}.{left}"

    def _embeddings(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids [n] and embeddings [n, width] of the good faces, computed anew when faces or the run changed."""
        recognizer = self.recognizer()
        from facetl.people.library_embeddings import library_vectors

        ids = self.library.face_ids()
        with self._lock:
            state = (self._loaded, ids.tobytes())
            if self._embedded is None or self._embedded[0] != state:
                self._embedded = (state, *library_vectors(self.library, recognizer, ids))
            return self._embedded[1], self._embedded[2]

    def _probability(self, distance: float) -> float:
        recognizer = self.recognizer()
        if recognizer.calibration is not None:
            return recognizer.probability(max(0.0, distance))
        # Without a calibration: even at the threshold, and surer the nearer.
        return float(1.0 / (1.0 + (max(0.0, distance) / recognizer.threshold) ** 2))
