"""What tells one extractor's features from another's."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import pytest

from facetl.errors import FacetlError
from facetl.features import spec as spec_module
from facetl.features.spec import ExtractorSpec

WEIGHTS = "ab" * 32
OTHER = {"name": "xception", "tap": "mixed3", "grid": 5, "crop": 0.8, "mirror": False}


class TestFingerprint:
    def test_is_a_sha256_that_repeats(self) -> None:
        fingerprint = ExtractorSpec().fingerprint(WEIGHTS)
        assert len(bytes.fromhex(fingerprint)) == 32
        assert fingerprint == ExtractorSpec().fingerprint(WEIGHTS)

    def test_is_the_same_in_another_process(self) -> None:
        code = f"from facetl.features.spec import ExtractorSpec; print(ExtractorSpec().fingerprint({WEIGHTS!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ExtractorSpec().fingerprint(WEIGHTS)

    @pytest.mark.parametrize("field", [field.name for field in fields(ExtractorSpec)])
    def test_changes_with_every_setting(self, field: str) -> None:
        # A setting that OTHER does not know would be a KeyError here, and a reason to think of the fingerprint.
        changed = replace(ExtractorSpec(), **{field: OTHER[field]})
        assert changed.fingerprint(WEIGHTS) != ExtractorSpec().fingerprint(WEIGHTS)

    def test_changes_with_the_weights(self) -> None:
        assert ExtractorSpec().fingerprint("ab" * 32) != ExtractorSpec().fingerprint("ac" + "ab" * 31)

    def test_changes_with_the_preprocessing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = ExtractorSpec().fingerprint(WEIGHTS)
        monkeypatch.setattr(spec_module, "PREPROCESSING", spec_module.PREPROCESSING + 1)
        assert ExtractorSpec().fingerprint(WEIGHTS) != before

    def test_a_graph_may_be_moved_but_not_exchanged(self) -> None:
        here = ExtractorSpec.of("/here/net.pb")
        assert here.fingerprint(WEIGHTS) == ExtractorSpec.of("/elsewhere/net.pb").fingerprint(WEIGHTS)
        assert here.fingerprint(WEIGHTS) != here.fingerprint("cd" * 32)


class TestSettings:
    @pytest.mark.parametrize("crop", [0, -0.5, 1.01, float("nan")])
    def test_a_crop_outside_0_to_1(self, crop: float) -> None:
        with pytest.raises(FacetlError, match=r"^crop: expected a fraction in \(0, 1\], got "):
            ExtractorSpec(crop=crop)

    @pytest.mark.parametrize("grid", [0, -7])
    def test_a_grid_below_1(self, grid: int) -> None:
        with pytest.raises(FacetlError, match=f"^grid: expected a whole number from 1, got {grid}"):
            ExtractorSpec(grid=grid)

    def test_defaults_depend_on_the_net(self) -> None:
        best = ExtractorSpec()
        assert ExtractorSpec.of() == best
        assert best.tap.startswith("mixed")
        assert (ExtractorSpec.of("resnet50").tap, ExtractorSpec.of("resnet50").grid) == ("avg", 1)
        assert (ExtractorSpec.of("net.pb").tap, ExtractorSpec.of("net.pb").grid) == ("avg", 1)

    def test_what_is_given_wins(self) -> None:
        assert ExtractorSpec.of(tap="avg").grid == 1
        assert ExtractorSpec.of(tap="mixed4").grid == ExtractorSpec().grid
        given = ExtractorSpec.of("xception", tap="add_3", grid=2, crop=0.5, mirror=False)
        assert given.to_json() == {"name": "xception", "tap": "add_3", "grid": 2, "crop": 0.5, "mirror": False}

    def test_a_graph_is_told_by_its_suffix(self) -> None:
        assert ExtractorSpec.of("some/net.pb").is_graph_def
        assert not ExtractorSpec.of("inception_v3").is_graph_def
