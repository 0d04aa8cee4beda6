"""Where caches lie; what this process may use."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from facetl.backbones.weights import stand_in_path
from facetl.embeddings.dataset import default_cache_folder
from facetl.io.system import usable_processors, user_cache_folder


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other places")
def test_on_linux_caches_lie_where_xdg_puts_them(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_cache_folder() == own_home / ".cache" / "facetl"
    assert default_cache_folder() == own_home / ".cache" / "facetl" / "embeddings"
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_home / "elsewhere"))
    assert user_cache_folder() == own_home / "elsewhere" / "facetl"
    assert stand_in_path().parent == own_home / "elsewhere" / "facetl" / "weights"
    monkeypatch.setenv("FACETL_CACHE", str(own_home / "mine"))
    assert default_cache_folder() == own_home / "mine"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound here")
def test_only_processors_that_the_process_may_use_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_processors() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert usable_processors() == len(before)
