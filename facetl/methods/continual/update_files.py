"""What an updated run's folder holds, and its model card."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.evaluation.calibration import Calibrated
from facetl.methods.continual.memory import Memory
from facetl.recognition import calibration_files, calibration_section, run_folder, sides
from facetl.recognition.documents import MODEL_CARD
from facetl.recognition.floors import BASELINES, UNTRAINED
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run import METRICS

_QUALITY = re.compile(r"^## How good it is\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, eq=False)
class NewVersion:
    """A run's new version, before it is written.

    Attributes:
        recognizer: with the new head.
        calibrated: on the validation people.
        memory: what is remembered for the next update; None for nothing.
        people: side → people, those who arrived among them.
        config: of the run; `update` says how the version came about.
    """

    recognizer: Recognizer
    calibrated: Calibrated
    memory: Memory | None
    people: sides.People
    config: Mapping[str, Any]

    def write(self, partial: Path, folder: Path) -> None:
        """Write all of it into `partial`, to stand where `folder` does, from which the baselines are taken over."""
        self.recognizer.save(partial)
        (partial / run_folder.HEAD).chmod(0o600)
        calibration_files.write(partial, self.calibrated)
        sides.write_people(partial, self.people)
        if self.memory is not None:
            self.memory.write(partial)
        run_folder.write_json(partial / run_folder.CONFIG, self.config)
        run_folder.write_json(partial / METRICS, {"run": folder.name, **self.config["update"]})
        for name in (BASELINES, UNTRAINED):
            if (folder / name).is_file():
                shutil.copy2(folder / name, partial / name)
        if (folder / MODEL_CARD).is_file():
            card = self._card((folder / MODEL_CARD).read_text())
            calibration_files.replace(partial / MODEL_CARD, card.encode())

    def _card(self, before: str) -> str:
        """Return the model card with this version's figures in place of those before."""
        quality = "\n".join(_lines(self.config)) + "\n"
        card = _QUALITY.sub(lambda _: quality, before, count=1) if _QUALITY.search(before) else f"{before}\n{quality}"
        return calibration_section.put_into(card, self.calibrated.calibration)


def _lines(config: Mapping[str, Any]) -> list[str]:
    update = config["update"]
    lines = [
        "## How good it is",
        "",
        f"Version {config['version']}, updated from version {update['from']} by {update['method']} with "
        f"{update['photos']:,} photos of {update['people']:,} people, {update['made']}. Verification of test people, "
        "whom neither training nor any choice has seen; thresholds from the validation people.",
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
