"""The transfer report on a small net: what it measures, what it picks, and what it says of the background."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.errors import DataError
from facetl.images.decode import read_photo
from facetl.metrics.baselines import ProbeScore, probe
from facetl.runs.transfer import TapRow, TransferReport, pick, transfer_report

WEIGHTS = Weights("file", "ab" * 32, Path("weights"))
TAPS = (("colour", 2), ("noise", 1), ("colour", 4))


class Net:
    """`colour`: the crop's mean colours in grid × grid cells; `noise`: three numbers that say nothing."""

    flagged: ClassVar[dict[str, int]] = {}

    def __init__(self, spec: ExtractorSpec) -> None:
        self.spec, self.weights = spec, WEIGHTS
        self.layout = FeatureMap(tuple((grid, 3) for _, grid in spec.taps))
        self.dim = self.layout.dim

    def extract(self, images: list[np.ndarray]) -> np.ndarray:
        return np.stack([self._one(image) for image in images])

    def _one(self, image: np.ndarray) -> np.ndarray:
        side = round(self.spec.crops[0] * image.shape[0])
        top = (image.shape[0] - side) // 2
        crop = image[top : top + side, top : top + side].astype(np.float32)
        noise = np.random.default_rng(int(image.sum())).normal(size=3).astype(np.float32)
        parts = [
            noise if tap == "noise" else cv2.resize(crop, (grid, grid), interpolation=cv2.INTER_AREA).ravel()
            for tap, grid in self.spec.taps
        ]
        return np.concatenate(parts)


def report_of(folder: Path, cache: Path, **more: object) -> TransferReport:
    options = {"crops": (1.0, 0.5), "seed": 1, "make_net": Net, "cache": cache, "taps": TAPS} | more
    return transfer_report(Manifest.from_folder(folder), ExtractorSpec.of("net"), WEIGHTS, **options)  # type: ignore[arg-type]


@pytest.fixture
def backgrounds(tmp_path: Path) -> Path:
    """Twelve people whose faces are all alike; each has a background of his own."""
    rng = np.random.default_rng(0)
    for person in range(12):
        folder = tmp_path / "photos" / f"P{person:02d}"
        folder.mkdir(parents=True)
        colour = rng.uniform(40, 215, 3)
        for photo in range(5):
            image = np.full((40, 40, 3), colour) + rng.normal(0, 4, (40, 40, 3))
            image[0], image[-1] = 0, 255  # a photo of one colour is no face
            image[9:31, 9:31] = rng.uniform(110, 140, 3) + rng.normal(0, 4, (22, 22, 3))
            cv2.imwrite(str(folder / f"{photo}.png"), np.clip(image, 0, 255).astype(np.uint8))
    return tmp_path / "photos"


def test_a_row_for_each_feature_of_a_few_people(backgrounds: Path, tmp_path: Path) -> None:
    report = report_of(backgrounds, tmp_path / "cache", people=8)
    assert (report.people, report.photos) == (8, 32)  # at most four photos each
    assert [(row.crop, row.tap, row.grid, row.dim) for row in report.rows] == [
        (crop, tap, grid, 3 * grid * grid) for crop in (0.5, 1.0) for tap, grid in TAPS
    ]
    every = report_of(backgrounds, tmp_path / "cache", people=500)
    assert every.people == 12
    assert not (tmp_path / "cache").exists()


def test_each_row_is_the_probe_of_its_own_columns(backgrounds: Path, tmp_path: Path) -> None:
    for photo in backgrounds.glob("*/[1234].png"):
        if photo.stem == "4":
            photo.unlink()
    manifest = Manifest.from_folder(backgrounds)
    report = report_of(backgrounds, tmp_path / "cache")
    names = np.array([photo.identity for photo in manifest.photos])
    for row in report.rows:
        net = Net(ExtractorSpec.of("net", tap=row.tap, grid=row.grid, crop=row.crop))
        features = net.extract([read_photo(path) for path in manifest.paths]).astype(np.float16)
        assert row.score == probe(features, names, seed=1)


def test_says_what_the_background_gave(backgrounds: Path, tmp_path: Path) -> None:
    report = report_of(backgrounds, tmp_path / "cache")
    assert report.picked.tap == "colour"
    assert report.picked.crop == 1.0
    assert [row.crop for row in report.sweep] == [0.5, 1.0]
    narrow, wide = (row.score.accuracy for row in report.sweep)
    assert wide - narrow > 0.2
    assert f"{wide - narrow:.3f} ± " in report.hair_and_background
    assert "come from what lies around the face" in report.hair_and_background
    assert report.spec == replace(report.spec, tap="colour", grid=report.picked.grid, crops=(1.0,))
    assert json.loads(json.dumps(report.to_json()))["picked"]["auc"] == report.picked.score.auc


def test_unreadable_repeated_and_mislabelled_photos_are_counted(backgrounds: Path, tmp_path: Path) -> None:
    for photo in backgrounds.glob("*/4.png"):
        photo.unlink()
    (backgrounds / "P00" / "0.png").write_bytes(b"\x89PNG\r\n no more")
    (backgrounds / "P01" / "0.png").write_bytes((backgrounds / "P01" / "1.png").read_bytes())
    (backgrounds / "P02" / "0.png").write_bytes((backgrounds / "P03" / "0.png").read_bytes())
    report = report_of(backgrounds, tmp_path / "cache")
    assert report.skipped == {"broken": 1, "mislabelled": 2, "repeated": 1}
    assert report.photos == 12 * 4 - 4


def test_too_few_people(make_people: Callable[..., Path], tmp_path: Path) -> None:
    folder = make_people(tmp_path / "few", people=3, photos=4)
    with pytest.raises(DataError, match="4 people with 2 photos each, got 3"):
        report_of(folder, tmp_path / "cache")


def row(tap: str, ms: float, without: list[float], dim: int = 10) -> TapRow:
    score = ProbeScore(float(np.mean(without)), 0.1, 0.8, 0.1, 9, 30, tuple(without))
    return TapRow(tap, 5, 1.0, dim, ms, score)


def test_picks_the_cheapest_within_a_standard_error_of_the_difference() -> None:
    best = row("late", 9.0, [0.90, 0.92, 0.94])
    worse_for_all = row("early", 1.0, [0.89, 0.91, 0.93])  # worse by 0.01 no matter who is left out: no error at all
    as_good = row("middle", 4.0, [0.93, 0.90, 0.92])  # differences −0.03, 0.02, 0.02: error √(2/3 · 0.00167) = 0.033
    assert pick([best, worse_for_all]) is best
    assert pick([worse_for_all, as_good, best]) is as_good
    short = row("middle", 4.0, [0.93, 0.90, 0.92], dim=4)
    assert pick([as_good, short, best]) is short


def test_candidates_of_a_small_net_make_one_forward_pass(
    photo_folder: Path, small_net_weights: Path, tmp_path: Path
) -> None:
    from facetl.backbones.extractor import make_extractor
    from facetl.backbones.keras_applications import tap_candidates

    taps = tap_candidates("mobilenet_v3_small")
    assert taps[-1] == ("avg", 1)
    assert len(taps) == len(set(taps)) > 5
    spec = ExtractorSpec.of("mobilenet_v3_small", mirror=False)
    weights = Weights("file", "0" * 64, small_net_weights)
    built: list[ExtractorSpec] = []

    def make(view: ExtractorSpec) -> object:
        built.append(view)
        return make_extractor(view, weights)

    report = transfer_report(
        Manifest.from_folder(photo_folder),
        spec,
        weights,
        crops=(1.0,),
        people=5,
        seed=0,
        make_net=make,  # type: ignore[arg-type]
        cache=tmp_path / "cache",
        taps=(taps[0], taps[-1]),
    )
    assert report.rows[1].dim == 576
    assert all(row.ms_per_photo > 0 for row in report.rows)
    assert len(built) == 1 + 2  # one for all, and one to time each
    assert report.hair_and_background == ""
