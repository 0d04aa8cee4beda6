"""Streams of people and what they are measured by, against values worked by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from _streams import AccuracyMatrix, changed, stream, verified_against_gallery, write_changed

from facetl.data.manifest import Manifest
from facetl.errors import DataError

# Task 0 is best after step 1, task 1 suffers in the last step.
MATRIX = AccuracyMatrix(np.array([[0.5, 0.2, 0.1], [0.7, 0.9, 0.4], [0.6, 0.8, 0.75]]))


def test_measures_of_a_matrix_worked_by_hand() -> None:
    assert MATRIX.average_accuracy == pytest.approx((0.6 + 0.8 + 0.75) / 3)
    # Against the best before the last step: 0.7 and 0.9; against the step that learnt each: 0.5 and 0.9.
    assert MATRIX.forgetting == pytest.approx(((0.7 - 0.6) + (0.9 - 0.8)) / 2)
    assert MATRIX.backward_transfer == pytest.approx(((0.6 - 0.5) + (0.8 - 0.9)) / 2)
    # Before each is learnt: 0.2 of task 1 after step 0, 0.4 of task 2 after step 1.
    assert MATRIX.forward_transfer([0.9, 0.15, 0.05]) == pytest.approx(((0.2 - 0.15) + (0.4 - 0.05)) / 2)


def test_the_best_of_all_steps_counts_for_forgetting_not_the_one_before() -> None:
    matrix = AccuracyMatrix(np.array([[0.9, 0.0, 0.0], [0.3, 0.8, 0.0], [0.5, 0.8, 0.6]]))
    assert matrix.forgetting == pytest.approx((0.4 + 0.0) / 2)
    assert matrix.backward_transfer == pytest.approx((-0.4 + 0.0) / 2)


def test_json_holds_plain_types() -> None:
    import json

    stored = json.loads(json.dumps(MATRIX.to_json()))
    assert stored["matrix"][1] == [0.7, 0.9, 0.4]
    assert stored["forgetting"] == pytest.approx(0.1)


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.zeros((1, 1)), np.full((2, 2), np.nan), np.full((2, 2), 1.5)])
def test_what_is_no_matrix_of_accuracies_is_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError, match="accuracy matrix must be"):
        AccuracyMatrix(values)


def test_a_baseline_needs_a_value_a_task() -> None:
    with pytest.raises(DataError, match=r"an accuracy a task, \[3\]"):
        MATRIX.forward_transfer([0.1, 0.2])


class TestStreams:
    NAMES = np.repeat([f"p{number:02d}" for number in range(40)], np.arange(40) % 8 + 1)

    def test_everybody_arrives_once_and_no_probe_is_learnt_from(self) -> None:
        steps = stream(self.NAMES, ["people"] * 4, seed=3)
        arrived = [set(self.NAMES[step.photos]) for step in steps]
        assert [len(one) for one in arrived] == [20, 5, 5, 5, 5]
        assert len(set().union(*arrived)) == 40
        photos, probes = (np.concatenate([getattr(step, kind) for step in steps]) for kind in ("photos", "probes"))
        assert sorted([*photos, *probes]) == list(range(len(self.NAMES)))
        for step, people_of in zip(steps, arrived, strict=True):
            assert set(self.NAMES[step.probes]) <= people_of
        counts = {name: int((name == self.NAMES).sum()) for name in set(self.NAMES)}
        held = {name: int((self.NAMES[probes] == name).sum()) for name in counts}
        assert all(held[name] == (max(1, round(count / 4)) if count >= 3 else 0) for name, count in counts.items())
        again = stream(self.NAMES, ["people"] * 4, seed=3)
        assert all(np.array_equal(one.photos, other.photos) for one, other in zip(steps, again, strict=True))
        other = stream(self.NAMES, ["people"] * 4, seed=4)
        assert not np.array_equal(steps[1].photos, other[1].photos)

    def test_new_photos_are_of_people_known_before(self) -> None:
        steps = stream(self.NAMES, ["photos", "people", "low-light", "photos"], seed=1)
        assert [step.kind for step in steps] == ["people", "photos", "people", "low-light", "photos"]
        known: set[str] = set()
        for step in steps:
            here = set(self.NAMES[step.photos])
            assert here <= known if step.kind == "photos" else not here & known
            known |= here
        photos = np.concatenate([step.photos for step in steps])
        assert len(photos) == len(set(photos.tolist()))
        probes = set(np.concatenate([step.probes for step in steps]).tolist())
        assert sorted([*photos, *probes]) == list(range(len(self.NAMES)))

    @pytest.mark.parametrize(
        ("kinds", "options", "message"),
        [
            (["people", "sepia"], {}, "got 'sepia'"),
            (["people"] * 30, {}, "would bring nobody"),
            (["people"], {"first": 1.0}, r"shares in \(0, 1\)"),
        ],
    )
    def test_what_makes_no_stream_is_refused(self, kinds: list[str], options: dict[str, float], message: str) -> None:
        with pytest.raises(DataError, match=message):
            stream(self.NAMES, kinds, seed=0, **options)


class TestDomains:
    PHOTO = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

    def test_grey_is_luma_in_all_channels(self) -> None:
        grey = changed(self.PHOTO, "grey")
        wanted = self.PHOTO.astype(np.float64) @ [0.299, 0.587, 0.114]
        assert np.abs(grey - wanted[:, :, None]).max() <= 1

    def test_low_light_is_dark_noisy_and_repeatable(self) -> None:
        flat = np.full((64, 64, 3), 200, np.uint8)
        dark = changed(flat, "low-light", seed=1)
        # 200 / 255 of the range at a sixteenth of the light.
        assert dark.mean() == pytest.approx(200 * 0.06 ** (1 / 2.2), rel=0.03)
        assert dark.std() > 1
        np.testing.assert_array_equal(dark, changed(flat, "low-light", seed=1))
        assert not np.array_equal(dark, changed(flat, "low-light", seed=2))
        with pytest.raises(DataError, match="got 'sepia'"):
            changed(flat, "sepia")

    def test_a_folder_is_written_that_a_manifest_can_be_made_of(self, tmp_path: Path) -> None:
        for name in ("Ann", "Bob"):
            (tmp_path / "in" / name).mkdir(parents=True)
            cv2.imwrite(str(tmp_path / "in" / name / "a.png"), self.PHOTO)
        (tmp_path / "in" / "Bob" / "b.png").write_bytes(b"no picture")
        found = write_changed(Manifest.from_folder(tmp_path / "in"), tmp_path / "out", "grey", seed=0)
        assert [photo.identity for photo in found.photos] == ["Ann", "Bob"]
        np.testing.assert_array_equal(cv2.imread(str(found.photos[0].path)), changed(self.PHOTO[:, :, ::-1], "grey"))
        with pytest.raises(DataError, match="into a new folder"):
            write_changed(found, tmp_path / "out", "grey", seed=0)


def test_verification_against_a_gallery_by_hand() -> None:
    angle = np.deg2rad([0.0, 10.0, 50.0, 100.0])
    gallery, names = np.column_stack([np.cos(angle), np.sin(angle)]), ["ann", "ann", "bob", "cem"]
    angle = np.deg2rad([5.0, 80.0, 60.0, 200.0])
    probes, owners = np.column_stack([np.cos(angle), np.sin(angle)]), ["ann", "ann", "bob", "dan"]
    # Up to 45 degrees apart is one person. Ann: 5 is near both her photos, 80 near none: 2 of 4. Bob: 1 of 1.
    # Others: Ann's 5 is 45 from Bob's (near), 95 from Cem's; Ann's 80 near Bob's (30) and Cem's (20); Bob's 60 is 60
    # and 50 from Ann's, 40 from Cem's (near); Dan's is far from all four: 4 of 11 are wrong.
    threshold = 2 - 2 * np.cos(np.deg2rad(45.001))
    found = verified_against_gallery(probes, owners, gallery, names, threshold=threshold)
    assert found == pytest.approx((0.75 + 7 / 11) / 2)
    with pytest.raises(DataError, match="another person"):
        verified_against_gallery(probes, ["eve"] * 4, gallery, names, threshold=threshold)
