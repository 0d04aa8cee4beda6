"""A run takes up new people: at once by their means, then by a new head, which must not be worse than the old.

    models/NAME/            the version in use, as train writes it, but for the report and its pictures
      exemplars.npz         a few photos of each of the people it was trained on, as their components
      basis.npz             the components' directions
      versions/N/           every other version: see facetl.runs.versions

The people that the run was measured or chosen by are never learnt from. The new head is compared with the old one on
the validation people, which decide whether it is put in place; what is reported is of the test people.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from facetl import __version__
from facetl.calibration.calibration import Calibrated, Target, calibrate_pairs
from facetl.data.splits import SIDES
from facetl.errors import DataError, RunError
from facetl.io.files import write_atomic
from facetl.io.json import write_json
from facetl.methods.continual.exemplars import first_of_each
from facetl.methods.continual.memory import Memory
from facetl.methods.continual.new_people import Enrolment, Known, NewPeople, Notify, Progress, held_back
from facetl.methods.continual.strategies import Candidate, Learner
from facetl.methods.continual.update_report import Gain, Twice, UpdateReport, found, gains, updated_card, verified
from facetl.methods.continual.update_settings import UpdateSettings
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import METRICS, MODEL_CARD, RunFolder, versions
from facetl.runs.evaluated_run import BASELINES, UNTRAINED
from facetl.runs.versions import history, next_number, put_in_place
from facetl.training.head import embed

NONE, JOINT = "none", "joint"
# Methods that take of the settings but the memory and the seed.
WITHOUT_SETTINGS = (NONE, JOINT)


def update_run(
    folder: Path,
    photos: Path,
    *,
    method: str,
    update: UpdateSettings,
    cache: Path,
    data: Path | None = None,
    force: bool = False,
    on_progress: Progress | None = None,
    notify: Notify = lambda line: None,
) -> UpdateReport:
    """Take up the people of a folder into a run: enrol them, then learn from them, then put the new head in place.

    Args:
        folder: the run's.
        photos: a folder per person; of people that the run knows, new photos are taken.
        method: `none` (enrol only), `joint` (train all anew on everybody), or that of `update`.
        update: settings of the other methods, and the memory and seed of all.
        cache: of features.
        data: where the photos of the run's training lie now.
        force: whether a head is put in place that is worse than the old one on validation people, or for which the
            run's gallery means nothing.
        on_progress: called with photos done and photos in all, of features that are missing.
        notify: called with lines for the user.

    Raises DataError where no photo is new or photos of the run are gone, RunError for a run that cannot be updated,
    TrainingError for too few people, WeightsError, CacheError.
    """
    job = _Job(folder, photos, update, cache=cache, data=data, on_progress=on_progress, notify=notify)
    enrolment = job.arrivals.enrol(folder, job.recognizer.head, digest=job.digest, cache=cache)
    report = job.began(method, enrolment)
    if method == NONE:
        return report
    candidate = job.learnt(method)
    groups = job.groups(candidate)
    own, gallery = gains(groups.validation, seed=update.seed)
    why_not = _why_not(own, gallery, enrolled=enrolment.total)
    report = replace(
        report,
        old=verified(groups.test, validation=groups.validation, seed=update.seed),
        new=verified(
            groups.test.joined(groups.new_test),
            validation=groups.validation,
            seed=update.seed,
            of=frozenset(groups.new_test.names.tolist()),
        ),
        found=found(groups.probes, groups.gallery),
        own_gain=own,
        gallery_gain=gallery,
        way=candidate.way,
        seconds=candidate.seconds,
        why_not=why_not,
    )
    if why_not is not None and not force:
        return report
    return job.put_in_place(replace(report, why_not=None), candidate, groups, stays=not gallery.worse)


@dataclass(frozen=True, eq=False)
class _Groups:
    """Everybody's photos under the old head and the new one."""

    validation: Twice
    test: Twice
    new_test: Twice
    probes: Twice
    gallery: Twice


class _Job:
    """One update under way: the run, the people it knows and the new people."""

    def __init__(
        self,
        folder: Path,
        photos: Path,
        update: UpdateSettings,
        *,
        cache: Path,
        data: Path | None,
        on_progress: Progress | None,
        notify: Notify,
    ) -> None:
        self.folder, self.update, self.cache, self.photos, self.notify = folder, update, cache, photos, notify
        RunFolder(folder).recover()
        self.digest, self.people = RunFolder(folder).head_digest(), RunFolder(folder).people()
        self.recognizer = Recognizer.load(folder)
        self.known = Known.of(folder, cache=cache, data=data, on_progress=on_progress, notify=notify)
        self.arrivals = NewPeople.of(
            photos, self.known, self.recognizer, cache=cache, on_progress=on_progress, notify=notify
        )
        learnt = self.arrivals.on_side("train")
        self.held = learnt & held_back(self.arrivals.names, seed=update.seed)
        self.taken = learnt & ~self.held
        self.learner = Learner(folder, self.recognizer, self.known, self.arrivals, self.taken, update, notify)

    def began(self, method: str, enrolment: Enrolment) -> UpdateReport:
        """Return the report before anything is learnt."""
        return UpdateReport(
            folder=self.folder,
            method=method,
            version=next(one.number for one in history(self.folder) if one.in_use),
            in_place=False,
            why_not=None,
            enrolment=enrolment,
            people=len(np.unique(self.arrivals.names[self.taken])),
            photos=int(self.taken.sum()),
            held_out=len(self.arrivals.sides["validation"] | self.arrivals.sides["test"]),
            seen=self.arrivals.seen,
        )

    def learnt(self, method: str) -> Candidate:
        """Learn the new people; DataError where all are held out."""
        if not self.taken.any():
            raise DataError(
                f"{self.photos}: expected people to learn from, got {len(set(self.arrivals.names))} whom the run holds "
                "out, to be measured or chosen by. They are enrolled; add other people, or give --method none."
            )
        return self.learner.retrained() if method == JOINT else self.learner.learnt()

    def groups(self, candidate: Candidate) -> _Groups:
        """Embed everybody who is measured on by the old head and by the new one."""
        arrivals = self.arrivals
        gallery = self._known_twice("train", candidate, most=self.update.memory)
        return _Groups(
            validation=self._known_twice("validation", candidate).joined(
                self._new_twice(arrivals.on_side("validation"), candidate)
            ),
            test=self._known_twice("test", candidate),
            new_test=self._new_twice(arrivals.on_side("test"), candidate),
            probes=self._new_twice(self.held, candidate),
            gallery=gallery.joined(self._new_twice(self.taken, candidate)),
        )

    def put_in_place(self, report: UpdateReport, candidate: Candidate, groups: _Groups, *, stays: bool) -> UpdateReport:
        """Write the new version, exchange it for the one in use, and return the report of what is now."""
        validation, number = groups.validation, next_number(self.folder)
        calibrated = calibrate_pairs(
            validation.after, validation.labels, target=Target("accuracy"), seed=self.update.seed
        )
        memory = candidate.memory
        report = replace(
            report,
            version=number,
            in_place=True,
            memory_bytes_per_person=None if memory is None else memory.exemplars.bytes_per_person,
            gallery_kept=stays,
        )
        recognizer = replace(
            self.recognizer,
            head=candidate.head,
            threshold=calibrated.calibration.threshold,
            calibration=calibrated.calibration,
        )
        config = {
            **self.known.config,
            "facetl": __version__,
            "version": number,
            "compatible_heads": self._answers_for(candidate.head, stays=stays),
            "updates": [*self.known.config.get("updates", ()), {"data": str(self.photos.resolve())}],
            "update": {
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
                "from": self.known.config.get("version", 1),
                "settings": self.update.to_json(),
                **{key: value for key, value in report.to_json().items() if key != "run"},
            },
            "versions": versions(),
        }

        def write(partial: Path) -> None:
            # The memory may hold somebody who was forgotten since it was read.
            if RunFolder(self.folder).people() != self.people:
                raise RunError(f"{self.folder}: people were forgotten by another process meanwhile. Update it again.")
            self._write(partial, recognizer, calibrated, memory, config)

        kept = put_in_place(self.folder, write, head=self.digest)
        if not kept:
            # Its rows mean nothing to the new head: the new people can be named by it at least.
            digest = RunFolder(self.folder).head_digest()
            self.arrivals.enrol(self.folder, candidate.head, digest=digest, cache=self.cache)
        return replace(report, gallery_kept=kept)

    def _write(
        self,
        partial: Path,
        recognizer: Recognizer,
        calibrated: Calibrated,
        memory: Memory | None,
        config: Mapping[str, Any],
    ) -> None:
        """Write a new version into `partial`; it takes over the baselines of the one in use."""
        run = RunFolder(partial)
        recognizer.save(partial)
        run.write_calibration(calibrated)
        run.write_people({which: self.known.sides[which] | self.arrivals.sides[which] for which in SIDES})
        if memory is not None:
            memory.write(partial)
        run.write_config(config)
        write_json(partial / METRICS, {"run": self.folder.name, **config["update"]})
        for name in (BASELINES, UNTRAINED):
            if (self.folder / name).is_file():
                shutil.copy2(self.folder / name, partial / name)
        if (self.folder / MODEL_CARD).is_file():
            before = (self.folder / MODEL_CARD).read_text(encoding="utf-8")
            card = updated_card(before, config, calibrated.calibration)
            write_atomic(partial / MODEL_CARD, card.encode())

    def _known_twice(self, which: str, candidate: Candidate, *, most: int | None = None) -> Twice:
        """Embed people of a side by both heads; at most so many photos of each."""
        features, names = self.known.features(which)
        rows = np.arange(len(names)) if most is None else first_of_each(names, most)
        some = features.subset(rows)
        return Twice(embed(self.recognizer.head, some), embed(candidate.head, some), names[rows])

    def _new_twice(self, which: np.ndarray, candidate: Candidate) -> Twice:
        before = self.arrivals.some(which, self.recognizer.head)
        return Twice(before.rows, self.arrivals.some(which, candidate.head).rows, before.names)

    def _answers_for(self, head: keras.Model, *, stays: bool) -> list[str]:
        """Return the digests of the heads whose galleries a new head is no worse on than they are themselves."""
        if not stays:
            return []
        features, names = self.known.features("validation")
        after = embed(head, features)
        answered = [self.digest]
        for version in self.learner.older():
            before = embed(RunFolder(version.folder).head(), features)
            _, on_gallery = gains(Twice(before, after, names), seed=self.update.seed)
            if not on_gallery.worse:
                answered.append(RunFolder(version.folder).head_digest())
        return sorted(answered)


def _why_not(own: Gain, gallery: Gain, *, enrolled: int) -> str | None:
    """Return why a new head is not put in place; None where nothing speaks against it."""
    if own.worse:
        return (
            "on validation people the new head separates people worse than the old one, by more than one standard "
            f"error: AUC {own.value:+.4f} ± {own.stderr:.4f}"
        )
    if gallery.worse and enrolled:
        return (
            f"the {enrolled:,} people of the run's gallery were enrolled by the old head, and on its embeddings the "
            f"new one is worse by more than one standard error: AUC {gallery.value:+.4f} ± {gallery.stderr:.4f}"
        )
    return None
