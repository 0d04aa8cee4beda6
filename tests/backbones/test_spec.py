"""What tells one extractor's features from another's."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace

import pytest

from facetl.backbones import spec as spec_module
from facetl.backbones.spec import ExtractorSpec
from facetl.errors import FacetlError

WEIGHTS = "ab" * 32
OTHER = {
    "name": "xception",
    "tap": "mixed3",
    "grid": 5,
    "crops": (0.8,),
    "align": "mtcnn",
    "mirror": False,
    "grey": True,
}

# What a cache made by version 0.1.0 holds: a change here makes it worthless.
KNOWN = {
    "inception_v3": "eacbdfd278250800f1289914d063cb8d5c0e5e0eab7bae4ecb783d96b86dc7ac",
    "resnet50": "03ce382359fdbedb7943485bcbe4359ebf49ec4cc448b9b1e5c2c15f367ae2c6",
    "dlib": "0d7d79ee583f0e54dddf6055433d5e39576ef1f416cfd0f9c9ecb62b36fdcd2d",
    "/a/net.keras?mean=0&std=255&channels=bgr&size=112": (
        "d48f8f12ff7ff620e7e4db2f3e27996ff37bb851c6d207c8ec9be7a9325701c0"
    ),
    "onnx:/a/arc.onnx?std=128": "8cc672b91e1c2e79ff9e2b89a085ca9d13985d580f5e62c8eaa2ec7158483837",
    "onnx:/a/arc.onnx": "f7fbcd5a7fbf987546cc51ed642c02dad0ea4433260a503ea2a7d7cd8de61eb3",
    "/a/m/saved_model.pb": "b01e660a011407bb6b9aad38f7abd38a0a8d0b05b6eac3daba15c6b7453753d4",
}


class TestFingerprint:
    @pytest.mark.parametrize(("name", "expected"), KNOWN.items())
    def test_is_that_of_earlier_versions(self, name: str, expected: str) -> None:
        assert ExtractorSpec.of(name).fingerprint(WEIGHTS) == expected

    def test_with_settings_it_is_that_of_earlier_versions(self) -> None:
        crops = ExtractorSpec.of(crop=(0.36, 0.5, 0.7), align="mtcnn", grey=True)
        assert crops.fingerprint(WEIGHTS) == "1fa5b3d1bcc15b337018ea2a620f25df6e1192c56b09fc53d8f9780e4253ac4a"
        layer = ExtractorSpec.of("xception", tap="add_3", grid=2, crop=0.5, mirror=False)
        assert layer.fingerprint(WEIGHTS) == "706f991803f49bd93269910e33a2d79810ae4b4124d0776ffc9a4ab2fc15a498"
        graph = ExtractorSpec.of("/a/net.pb", tap="Mixed/out:1", grid=2)
        assert graph.fingerprint(WEIGHTS) == "7c4cfe5a7e7a850793ff62c26a597cf8b63490ae064098bdda9dae61e7f4a345"

    def test_is_a_sha256_that_repeats(self) -> None:
        fingerprint = ExtractorSpec().fingerprint(WEIGHTS)
        assert len(bytes.fromhex(fingerprint)) == 32
        assert fingerprint == ExtractorSpec().fingerprint(WEIGHTS)

    def test_is_the_same_in_another_process(self) -> None:
        code = f"from facetl.backbones.spec import ExtractorSpec; print(ExtractorSpec().fingerprint({WEIGHTS!r}))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ExtractorSpec().fingerprint(WEIGHTS)

    @pytest.mark.parametrize("field", [field.name for field in fields(ExtractorSpec)])
    def test_changes_with_every_setting(self, field: str) -> None:
        # A setting that OTHER does not know would be a KeyError here, and a reason to think of the fingerprint.
        changed = replace(ExtractorSpec(), **{field: OTHER[field]})
        assert changed.fingerprint(WEIGHTS) != ExtractorSpec().fingerprint(WEIGHTS)

    def test_in_colour_it_is_what_it_was_before_there_was_grey(self) -> None:
        settings = {"name": "inception_v3", "tap": "mixed2:7+mixed3:5", "grid": 7, "crops": [1.0], "align": "none"}
        settings |= {"mirror": True, "weights": WEIGHTS, "precision": "float32", "preprocessing": 1}
        before = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        assert ExtractorSpec().fingerprint(WEIGHTS) == before

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
        with pytest.raises(FacetlError, match=r"^crop: expected different fractions in \(0, 1\], got "):
            ExtractorSpec(crops=(0.5, crop))

    @pytest.mark.parametrize("crops", [(), (0.5, 0.5)])
    def test_no_crop_or_one_twice(self, crops: tuple[float, ...]) -> None:
        with pytest.raises(FacetlError, match=r"^crop: expected different fractions"):
            ExtractorSpec(crops=crops)

    def test_an_alignment_that_is_not_known(self) -> None:
        with pytest.raises(FacetlError, match=r"^align: expected none or mtcnn, got 'dlib'"):
            ExtractorSpec(align="dlib")

    @pytest.mark.parametrize("grid", [0, -7])
    def test_a_grid_below_1(self, grid: int) -> None:
        with pytest.raises(FacetlError, match=f"^grid: expected a whole number from 1 for each tap, got {grid}"):
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
        assert given.to_json() == {
            "name": "xception",
            "tap": "add_3",
            "grid": 2,
            "crops": [0.5],
            "align": "none",
            "mirror": False,
            "grey": False,
        }
        assert ExtractorSpec.from_json(given.to_json()) == given

    def test_settings_of_another_version(self) -> None:
        stored = ExtractorSpec().to_json()
        for other in ({**stored, "more": 1}, {key: value for key, value in stored.items() if key != "crops"}):
            with pytest.raises(FacetlError, match=r"^extractor: expected the settings of this version, got "):
                ExtractorSpec.from_json(other)

    def test_several_taps_each_with_its_grid(self) -> None:
        assert ExtractorSpec.of(tap="mixed2:7+mixed3+avg", grid=4).taps == (("mixed2", 7), ("mixed3", 4), ("avg", 1))
        assert ExtractorSpec.of("net.pb", tap="Mixed/out:1", grid=2).taps == (("Mixed/out:1", 2),)
        with pytest.raises(FacetlError, match=r"^tap: expected layers as"):
            ExtractorSpec(tap="mixed2:seven")
        with pytest.raises(FacetlError, match=r"^grid: expected a whole number from 1 for each tap, got 0 "):
            ExtractorSpec(tap="mixed2:0")

    def test_each_crop_is_a_view_of_its_own(self) -> None:
        both = ExtractorSpec.of(crop=(0.5, 0.7), align="mtcnn")
        assert both.views == (ExtractorSpec.of(crop=0.5, align="mtcnn"), ExtractorSpec.of(crop=0.7, align="mtcnn"))
        assert both.crop_text == "0.5,0.7"

    def test_settings_of_a_run_before_there_was_grey(self) -> None:
        stored = {name: value for name, value in ExtractorSpec.of(crop=0.5).to_json().items() if name != "grey"}
        assert ExtractorSpec.from_json(stored) == ExtractorSpec.of(crop=0.5)
