"""What the tests of methods share."""

from __future__ import annotations

import pytest
from light_runs import make_runs_light


@pytest.fixture
def light_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a test the report and the SavedModel of the runs that it writes."""
    make_runs_light(monkeypatch)
