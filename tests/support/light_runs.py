"""Run folders without what takes longest to write, for tests that read neither report nor SavedModel."""

from __future__ import annotations

from pathlib import Path

import pytest

from facetl.recognition import recognizer
from facetl.runs import training_run

CARD = "# family\n\n## How good it is\n\nold figures\n\n## Data\n\n- people\n"


def write_card_alone(folder: Path, *_: object, **__: object) -> None:
    (folder / "MODEL_CARD.md").write_text(CARD)


def write_no_saved_model(extractor: object, head: object, folder: Path) -> None:
    folder.mkdir()


def make_runs_light(patch: pytest.MonkeyPatch) -> None:
    """Let runs be written with a model card alone and an empty SavedModel."""
    patch.setattr(training_run, "write_documents", write_card_alone)
    patch.setattr(recognizer, "save_model", write_no_saved_model)
