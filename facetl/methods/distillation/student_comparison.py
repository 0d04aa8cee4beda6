"""Teacher and student side by side: how right they are, how large, and what a photo costs them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facetl.data.manifest import Manifest
from facetl.data.triplets import make_triplets, triplet_rows
from facetl.errors import RunError
from facetl.io.json import plain, write_json
from facetl.methods.distillation.teacher import Teacher
from facetl.metrics.triplet_scores import Share, class_accuracy, match_accuracy
from facetl.metrics.verification import Verification, evaluate_embeddings
from facetl.recognition.photo_embeddings import embed_manifest
from facetl.recognition.recognizer import Recognizer
from facetl.runs.export.cost import Cost, arithmetic, measure
from facetl.runs.export.exported_run import Exported, export, first_people
from facetl.runs.export.file_formats import Faces

COMPARISON = "distillation.json"
TRIPLETS = 10_000
# Photos that a copy is compared with its original on, and that an int8 copy takes its scales from.
_COMPARED, _REPRESENTATIVE = 64, 100
# The forms that a run is exported in: the name, and format and quantisation.
FORMS: Mapping[str, tuple[str, str]] = {
    "keras": ("keras", "none"),
    "saved_model": ("saved_model", "none"),
    "litert": ("litert", "none"),
    "litert_float16": ("litert", "float16"),
    "litert_int8": ("litert", "int8"),
}


@dataclass(frozen=True)
class ComparedModel:
    """A teacher or a student on the test people.

    Attributes:
        verification: at a threshold from the validation people.
        match: share of triplets in the right order; `classes` of photos nearest to their own person's mean.
        parameters, multiply_accumulates: of one photo; None where they cannot be counted.
        forms: how large it is in each form, and how far that is from the run itself; None for a form it does not have.
        cost: of the run, in a process of its own; `cost_litert` of its LiteRT file. None where not asked for.
    """

    name: str
    verification: Verification
    match: Share
    classes: Share
    parameters: int | None
    multiply_accumulates: int | None
    forms: Mapping[str, Exported | None]
    cost: Cost | None
    cost_litert: Cost | None

    def to_json(self) -> dict[str, Any]:
        """Return all of it as plain types."""
        return {
            "name": self.name,
            "accuracy": self.verification.accuracy,
            "accuracy_stderr": self.verification.accuracy_stderr,
            "auc": self.verification.auc,
            "match_accuracy": self.match.value,
            "match_accuracy_stderr": self.match.stderr,
            "triplets": self.match.answers,
            "class_accuracy": self.classes.value,
            "class_accuracy_stderr": self.classes.stderr,
            "parameters": self.parameters,
            "multiply_accumulates": self.multiply_accumulates,
            "bytes": {name: None if one is None else one.bytes for name, one in self.forms.items()},
            "parity": {name: None if one is None else plain(one.parity) for name, one in self.forms.items()},
            "cost": plain(self.cost),
            "cost_litert": plain(self.cost_litert),
        }


def side_by_side(
    teacher: Teacher,
    runs: Mapping[str, Path],
    *,
    cache: Path,
    teacher_run: Path | None,
    costs: bool = True,
    seed: int = 0,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[ComparedModel, ...]:
    """Compare a teacher with its students on the teacher's test people; the teacher comes first.

    Args:
        runs: name → a student's run folder.
        teacher_run: the teacher's, for its time and memory; None for an extractor, whose costs are not measured.
        costs: whether sizes, times and memory are measured, which takes a minute or two for each.

    Raises RunError, DataError for too few test people.
    """
    models: list[tuple[str, Path | None, Recognizer, Manifest, np.ndarray]] = [
        (teacher.name, teacher_run, teacher.recognizer, teacher.manifest, teacher.embeddings)
    ]
    for name, run in runs.items():
        recognizer = Recognizer.load(run)
        embedded = embed_manifest(recognizer, teacher.manifest, cache=cache)
        models.append((name, run, recognizer, embedded.manifest, embedded.embeddings))
    shared = set.intersection(*(set(manifest.paths) for _, _, _, manifest, _ in models))
    manifest = teacher.manifest.select(np.array([path in shared for path in teacher.manifest.paths]))
    test, validation = manifest.subset("test"), manifest.subset("validation")
    triplets = _triplets(test, seed)
    compared = []
    for name, folder, recognizer, own, embeddings in models:
        tested, chosen = (embeddings[own.rows_of(side.paths)] for side in (test, validation))
        counted = arithmetic(recognizer)
        forms: dict[str, Exported | None] = {}
        cost = cost_litert = None
        if costs and folder is not None:
            notify(f"measuring {name}: sizes, time and memory")
            cost = measure(folder)
            with tempfile.TemporaryDirectory() as room:
                forms = _forms(recognizer, manifest, Path(room), cache=cache)
                litert = forms["litert"]
                cost_litert = None if litert is None else measure(litert.path)
        compared.append(
            ComparedModel(
                name,
                evaluate_embeddings(tested, test.labels, thresholds_from=(chosen, validation.labels), seed=seed),
                match_accuracy(tested, triplets, test.labels),
                class_accuracy(tested, test.labels),
                None if counted is None else counted.parameters,
                None if counted is None else counted.multiply_accumulates,
                forms,
                cost,
                cost_litert,
            )
        )
    return tuple(compared)


def compare_run(
    teacher: Teacher,
    run: Path,
    *,
    cache: Path,
    teacher_run: Path | None,
    costs: bool = True,
    seed: int = 0,
    notify: Callable[[str], None] = lambda line: None,
) -> tuple[ComparedModel, ...]:
    """Compare a teacher with one student, and keep that in the student's run folder, too; see `side_by_side`."""
    models = side_by_side(
        teacher, {run.name: run}, cache=cache, teacher_run=teacher_run, costs=costs, seed=seed, notify=notify
    )
    compared = [one.to_json() for one in models]
    write_json(run / COMPARISON, {"teacher": compared[0], "student": compared[1]})
    return models


def table(models: Sequence[ComparedModel]) -> list[list[str]]:
    """Return the comparison as text cells: a heading row, then a row for each fact."""

    def row(title: str, cell: Callable[[ComparedModel], str | None]) -> list[str]:
        return [title, *((cell(one) or "–") for one in models)]

    rows = [
        ["", *(one.name for one in models)],
        row("accuracy", lambda one: f"{one.verification.accuracy:.3f} ± {one.verification.accuracy_stderr:.3f}"),
        row("AUC", lambda one: f"{one.verification.auc:.3f}"),
        row("match accuracy", lambda one: f"{one.match.value:.3f} ± {one.match.stderr:.3f}"),
        row("class accuracy", lambda one: f"{one.classes.value:.3f} ± {one.classes.stderr:.3f}"),
        row("parameters", lambda one: _count(one.parameters)),
        row("MACs a photo", lambda one: _count(one.multiply_accumulates)),
    ]
    for name in FORMS:
        if any(one.forms for one in models):
            rows.append(row(f"bytes, {name}", lambda one, name=name: _bytes(one.forms.get(name))))  # type: ignore[misc]
    for name in FORMS:
        if any(_change(one.forms.get(name)) for one in models):
            rows.append(
                row(f"accuracy, {name}", lambda one, name=name: _change(one.forms.get(name)))  # type: ignore[misc]
            )
    if any(one.cost for one in models):
        rows += [
            row("ms a photo, one core", lambda one: None if one.cost is None else f"{one.cost.milliseconds:.1f}"),
            row(
                "ms a photo, LiteRT",
                lambda one: None if one.cost_litert is None else f"{one.cost_litert.milliseconds:.1f}",
            ),
            row("MB of memory, peak", lambda one: None if one.cost is None else f"{one.cost.ram_peak / 1e6:,.0f}"),
            row(
                "MB of memory, LiteRT",
                lambda one: None if one.cost_litert is None else f"{one.cost_litert.ram_peak / 1e6:,.0f}",
            ),
        ]
    return rows


def _triplets(test: Manifest, seed: int) -> np.ndarray:
    counts = np.array(list(test.counts().values()))
    possible = int(np.sum(counts * (counts - 1) * (counts.sum() - counts)))
    return triplet_rows(test, make_triplets(test, count=max(1, min(TRIPLETS, possible)), seed=seed))


def _forms(recognizer: Recognizer, manifest: Manifest, room: Path, *, cache: Path) -> dict[str, Exported | None]:
    """Export a run in every form that it has."""
    align = recognizer.backbone.spec.align
    faces = Faces.of(first_people(manifest.subset("test"), _COMPARED), align, cache=cache)
    shown = Faces.of(first_people(manifest.subset("train"), _REPRESENTATIVE), align, cache=cache)
    found: dict[str, Exported | None] = {}
    for name, (form, quantise) in FORMS.items():
        out = room / (f"{name}.keras" if form == "keras" else name)
        try:
            found[name] = export(recognizer, out, form=form, quantise=quantise, faces=faces, representative=shown)
        except RunError:
            # A net of several crops has no file of one input; its other forms stand.
            found[name] = None
    return found


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _bytes(exported: Exported | None) -> str | None:
    return None if exported is None else f"{exported.bytes:,}"


def _change(exported: Exported | None) -> str | None:
    if exported is None or exported.parity is None or exported.parity.accuracy_change is None:
        return None
    return f"{exported.parity.accuracy_change:+.3f}"
