"""The page on a library, started from the command line."""

from __future__ import annotations

import webbrowser
from typing import TYPE_CHECKING

from facetl.cli.output import put, put_json, say

if TYPE_CHECKING:
    from facetl.people.library import Library
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from facetl.cli.inputs import open_run
from facetl.errors import LibraryError
from facetl.people.library import Library
from facetl.people.people_export import export
from facetl.people.photo_import import import_photos
from facetl.people.store import library_settings
from facetl.people.store.library_settings import run_in_use
from facetl.people.web.engine import Alike, Change, Engine, ExportOrder, Learnt, Question, Recognised

if TYPE_CHECKING:
    from facetl.people.learned_head import Proposal
    from facetl.recognition.recognizer import Recognizer


def serve_page(library: Library, *, port: int, browser: bool, as_json: bool) -> None:
    """Serve the page until Ctrl-C; its address is printed, and opened in a browser where one is asked for."""
    from facetl.people.web.server import serve

    def ready(address: str) -> None:
        if as_json:
            put_json({"address": address})
        else:
            put(address)
        say("this address is the key to your library: keep it to yourself. Ctrl-C ends the page")
        if browser:
            webbrowser.open(address)

    serve(library, engine=RunningEngine(library).engine(), port=port, on_ready=ready)


Progress = Callable[[int, int], None]

_NEAREST = 24


class RunningEngine:
    """The page's engine on one library: keeps the run loaded, and the embeddings of the faces."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.RLock()
        self._loaded: tuple[Path, Recognizer] | None = None
        self._embedded: tuple[Any, NDArray[np.int64], NDArray[np.float32]] | None = None

    def engine(self) -> Engine:
        """Return what is possible: all of it with a run, without one what needs none."""
        if run_in_use(self._library) is None:
            return Engine(export=self.export)
        return Engine(
            look=self.look,
            stack=self.stack,
            learn=self.learn,
            apply=self.apply,
            discard=self.discard,
            questions=self.questions,
            alike=self.alike,
            recognise=self.recognise,
            export=self.export,
        )

    def recognizer(self) -> Recognizer:
        """Return the run in use, loaded once."""
        folder = run_in_use(self._library)
        if folder is None:
            raise LibraryError("No run is chosen yet. Run facetl people import with --run first.")
        with self._lock:
            if self._loaded is None or self._loaded[0] != folder:
                self._loaded = (folder, open_run(self._library))
            return self._loaded[1]

    def embeddings(self, on_progress: Progress | None = None) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids [n] and embeddings [n, width] of the good faces, computed anew when faces or the run changed."""
        recognizer = self.recognizer()
        from facetl.people.library_embeddings import library_vectors

        ids = self._library.face_ids()
        with self._lock:
            state = (self._loaded, ids.tobytes())
            if self._embedded is None or self._embedded[0] != state:
                found = library_vectors(self._library, recognizer, ids, on_progress=on_progress)
                self._embedded = (state, *found)
            return self._embedded[1], self._embedded[2]

    def look(self, on_progress: Progress) -> str:
        """Import what is new where photos were found before, and stack it."""
        recognizer = self.recognizer()
        from facetl.people.library_clusters import stack_what_is_new

        # A folder that is gone, such as a disk that is not connected, must not keep the others from being looked at.
        folders = [folder for folder in library_settings.source_folders(self._library) if folder.is_dir()]
        if not folders:
            raise LibraryError("None of the folders that photos were imported from is there now.")
        report = import_photos(
            self._library, folders, detector=library_settings.library_detector(self._library), on_progress=on_progress
        )
        stack_what_is_new(self._library, recognizer, on_progress=on_progress)
        return f"{report.added:,} new photos with {report.faces:,} faces."

    def stack(self, on_progress: Progress) -> str:
        """Stack all faces anew."""
        recognizer = self.recognizer()
        from facetl.people.library_clusters import restack

        restack(self._library, recognizer, on_progress=on_progress)
        return f"{self._library.stack_count():,} stacks of {self._library.counts()['stacked']:,} faces."

    def learn(self, on_progress: Progress) -> Learnt:
        """Learn from the names, and tell what that would change."""
        self.recognizer()
        from facetl.people import learned_head
        from facetl.training.settings import preset

        settings = preset("balanced")
        proposal = learned_head.learn(
            self._library,
            settings=settings,
            on_progress=on_progress,
            on_epoch=lambda epoch, _: on_progress(epoch + 1, settings.epochs),
        )
        return learnt(proposal)

    def apply(self, what: Learnt) -> str:
        """Use what was learnt."""
        from facetl.people import learned_head

        if not what.proposal.better:
            raise LibraryError("What was learnt is not better than what is in use: there is nothing to apply.")
        learned_head.apply(self._library)
        return f"The new head is in use, and all faces are stacked by it: {self._library.stack_count():,} stacks."

    def discard(self, what: Learnt) -> str:
        """Delete what was learnt."""
        from facetl.people import learned_head

        if what.proposal.better and learned_head.waiting(self._library) == what.proposal.run:
            learned_head.discard(self._library)
        return "What was learnt is deleted."

    def questions(self, count: int) -> Sequence[Question]:
        """Return the pairs of which it helps most to know whether they are one person's."""
        recognizer = self.recognizer()
        from facetl.people.library_clusters import next_questions

        return next_questions(self._library, recognizer, count)

    def alike(self, stack: int, count: int) -> Sequence[Alike]:
        """Return the stacks whose faces are nearest, on average over all pairs, likeliest first."""
        ids, rows = self.embeddings()
        stack_of = self._library.stacks_of(ids.tolist())
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
        apart = {number for face in ids[own].tolist() for number in self._apart(face, stack_of)}
        near = [at for at in order if int(stacks[at]) not in apart][:count]
        return [Alike(int(stacks[at]), self._probability(float(distances[at]))) for at in near]

    def recognise(self, photo: NDArray[np.uint8]) -> Sequence[Recognised]:
        """Return the faces of a photo, who they are, and which faces of the library are most like them."""
        recognizer = self.recognizer()
        from facetl.people.library_embeddings import known_people

        seen = recognizer.faces(photo)
        if not seen:
            return []
        ids, rows = self.embeddings()
        named = self._library.named()
        answers: list[Any] = [None] * len(seen)
        if any(face in named for face in ids.tolist()):
            identifier = known_people(self._library, recognizer, ids, rows)
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

    def export(self, order: ExportOrder, on_progress: Progress) -> str:
        """Write what was ordered."""
        report = export(
            self._library,
            order.folder,
            kinds=order.kinds,
            links=order.links,
            names=order.names,
            on_progress=on_progress,
        )
        left = f" {sum(report.skipped.values()):,} photos were left out." if report.skipped else ""
        return f"{report.people:,} people on {report.photos:,} photos, in {report.folder}.{left}"

    def _apart(self, face: int, stack_of: dict[int, int]) -> set[int]:
        """Return the stacks with a face of the same photo: two faces of one photo are two people's."""
        others = self._library.faces_of(self._library.face(face).photo)
        return {stack_of[other.id] for other in others if other.id != face and other.id in stack_of}

    def _probability(self, distance: float) -> float:
        recognizer = self.recognizer()
        if recognizer.calibration is not None:
            return recognizer.probability(max(0.0, distance))
        # Without a calibration: even at the threshold, and surer the nearer.
        return float(1.0 / (1.0 + (max(0.0, distance) / recognizer.threshold) ** 2))


def learnt(proposal: Proposal) -> Learnt:
    """Say what was learnt as the page shows it."""
    measured, changes = proposal.measured, proposal.changes
    measures = (
        ("held-out faces found nearest to their own person", measured.found_before, measured.found_after),
        ("telling people apart (AUC)", measured.auc_before, measured.auc_after),
    )
    rows: tuple[Change, ...] = ()
    if changes is not None:
        rows = (
            Change("faces that move to another stack", changes.moved, changes.moved_faces),
            Change("faces that get a name suggested", changes.named, changes.named_faces),
            Change("stacks that join others", changes.joined),
            Change("stacks that are split", changes.split),
        )
    return Learnt(headline=proposal.headline, measures=measures, changes=rows, proposal=proposal)
