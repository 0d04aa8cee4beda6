"""Published sets by name, each on a tiny made-up tree of its layout: who, where, on which side, and what is said."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from facetl.data.layouts import LAYOUTS, read_layout, recognised
from facetl.data.manifest import Manifest
from facetl.errors import DataError


def tree(root: Path, *files: str, **lists: str) -> Path:
    """Write files of a byte each below a folder, and lists with their content; `__` in a list's name is a dot."""
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    for name, content in lists.items():
        path = root / name.replace("__", ".").replace("_in_", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def listing(manifest: Manifest) -> list[tuple[str, str, str]]:
    return [
        (photo.path.relative_to(manifest.root).as_posix(), photo.identity, photo.split) for photo in manifest.photos
    ]


@pytest.fixture
def sets(tmp_path: Path) -> dict[str, Path]:
    """A tiny tree of every layout."""
    return {
        "lfw": tree(
            tmp_path / "lfw-home",
            *("lfw/Ann_A/Ann_A_0001.jpg", "lfw/Ann_A/Ann_A_0002.jpg", "lfw/Bob_B/Bob_B_0001.jpg"),
            people__txt="1\n2\nAnn_A\t2\nBob_B\t3\n",
            pairs__txt="1\t1\nAnn_A\t1\t2\nAnn_A\t1\tBob_B\t1\n",
        ),
        "agedb": tree(
            tmp_path / "agedb",
            *("0_MariaCallas_35_f.jpg", "1_MariaCallas_70_f.jpg", "10_JeanLucGodard_9_m.jpg"),
        ),
        "vggface2": tree(
            tmp_path / "vgg",
            *("train/n000002/0001_01.jpg", "train/n000002/0002_01.jpg", "train/n000003/0010_02.jpg"),
            "test/n000001/0003_01.jpg",
            train_list__txt="n000002/0001_01.jpg\nn000003/0010_02.jpg\nn000003/0011_01.jpg\n",
            meta_in_identity_meta__csv="Class_ID, Name, Sample_Num, Flag, Gender\n"
            'n000001, "14th_Dalai_Lama", 424, 0, m\nn000002, "A_Fine_Frenzy", 315, 1, f\n',
        ),
        "casia": tree(
            tmp_path / "casia",
            *("0000045/001.jpg", "0000045/002.jpg", "0000099/001.jpg"),
            cleaned_list__txt="CASIA-WebFace/0000045/001.jpg 0\n0000099\\001.jpg 1\n0000099/007.jpg 1\n",
        ),
        "pubfig83": tree(tmp_path / "pubfig", "Adam Sandler/1.jpg", "Adam Sandler/22.jpg", "Beyoncé Knowles/1.jpg"),
        "orl": tree(tmp_path / "orl", "s1/1.pgm", "s1/10.pgm", "s40/1.pgm"),
        "celeba": tree(
            tmp_path / "celeba",
            *(f"img_align_celeba/00000{number}.jpg" for number in range(1, 6)),
            Anno_in_identity_CelebA__txt="000001.jpg 2880\n000002.jpg 2937\n000003.jpg 2880\n000004.jpg 17\n"
            "000009.jpg 5\n",
            list_eval_partition__txt="000001.jpg 0\n000002.jpg 2\n000003.jpg 0\n000004.jpg 1\n",
        ),
    }


EXPECTED = {
    "lfw": (
        [
            ("Ann_A/Ann_A_0001.jpg", "Ann_A", ""),
            ("Ann_A/Ann_A_0002.jpg", "Ann_A", ""),
            ("Bob_B/Bob_B_0001.jpg", "Bob_B", ""),
        ],
        {"listed-but-absent": 2},
    ),
    "agedb": (
        [
            ("10_JeanLucGodard_9_m.jpg", "JeanLucGodard", ""),
            ("0_MariaCallas_35_f.jpg", "MariaCallas", ""),
            ("1_MariaCallas_70_f.jpg", "MariaCallas", ""),
        ],
        {},
    ),
    "vggface2": (
        [
            ("test/n000001/0003_01.jpg", "14th_Dalai_Lama", "test"),
            ("train/n000002/0001_01.jpg", "A_Fine_Frenzy", "train"),
            ("train/n000003/0010_02.jpg", "n000003", "train"),
        ],
        {"listed-but-absent": 1, "not-listed": 1},
    ),
    "casia": (
        [("0000045/001.jpg", "0000045", ""), ("0000099/001.jpg", "0000099", "")],
        {"listed-but-absent": 1, "not-an-image": 1, "not-listed": 1},
    ),
    "pubfig83": (
        [
            ("Adam Sandler/1.jpg", "Adam Sandler", ""),
            ("Adam Sandler/22.jpg", "Adam Sandler", ""),
            ("Beyoncé Knowles/1.jpg", "Beyoncé Knowles", ""),
        ],
        {},
    ),
    "orl": ([("s1/1.pgm", "s1", ""), ("s1/10.pgm", "s1", ""), ("s40/1.pgm", "s40", "")], {}),
    "celeba": (
        [
            ("img_align_celeba/000004.jpg", "17", "validation"),
            ("img_align_celeba/000001.jpg", "2880", "train"),
            ("img_align_celeba/000003.jpg", "2880", "train"),
            ("img_align_celeba/000002.jpg", "2937", "test"),
        ],
        {"listed-but-absent": 1, "not-an-image": 2, "not-listed": 1},
    ),
}


def test_every_layout_is_tested_here() -> None:
    assert set(EXPECTED) == set(LAYOUTS)


@pytest.mark.parametrize("name", EXPECTED)
def test_who_is_where_on_which_side(name: str, sets: dict[str, Path]) -> None:
    found = read_layout(sets[name], name)
    photos, skipped = EXPECTED[name]
    assert listing(found) == photos
    assert dict(found.skipped) == skipped
    assert found.layout == name
    assert found.root == (sets[name] / "lfw" if name == "lfw" else sets[name])


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "pubfig83"])
def test_a_set_is_recognised_and_nothing_else_for_it(name: str, sets: dict[str, Path], tmp_path: Path) -> None:
    assert recognised(sets[name]) == name
    assert read_layout(sets[name], "auto") == read_layout(sets[name], name)
    assert [one for one, layout in LAYOUTS.items() if layout.sure(sets[name])] == [name]


def test_eighty_three_names_are_pubfig83(tmp_path: Path) -> None:
    names = [f"{first}{last} Person" for first in "ABCDEFGHIJ" for last in "abcdefgh"]
    tree(tmp_path, *(f"{name}/1.jpg" for name in [*names, "Jean Luc", "O'Neal S.", "Émile Zola"]))
    assert recognised(tmp_path) == "pubfig83"
    tree(tmp_path, "One More/1.jpg")
    assert recognised(tmp_path) == "folders"


def test_what_may_be_two_sets_is_a_matter_of_doubt(sets: dict[str, Path]) -> None:
    tree(sets["orl"], "0_MariaCallas_35_f.jpg")
    assert [one for one, layout in LAYOUTS.items() if layout.sure(sets["orl"])] == ["agedb", "orl"]
    assert recognised(sets["orl"]) == "folders"


def test_a_folder_of_people_is_read_as_before(tmp_path: Path) -> None:
    tree(tmp_path, "Ann/1.jpg", "Bob/summer/2.jpg", pairs__txt="")
    plain = Manifest.from_folder(tmp_path)
    assert plain == read_layout(tmp_path) == read_layout(str(tmp_path), "auto")
    assert plain.layout == "folders"


@pytest.mark.parametrize("name", EXPECTED)
def test_what_looks_otherwise_is_reported_with_where_the_set_comes_from(name: str, tmp_path: Path) -> None:
    tree(tmp_path / "other", "Ann/a.jpg", "Ann/b.jpg", "Bob/c.jpg")
    (tmp_path / "empty").mkdir()
    for folder in ("other", "empty", "absent"):
        with pytest.raises(DataError) as caught:
            read_layout(tmp_path / folder, name)
        message = str(caught.value)
        assert message.startswith(str(tmp_path / folder))
        assert LAYOUTS[name].source in message
        assert LAYOUTS[name].terms in message
        assert "\n" not in message
        if folder != "absent":
            assert LAYOUTS[name].looks in message


def test_a_name_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"layout: expected folders, auto, lfw, .*, got 'imagenet'"):
        read_layout(tmp_path, "imagenet")


def test_a_few_photos_of_other_names_are_counted(sets: dict[str, Path]) -> None:
    tree(sets["agedb"], "portrait.jpg", ".hidden.jpg", "readme.txt")
    found = read_layout(sets["agedb"], "agedb")
    assert len(found) == 3
    assert found.skipped == {"hidden": 1, "not-an-image": 1, "other-name": 1}
    tree(sets["orl"], "s1/eleven.pgm", "s2/photo.jpg")
    assert read_layout(sets["orl"], "orl").skipped == {"other-name": 2}
    tree(sets["orl"], "s1/twelve.pgm", "s2/another.jpg")
    with pytest.raises(DataError, match="Got 4 photos of another name, as s"):
        read_layout(sets["orl"], "orl")


def test_lfw_s_own_sides_and_lists_with_odd_lines(sets: dict[str, Path]) -> None:
    tree(sets["lfw"], peopleDevTrain__txt="1\nAnn_A\t2\nnonsense here\n", peopleDevTest__txt="1\nBob_B\t1\n")
    found = read_layout(sets["lfw"], "lfw")
    assert {photo.identity: photo.split for photo in found.photos} == {"Ann_A": "train", "Bob_B": "test"}


def test_two_people_of_one_name_keep_their_numbers(sets: dict[str, Path]) -> None:
    (sets["vggface2"] / "identity_meta.csv").write_text('n000001, "Jo", 1, 0, m\nn000002, "Jo", 1, 1, f\n')
    found = read_layout(sets["vggface2"], "vggface2")
    assert found.identities == ("n000001", "n000002", "n000003")


def test_a_person_on_two_sides_is_left_out(sets: dict[str, Path]) -> None:
    (sets["celeba"] / "list_eval_partition.txt").write_text("000001.jpg 0\n000003.jpg 2\n000002.jpg 2\n000004.jpg 1\n")
    found = read_layout(sets["celeba"], "celeba")
    assert found.identities == ("17", "2937")
    assert found.skipped["on-two-sides"] == 2


def test_official_sides_stay_and_the_rest_is_split(tmp_path: Path) -> None:
    names = [f"train/n{person:06d}/000{photo}_01.jpg" for person in range(40) for photo in (1, 2)]
    names += [f"test/n{person:06d}/000{photo}_01.jpg" for person in range(100, 105) for photo in (1, 2)]
    split = read_layout(tree(tmp_path, *names), "vggface2").with_splits(seed=1, validation=0.25, test=0.5)
    assert split.subset("test").identities == tuple(f"n{person:06d}" for person in range(100, 105))
    validation, train = split.subset("validation").identities, split.subset("train").identities
    assert 4 <= len(validation) <= 16
    assert len(validation) + len(train) == 40
    assert split.with_splits(seed=9, validation=0.25, test=0.5).subset("validation").identities == validation


@pytest.mark.parametrize("name", EXPECTED)
def test_a_reader_is_under_thirty_lines(name: str) -> None:
    assert len(inspect.getsource(LAYOUTS[name].read).splitlines()) < 30
