"""Learning from the people who were named: a new head, shown with what it would change before anything is applied.

Some faces of each named person are held out, whole days of photos where the photos have dates. The head is trained on
most of the people, its epoch, threshold and probabilities are chosen on the others, and old and new head are compared
on the held-out faces, which neither has seen. Only a head that is better is proposed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl import __version__
from facetl.calibration.calibration import Calibrated, Target, calibrate_pairs
from facetl.data.splits import assign
from facetl.errors import LibraryError
from facetl.io.json import JsonFields, write_json
from facetl.people.holdout import HeadComparison, compare_heads, hold_out
from facetl.people.library import Library
from facetl.people.library_clusters import draft_stacks, restack
from facetl.people.library_embeddings import run_features
from facetl.people.library_settings import drop_run, next_run, run_before, run_in_use, use_run
from facetl.people.store.models import StackDraft
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import METRICS, RunFolder, versions
from facetl.training.fit import FittedHead, fit_head
from facetl.training.head import embed
from facetl.training.settings import TrainingSettings, preset

PROPOSAL = "proposal.json"
_WAITING = "proposal"

# Share of the people by whom the head is chosen and calibrated.
VALIDATION = 1 / 3

Progress = Callable[[int, int], None]


_SHOWN = 60  # faces listed of each kind


@dataclass(frozen=True)
class StackChanges(JsonFields):
    """Differences between a library's stacks and those of another clustering.

    Attributes:
        stacks_before, stacks_after: how many there are, and would be.
        joined: stacks that would take in faces of two or more of today's.
        split: of today's, those whose faces would lie in two or more.
        moved: faces that would lie apart from most of their stack of today, or in a stack that continues another one;
            `moved_faces` are some of them.
        named: faces with no name now that would get one suggested; `named_faces` are some of them.
    """

    stacks_before: int
    stacks_after: int
    joined: int
    split: int
    moved: int
    named: int
    moved_faces: tuple[int, ...]
    named_faces: tuple[int, ...]


@dataclass(frozen=True)
class Proposal:
    """A head that was learnt, measured, and waits to be applied; or one that was not better, and is gone.

    Attributes:
        run: folder of the new run, None where it was not better.
        people, faces: that it was learnt from, with those that chose its epoch; `held_out` faces measured it.
        measured: old and new head on the held-out faces.
        changes: what the stacks would become; None where nothing is proposed.
    """

    run: Path | None
    people: int
    faces: int
    held_out: int
    measured: HeadComparison
    changes: StackChanges | None

    @property
    def better(self) -> bool:
        """True where the new head is proposed."""
        return self.run is not None

    @property
    def headline(self) -> str:
        """A sentence for a reader: better or not, and on what evidence."""
        measured = self.measured
        what = "The new head is better" if self.better else "No new head is proposed: it is not better"
        return f"{what}. {measured.sentence}"

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `better`."""
        return {
            "better": self.better,
            "run": None if self.run is None else str(self.run),
            "people": self.people,
            "faces": self.faces,
            "held_out": self.held_out,
            "headline": self.headline,
            **self.measured.to_json(),
            "changes": None if self.changes is None else self.changes.to_json(),
        }


def learn(
    library: Library,
    *,
    settings: TrainingSettings | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda epoch, logs: None,
) -> Proposal:
    """Train a head on the people of a library who were named, from its cached features, and measure it.

    What it would change is computed; nothing of the library changes but that the proposal waits. One that waited
    already is discarded.

    Args:
        settings: of the training; None for the preset `balanced`.
        seed: of every random choice, in `settings`, too.
        on_progress: called with faces done and faces in all, of features that are missing.
        on_epoch: called after each epoch with its number, from 0, and its logs.

    Raises DataError where too few people are named, LibraryError without a run, RunError, CacheError, TrainingError.
    """
    folder = run_in_use(library)
    if folder is None:
        raise LibraryError(
            "Learning starts from the run that a library uses, and none is chosen. Give people import --run."
        )
    chosen = replace(settings or preset("balanced"), seed=seed, fallback=False)
    held = hold_out(library, seed=seed)
    discard(library)
    old = Recognizer.load(folder)
    featured = run_features(library, old, held.faces, on_progress=on_progress)
    held = held.of(featured.ids)
    features = featured.features
    assert features is not None
    person_sides = assign(held.kept_counts(), seed=seed, validation=VALIDATION, test=0.0)
    side = np.array([person_sides.get(name, "") for name in held.names])
    trained, validated = (np.flatnonzero(held.kept & (side == one)) for one in ("train", "validation"))
    labels = held.labels
    validation = features.subset(validated), labels[validated]
    fitted = fit_head(
        features.subset(trained),
        labels[trained],
        chosen,
        validation=validation,
        layout=featured.layout,
        on_epoch=on_epoch,
    )
    measured = compare_heads(
        embed(old.head, features), embed(fitted.head, features), held, unseen=side == "validation", seed=seed
    )
    kept = int(held.kept.sum())
    proposal = Proposal(None, len(set(held.names)), kept, len(held.kept) - kept, measured, changes=None)
    if not measured.better:
        return proposal
    calibrated = calibrate_pairs(embed(fitted.head, validation[0]), validation[1], target=Target("accuracy"), seed=seed)
    new = next_run(library)
    _write_run(new, folder, fitted, chosen, calibrated, measured, person_sides)
    learnt = replace(
        old, head=fitted.head, threshold=calibrated.calibration.threshold, calibration=calibrated.calibration
    )
    proposal = replace(proposal, run=new, changes=stack_changes(library, draft_stacks(library, learnt)))
    write_json(new / PROPOSAL, proposal.to_json())
    library.set_setting(_WAITING, new.name)
    return proposal


def waiting(library: Library) -> Path | None:
    """Return the folder of the run that waits to be applied, None where none does."""
    name = library.setting(_WAITING)
    folder = library.models_folder / name if name else None
    return folder if folder is not None and RunFolder(folder).is_run else None


def apply(library: Library, *, on_progress: Progress | None = None) -> Path:
    """Use the run that waits, stack all faces anew by it, and return its folder; the old run is kept.

    Raises LibraryError where none waits, RunError, CacheError.
    """
    folder = waiting(library)
    if folder is None:
        raise LibraryError("Nothing waits to be applied. Run facetl people learn first.")
    recognizer = Recognizer.load(folder)
    use_run(library, folder)
    library.set_setting(_WAITING, None)
    restack(library, recognizer, on_progress=on_progress)
    return folder


def discard(library: Library) -> None:
    """Delete the run that waits, if one does."""
    folder = waiting(library)
    library.set_setting(_WAITING, None)
    if folder is not None:
        drop_run(library, folder)


def go_back(library: Library, *, on_progress: Progress | None = None) -> Path:
    """Use the run again that was in use before, stack all faces anew by it, and return its folder; LibraryError."""
    folder = run_before(library)
    if folder is None:
        raise LibraryError("This library has used one run only: there is none to go back to.")
    recognizer = Recognizer.load(folder)
    use_run(library, folder)
    restack(library, recognizer, on_progress=on_progress)
    return folder


def _write_run(
    folder: Path,
    old: Path,
    fitted: FittedHead,
    settings: TrainingSettings,
    calibrated: Calibrated,
    measured: HeadComparison,
    person_sides: Mapping[str, str],
) -> None:
    """Write a run that was learnt in a library. It has no report and no pictures: the library shows its people."""
    before = RunFolder(old).config()
    with RunFolder.new(folder) as partial:
        partial.write_head(fitted.head)
        people = {side: [name for name, own in person_sides.items() if own == side] for side in ("train", "validation")}
        partial.write_people(people)
        config = {
            "facetl": __version__,
            "settings": settings.to_json(),
            "head": {"fallback": False, "width": fitted.head.output_shape[-1]},
            "extractor": before["extractor"],
            "learnt_after": old.name,
            "versions": versions(),
        }
        partial.write_config(config)
        partial.write_calibration(calibrated)
        metrics = {
            "run": folder.name,
            "epochs": len(fitted.history),
            "best_epoch": fitted.best_epoch,
            **measured.to_json(),
        }
        write_json(partial.path / METRICS, metrics)


def stack_changes(library: Library, drafts: Sequence[StackDraft]) -> StackChanges:
    """Compare a library's stacks with those that a clustering drafted."""
    faces = [face for draft in drafts for face in draft.faces]
    before = library.stacks_of(faces)
    shown = library.shown()
    fresh = [face for draft in drafts if draft.suggestion is not None for face in draft.faces if face not in shown]
    return count_changes(before, [draft.faces for draft in drafts], stacks=library.stack_count(), named=fresh)


def count_changes(
    before: Mapping[int, int], after: Sequence[Sequence[int]], *, stacks: int, named: Sequence[int] = ()
) -> StackChanges:
    """Compare stacks.

    Args:
        before: face → its stack; a face that is new has none.
        after: the faces of each stack.
        stacks: how many there are today.
        named: faces that would get a name suggested.
    """
    shares: dict[int, Counter[int]] = defaultdict(Counter)  # stack before → place after → faces
    for place, faces in enumerate(after):
        for face in faces:
            if face in before:
                shares[before[face]][place] += 1
    heir = {stack: max(parts, key=lambda place: (parts[place], -place)) for stack, parts in shares.items()}
    moved: list[int] = []
    joined = 0
    for place, faces in enumerate(after):
        known = [face for face in faces if face in before]
        joined += len({before[face] for face in known}) > 1
        # Of those that end here, the biggest goes on, and the faces of the others come to it.
        ending = Counter(before[face] for face in known if heir[before[face]] == place)
        main = max(ending, key=lambda stack: (ending[stack], -stack), default=None)
        moved += [face for face in known if before[face] != main]
    return StackChanges(
        stacks_before=stacks,
        stacks_after=len(after),
        joined=joined,
        split=sum(len(parts) > 1 for parts in shares.values()),
        moved=len(moved),
        named=len(named),
        moved_faces=tuple(moved[:_SHOWN]),
        named_faces=tuple(named[:_SHOWN]),
    )
