"""What learning rests on: who is held out, what is measured, what would change; by hand, without nets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from albums import put_photo

from facetl.errors import DataError, LibraryError
from facetl.people.holdout import LEAST_PEOPLE, Held, compare_heads, hold_out
from facetl.people.learned_head import count_changes
from facetl.people.library import Library
from facetl.people.library_settings import (
    drop_run,
    library_detector,
    next_run,
    own_runs,
    remember_folders,
    run_before,
    run_in_use,
    source_folders,
    use_detector,
    use_run,
)


@pytest.fixture
def library(tmp_path: Path):
    with Library.open(tmp_path / "library", create=True) as opened:
        yield opened


def name_people(library: Library, room: Path, people: int, photos: int) -> None:
    for person in range(people):
        for number in range(photos):
            _, faces = put_photo(library, room / f"{person}" / f"{number}.png")
            library.assign_name(faces, f"Person {person:02d}")


def test_a_quarter_of_everybodys_faces_is_held_out(library: Library, tmp_path: Path) -> None:
    name_people(library, tmp_path / "album", LEAST_PEOPLE, 8)
    for number in range(2):
        _, faces = put_photo(library, tmp_path / "album" / "few" / f"{number}.png")
        library.assign_name(faces, "Few")
    held = hold_out(library, seed=1)
    assert sorted(set(held.names)) == [f"Person {person:02d}" for person in range(LEAST_PEOPLE)]
    for name in set(held.names):
        assert np.sum(~held.kept[held.names == name]) == 2
    assert held.kept_counts() == {f"Person {person:02d}": 6 for person in range(LEAST_PEOPLE)}
    again, other = hold_out(library, seed=1), hold_out(library, seed=2)
    np.testing.assert_array_equal(again.kept, held.kept)
    assert not np.array_equal(other.kept, held.kept)
    part = held.of(held.faces[::-1][:5])
    np.testing.assert_array_equal(part.names, held.names[::-1][:5])
    np.testing.assert_array_equal(part.kept, held.kept[::-1][:5])


def test_what_belongs_together_is_held_out_together(library: Library, tmp_path: Path) -> None:
    name_people(library, tmp_path / "album", LEAST_PEOPLE - 2, 4)
    days = {}
    for number in range(12):
        day = f"2020-05-{1 + number // 3:02d}"
        _, [face] = put_photo(library, tmp_path / "days" / f"{number}.png", taken_at=f"{day}T1{number % 3}:00:00")
        library.assign_name([face], "Dated")
        days[face] = day
    copies = {}
    for number in range(6):
        photo, [face] = put_photo(library, tmp_path / "copies" / f"{number}.png", taken_at="2020-05-01T10:00:00")
        library.assign_name([face], "Copied")
        copies[face] = photo
    with library.database.write() as sql:
        originals = sorted(copies.values())
        for photo in originals[1:3]:
            sql("UPDATE photos SET duplicate_of = ? WHERE id = ?", (originals[0], photo))
    for seed in range(6):
        held = hold_out(library, seed=seed)
        kept = dict(zip(held.faces.tolist(), held.kept.tolist(), strict=True))
        for day in set(days.values()):
            assert len({kept[face] for face, own in days.items() if own == day}) == 1
        assert sum(not kept[face] for face in days) == 3
        near = [face for face, photo in copies.items() if photo in originals[:3]]
        assert len({kept[face] for face in near}) == 1


def test_too_few_people_is_one_clear_line(library: Library, tmp_path: Path) -> None:
    name_people(library, tmp_path / "album", LEAST_PEOPLE - 1, 3)
    _, faces = put_photo(library, tmp_path / "album" / "x.png", faces=2)
    library.assign_name(faces[:1], "One face")
    with pytest.raises(DataError, match=f"needs {LEAST_PEOPLE} named people with 3 faces each.*got 7 of 8"):
        hold_out(library, seed=0)


def on_circle(degrees: np.ndarray) -> np.ndarray:
    turns = np.radians(degrees)
    return np.stack([np.cos(turns), np.sin(turns)], axis=1).astype(np.float32)


def made_heads(spread: float, *, people: int = 20, seed: int = 0) -> tuple[np.ndarray, Held]:
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 6)
    rows = on_circle(person * 360 / people + rng.normal(0, spread, len(person)))
    kept = np.tile([True, True, True, True, False, False], people)
    return rows, Held(np.arange(len(person)), np.array([f"P{one:02d}" for one in person]), kept)


def test_a_tighter_head_is_better_and_by_how_much() -> None:
    (wide, held), (tight, _) = made_heads(14.0), made_heads(3.0)
    unseen = np.isin(held.names, ["P17", "P18", "P19"])
    found = compare_heads(wide, tight, held, unseen=unseen, seed=0)
    assert found.better
    assert found.gain == pytest.approx(found.auc_after - found.auc_before)
    assert found.gain > found.stderr > 0
    assert found.people == 20
    # By hand: centroids of the kept faces, the nearest one to each held-out face.
    for rows, share in ((wide, found.found_before), (tight, found.found_after)):
        means = np.stack([rows[(held.names == name) & held.kept].mean(axis=0) for name in np.unique(held.names)])
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        nearest = np.argmax(rows[~held.kept] @ means.T, axis=1)
        assert share == pytest.approx(np.mean(nearest == held.labels[~held.kept]))
    back = compare_heads(tight, wide, held, unseen=unseen, seed=0)
    assert not back.better
    assert back.gain == pytest.approx(-found.gain)
    assert not compare_heads(wide, wide, held, unseen=unseen, seed=0).better
    assert "20 people" in found.sentence
    assert found.to_json()["auc_after"] == found.auc_after


def test_a_head_that_only_knows_those_it_was_trained_on_is_not_better() -> None:
    (wide, held), (tight, _) = made_heads(14.0), made_heads(3.0)
    unseen = np.isin(held.names, ["P05", "P06", "P07", "P08"])
    mixed = tight.copy()
    # People whom it was not trained on all look alike to it.
    rng = np.random.default_rng(5)
    mixed[unseen] = on_circle(np.full(unseen.sum(), 120.0) + rng.normal(0, 20, unseen.sum()))
    found = compare_heads(wide, mixed, held, unseen=unseen, seed=0)
    assert found.unseen_gain < -found.unseen_stderr
    assert not found.better


def test_what_would_change_is_counted_by_hand() -> None:
    before = {1: 10, 2: 10, 3: 10, 4: 20, 5: 20, 6: 30, 7: 30}
    same = count_changes(before, [(1, 2, 3), (4, 5), (6, 7)], stacks=3)
    assert (same.joined, same.split, same.moved, same.stacks_before, same.stacks_after) == (0, 0, 0, 3, 3)
    # 20 goes into 10; face 7 leaves 30 for a stack of its own; 8 is new.
    found = count_changes(before, [(1, 2, 3, 4, 5, 8), (6,), (7,)], stacks=3, named=[8])
    assert (found.joined, found.split, found.named, found.named_faces) == (1, 1, 1, (8,))
    assert set(found.moved_faces) == {4, 5, 7}
    assert found.moved == 3
    # One face goes over from a big stack to another.
    over = count_changes(before, [(1, 2), (3, 4, 5), (6, 7)], stacks=3)
    assert (over.joined, over.split, over.moved_faces) == (1, 1, (3,))
    assert over.to_json()["moved_faces"] == [3]


def make_run(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_the_run_in_use_and_the_one_before(library: Library, tmp_path: Path) -> None:
    assert run_in_use(library) is None
    outside, inside = make_run(tmp_path / "models" / "family"), make_run(next_run(library))
    assert inside.name == "1"
    use_run(library, outside)
    assert (run_in_use(library), run_before(library)) == (outside, None)
    use_run(library, inside)
    use_run(library, inside)
    assert (run_in_use(library), run_before(library)) == (inside, outside)
    assert own_runs(library) == [inside]
    with pytest.raises(LibraryError, match="not in use"):
        drop_run(library, inside)
    with pytest.raises(LibraryError, match="learnt here"):
        drop_run(library, outside)
    second = make_run(next_run(library))
    drop_run(library, second)
    assert not second.exists()
    (outside / "config.json").unlink()
    with pytest.raises(LibraryError, match="is gone"):
        run_before(library)


def test_a_library_that_is_moved_keeps_its_own_run(tmp_path: Path) -> None:
    with Library.open(tmp_path / "here", create=True) as library:
        use_run(library, make_run(next_run(library)))
    (tmp_path / "here").rename(tmp_path / "there")
    with Library.open(tmp_path / "there") as library:
        assert run_in_use(library) == tmp_path / "there" / "models" / "1"


def test_where_photos_come_from_and_how_faces_are_found(library: Library, tmp_path: Path) -> None:
    assert source_folders(library) == []
    remember_folders(library, [tmp_path / "b" / "c", tmp_path / "a"])
    remember_folders(library, [tmp_path / "b", tmp_path / "a"])
    assert source_folders(library) == [tmp_path / "a", tmp_path / "b"]
    assert library_detector(library).to_json()["name"] == "mtcnn"
    use_detector(library, "none", None)
    assert use_detector(library, None, None).to_json()["name"] == "none"
    with pytest.raises(DataError, match="a detector is one of"):
        use_detector(library, "eyes", None)
    assert library_detector(library).to_json()["name"] == "none"
