"""Learning from the people who were named: a new head, shown with what it would change before anything is applied.

Some faces of each named person are held out, whole days of photos where the photos have dates. The head is trained on
most of the people, its epoch, threshold and probabilities are chosen on the others, and old and new head are compared
on the held-out faces, which neither has seen. Only a head that is better is proposed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facetl import __version__
from facetl.backbones.extractor import make_extractor
from facetl.calibration.calibration import Calibrated, Target, calibrate_pairs
from facetl.data.splits import assign
from facetl.errors import LibraryError
from facetl.io.json import write_json
from facetl.people.clustering_changes import Changes, changes_of
from facetl.people.holdout import HeadComparison, Held, compare_heads, hold_out
from facetl.people.library import Library
from facetl.people.library_clusters import draft_stacks, restack
from facetl.people.library_embeddings import FeaturedFaces, library_features
from facetl.people.store.library_settings import drop_run, next_run, run_before, run_in_use, use_run
from facetl.recognition.photo_embeddings import refuse_other_weights
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
    changes: Changes | None

    @property
    def better(self) -> bool:
        """Whether the new head is proposed."""
        return self.run is not None

    @property
    def headline(self) -> str:
        """One sentence: better or not, and on what evidence."""
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
    featured = _features(library, old, held, on_progress)
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
    proposal = Proposal(
        run=None,
        people=len(set(held.names)),
        faces=int(held.kept.sum()),
        held_out=int((~held.kept).sum()),
        measured=measured,
        changes=None,
    )
    if not measured.better:
        return proposal
    calibrated = calibrate_pairs(embed(fitted.head, validation[0]), validation[1], target=Target("accuracy"), seed=seed)
    new = next_run(library)
    _write_run(new, folder, fitted, chosen, calibrated, measured, person_sides)
    learnt = replace(
        old, head=fitted.head, threshold=calibrated.calibration.threshold, calibration=calibrated.calibration
    )
    proposal = replace(proposal, run=new, changes=changes_of(library, draft_stacks(library, learnt)))
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


def _features(library: Library, recognizer: Recognizer, held: Held, on_progress: Progress | None) -> FeaturedFaces:
    extractor = recognizer.backbone
    spec, weights = extractor.spec, extractor.weights
    refuse_other_weights(spec, weights)
    return library_features(
        library,
        held.faces,
        spec,
        weights,
        make_net=lambda view: extractor if view == spec else make_extractor(view, weights),
        on_progress=on_progress,
    )


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
    partial = RunFolder.begin(folder)
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
    metrics = {"run": folder.name, "epochs": len(fitted.history), "best_epoch": fitted.best_epoch, **measured.to_json()}
    write_json(partial.path / METRICS, metrics)
    partial.complete(folder)
