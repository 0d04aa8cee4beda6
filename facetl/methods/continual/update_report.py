"""The report of an update, for its reader and for the version that it made."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.calibration.calibration import Calibrated
from facetl.io.files import write_atomic
from facetl.io.json import JsonFields, write_json
from facetl.methods.continual.head_comparison import Found, Gain, Verified
from facetl.methods.continual.memory import Memory
from facetl.methods.continual.update_enrolment import Enrolment
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import METRICS, MODEL_CARD, RunFolder, SplitPeople
from facetl.runs.model_card import put_calibration_into
from facetl.runs.run_baselines import BASELINES, UNTRAINED


@dataclass(frozen=True)
class UpdateReport(JsonFields):
    """The report of an update.

    Attributes:
        folder: the run's.
        method: as asked for.
        version: the run's version now.
        in_place: whether a new head is in use; `why_not` is the reason where it is not.
        enrolment: who can be named since; they can be even where the new head was refused.
        people, photos: new ones that were learnt from; `held_out` new people never were.
        seen: photos left out, the run having seen them.
        old: both heads on the run's test people. new: on pairs with the new people among them; None for too few.
        found: new people's held-out photos; None where nobody has 3 photos.
        own_gain, gallery_gain: of the new head, and of the new head on a gallery of the old one, over the old head, on
            the validation people; None without a new head.
        gallery_kept: whether what was enrolled with the old head still answers.
        memory_bytes_per_person: a person, of what is remembered for the next update.
        way: `closed form` or `gradient`, or `training` for joint; None without a new head.
        seconds: of learning alone.
    """

    folder: Path
    method: str
    version: int
    in_place: bool
    why_not: str | None
    enrolment: Enrolment
    people: int
    photos: int
    held_out: int
    seen: int
    old: Verified | None = None
    new: Verified | None = None
    found: Found | None = None
    own_gain: Gain | None = None
    gallery_gain: Gain | None = None
    gallery_kept: bool = True
    memory_bytes_per_person: float | None = None
    way: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, the folder as `run`."""
        report = super().to_json()
        return {"run": report.pop("folder"), **report}


_QUALITY = re.compile(r"^## How good it is\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, eq=False)
class NewVersion:
    """A run's new version, before it is written.

    Attributes:
        recognizer: with the new head.
        calibrated: on the validation people.
        memory: what is remembered for the next update; None for nothing.
        people: side → people, those who arrived among them.
        config: of the run; `update` is how the version was made.
    """

    recognizer: Recognizer
    calibrated: Calibrated
    memory: Memory | None
    people: SplitPeople
    config: Mapping[str, Any]

    def write(self, partial: Path, folder: Path) -> None:
        """Write all of it into `partial`, to stand where `folder` does, from which the baselines are taken over."""
        run = RunFolder(partial)
        self.recognizer.save(partial)
        run.write_calibration(self.calibrated)
        run.write_people(self.people)
        if self.memory is not None:
            self.memory.write(partial)
        run.write_config(self.config)
        write_json(partial / METRICS, {"run": folder.name, **self.config["update"]})
        for name in (BASELINES, UNTRAINED):
            if (folder / name).is_file():
                shutil.copy2(folder / name, partial / name)
        if (folder / MODEL_CARD).is_file():
            card = self._card((folder / MODEL_CARD).read_text(encoding="utf-8"))
            write_atomic(partial / MODEL_CARD, card.encode())

    def _card(self, before: str) -> str:
        """Return the model card with this version's figures in place of those before."""
        quality = "\n".join(_lines(self.config)) + "\n"
        card = _QUALITY.sub(lambda _: quality, before, count=1) if _QUALITY.search(before) else f"{before}\n{quality}"
        return put_calibration_into(card, self.calibrated.calibration)


def _lines(config: Mapping[str, Any]) -> list[str]:
    update = config["update"]
    lines = [
        "## How good it is",
        "",
        f"Version {config['version']}, updated from version {update['from']} by {update['method']} with "
        f"{update['photos']:,} photos of {update['people']:,} people, {update['made']}. Verification of test people, "
        "used neither for training nor for any choice; thresholds from the validation people.",
        "",
        "| people | pairs | accuracy before | after | AUC before | after | new head on the old gallery |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, shown in (("old", "of the run"), ("new", "new ones among them")):
        part = update[name]
        if part is not None:
            cells = [part[key] for key in ("accuracy_before", "accuracy_after", "auc_before", "auc_after")]
            numbers = [f"{value:.4f}" for value in (*cells, part["compatibility"]["cross"])]
            lines.append(f"| {part['people']:,} {shown} | {part['pairs']:,} | " + " | ".join(numbers) + " |")
    if update["found"] is not None:
        found = update["found"]
        lines += [
            "",
            f"Of {found['photos']:,} held-out photos of {found['people']:,} new people, {found['before']:.1%} lay "
            f"nearest to their own person among {found['among']:,} before, {found['after']:.1%} do now.",
        ]
    return [*lines, ""]
