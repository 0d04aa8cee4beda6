from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from facetl.data.pair_lists import (
    Pair,
    PairsProtocol,
    PathPair,
    PathPairs,
    find_pairs,
    lfw_photo,
    listed_photo,
    read_groups,
    read_lfw_pairs,
    read_pairs,
    read_path_pairs,
    shared_people,
)
from facetl.errors import DataError

TWO_FOLDS = "2\t1\nAnn_A\t1\t3\nAnn_A\t2\tBob_B\t1\nCy_C\t2\t10\nCy_C\t4\tDi_D\t7\n"


PATHS = """first,second,same,fold
Ann/1.jpg,Ann/2.jpg,1,7
Ann/1.jpg,Bob/x/3.png,0,3
Cy/1.jpg,Cy/4.jpg,yes,3
"""


def written(tmp_path: Path, text: str, name: str = "pairs.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_pairs_are_read_by_fold(tmp_path: Path) -> None:
    protocol = read_lfw_pairs(written(tmp_path, TWO_FOLDS))
    assert protocol.folds == 2
    assert protocol.pairs == (
        Pair(("Ann_A", 1), ("Ann_A", 3), same=True, fold=0),
        Pair(("Ann_A", 2), ("Bob_B", 1), same=False, fold=0),
        Pair(("Cy_C", 2), ("Cy_C", 10), same=True, fold=1),
        Pair(("Cy_C", 4), ("Di_D", 7), same=False, fold=1),
    )
    assert protocol.fold(1) == protocol.pairs[2:]
    assert protocol.people(0) == {"Ann_A", "Bob_B"}
    assert protocol.people(1) == {"Cy_C", "Di_D"}
    with pytest.raises(DataError, match="fold must be 0 to 1, got 2"):
        protocol.people(2)


def test_one_number_in_the_header_is_one_fold(tmp_path: Path) -> None:
    text = "2\nA\t1\t2\nB\t1\t2\nA\t1\tB\t1\nA\t2\tC\t1\n"
    protocol = read_lfw_pairs(written(tmp_path, text))
    assert protocol.folds == 1
    assert [pair.same for pair in protocol.pairs] == [True, True, False, False]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text + "\n  \n\n",
        lambda text: text.rstrip("\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\t", "  "),
        lambda text: text.replace("\n", "\t\n"),
        lambda text: text.replace("\n", "\r"),
    ],
)
def test_harmless_differences_are_tolerated(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    plain = read_lfw_pairs(written(tmp_path, TWO_FOLDS))
    assert read_lfw_pairs(written(tmp_path, change(TWO_FOLDS))) == plain


def test_a_name_may_hold_a_space_between_tabs(tmp_path: Path) -> None:
    protocol = read_lfw_pairs(written(tmp_path, "1\nAnn van A\t1\t2\nAnn van A\t1\tBob\t1\n"))
    assert protocol.people(0) == {"Ann van A", "Bob"}


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "A\t1\tB\t1\tC", "line 3: expected 3 or 4 fields, got 5. See docs/protocols."),
        (3, "", "line 3: expected 3 or 4 fields, got 0. See docs/protocols."),
        (2, "A\t1\tx", "line 2: expected a photo number from 1, got 'x'."),
        (2, "A\t0\t1", "line 2: expected a photo number from 1, got '0'."),
        (2, "A\t-1\t1", "line 2: expected a photo number from 1, got '-1'."),
        (2, "A\t2\t2", "line 2: expected two photos, got photo 2 of A twice."),
        (3, "A\t1\tA\t2", "line 3: expected two people where there are 4 fields, got A twice."),
        (2, "../A\t1\t2", "line 2: expected a person's name, got '../A'."),
        (2, "..\t1\t2", "line 2: expected a person's name, got '..'."),
        (4, "A\t1\tB\t1", "line 4: expected 1 same-person pairs in the fold that starts here, got 0."),
        (1, "two\t1", 'line 1: expected "FOLDS N" or "N", got \'two\\t1\'.'),
        (1, "0\t1", 'line 1: expected "FOLDS N" or "N", got \'0\\t1\'.'),
        (1, "2\t1\t1", 'line 1: expected "FOLDS N"'),
        (1, "3\t1", "line 6: expected 6 pairs (3 x 2 x 1), got 4."),
        (1, "1\t1", "line 4: expected the file to end after 2 pairs, got 'Cy_C\\t2\\t10'."),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, line: int, text: str, message: str) -> None:
    lines = TWO_FOLDS.splitlines()
    lines[line - 1] = text
    with pytest.raises(DataError, match=r"^pairs\.txt, " + re.escape(message)) as error:
        read_lfw_pairs(written(tmp_path, "\n".join(lines)))
    assert "\n" not in str(error.value)


def test_files_that_are_no_pairs_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_lfw_pairs(tmp_path / "missing.txt")
    with pytest.raises(DataError, match="got the folder"):
        read_lfw_pairs(tmp_path)
    with pytest.raises(DataError, match="line 1: expected"):
        read_lfw_pairs(written(tmp_path, ""))
    (tmp_path / "latin.txt").write_bytes(b"1\nJos\xe9\t1\t2\n")
    with pytest.raises(DataError, match=r"latin\.txt: expected UTF-8 text, got byte 0xe9"):
        read_lfw_pairs(tmp_path / "latin.txt")


def test_photos_are_found_under_any_suffix_and_spelling(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "José")
    for name in (
        "Ann/Ann_0001.jpg",
        "Ann/Ann_0012.png",
        "Ann/Ann_0003.jpeg",
        f"{decomposed}/{decomposed}_0001.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert lfw_photo(tmp_path, "Ann", 1).name == "Ann_0001.jpg"
    assert lfw_photo(tmp_path, "Ann", 12).name == "Ann_0012.png"
    assert lfw_photo(tmp_path, "Ann", 3).name == "Ann_0003.jpeg"
    assert lfw_photo(tmp_path, "José", 1).is_file()
    with pytest.raises(DataError, match=r"photo 2 of Ann, but .*Ann holds no Ann_0002 \(.jpg, .png, .jpeg\)"):
        lfw_photo(tmp_path, "Ann", 2)


def test_many_folds_are_read(tmp_path: Path) -> None:
    rows = [f"P{k}\t1\t2\nP{k}\t1\tQ{k}\t1\n" for k in range(13)]
    protocol = read_pairs(written(tmp_path, "13\t1\n" + "".join(rows)))
    assert isinstance(protocol, PairsProtocol)
    assert protocol.folds == 13
    assert protocol.people(12) == {"P12", "Q12"}


def test_paths_are_read_by_fold(tmp_path: Path) -> None:
    protocol = read_pairs(written(tmp_path, PATHS, "pairs.csv"))
    assert protocol == PathPairs(
        folds=2,
        pairs=(
            PathPair("Ann/1.jpg", "Ann/2.jpg", True, 1, ("Ann", "Ann")),
            PathPair("Ann/1.jpg", "Bob/x/3.png", False, 0, ("Ann", "Bob")),
            PathPair("Cy/1.jpg", "Cy/4.jpg", True, 0, ("Cy", "Cy")),
        ),
    )
    assert protocol.fold(0) == protocol.pairs[1:]
    assert protocol.people(0) == {"Ann", "Bob", "Cy"}
    assert shared_people(protocol) == ("Ann",)
    with pytest.raises(DataError, match="fold must be 0 to 1, got -1"):
        protocol.fold(-1)


def test_a_csv_is_known_by_its_columns_whatever_its_name(tmp_path: Path) -> None:
    assert read_pairs(written(tmp_path, PATHS)) == read_path_pairs(written(tmp_path, PATHS, "a.csv"))
    assert shared_people(read_pairs(written(tmp_path, TWO_FOLDS))) == ()
    with pytest.raises(
        DataError, match=r"line 1: expected \"FOLDS N\", \"N\" or the columns first,second,same, got ''"
    ):
        read_pairs(written(tmp_path, ""))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\n\n,,,\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text.replace(",", " , "),
        lambda text: text.replace("first", "First").replace("Ann/1.jpg", '"Ann/1.jpg"'),
        lambda text: text.replace("Ann/1", "./Ann//1"),
        lambda text: text.replace("/", "\\"),
        lambda text: text.replace(",1,", ",TRUE,").replace(",0,", ",Different,"),
        lambda text: "\n".join(f"{line},extra" for line in text.splitlines()),
    ],
)
def test_harmless_differences_of_a_csv_are_tolerated(tmp_path: Path, change) -> None:  # type: ignore[no-untyped-def]
    plain = read_path_pairs(written(tmp_path, PATHS))
    assert read_path_pairs(written(tmp_path, change(PATHS))) == plain


def test_columns_may_say_who_is_who(tmp_path: Path) -> None:
    text = (
        "same,second,first,second_person,first_person\n1,b.jpg,a.jpg,Jose\u0301,Jos\u00e9\n0,c.jpg,a.jpg,Bo,Jos\u00e9\n"
    )
    protocol = read_path_pairs(written(tmp_path, text))
    assert protocol.folds == 1
    assert protocol.pairs[0] == PathPair("a.jpg", "b.jpg", True, 0, ("Jos\u00e9", "Jos\u00e9"))
    assert protocol.people(0) == {"Jos\u00e9", "Bo"}


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "first,second", "line 1: expected a header with one column same (first,second,same), got 'first,second'."),
        (1, "first,second,same,same", "line 1: expected a header with one column same"),
        (1, "first,second,same,fold,fold", "line 1: expected a header with one column fold"),
        (2, "Ann/1.jpg,Ann/2.jpg,1", "line 2: expected 4 fields, got 3."),
        (3, "Ann/1.jpg,Ann/2.jpg,1,0,9", "line 3: expected 4 fields, got 5."),
        (3, "../Ann/1.jpg,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got '../Ann/1.jpg'."),
        (3, "Ann/../../1.jpg,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got 'Ann/../../1"),
        (3, "..\\Ann\\1.jpg,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got '..\\\\Ann"),
        (3, "/etc/passwd,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got '/etc/passwd'."),
        (3, "Ann/\0.jpg,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got 'Ann/\\x00.jpg'."),
        (3, "Ann/\x1b[2J.jpg,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got 'Ann/\\x1b[2J"),
        (3, ",Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got ''."),
        (3, "./,Bob/1.jpg,0,1", "line 3: expected a path below the folder of photos, got './'."),
        (3, '"Ann/1\n.jpg",Bob/1.jpg,0,1', "line 4: expected a path below the folder of photos, got 'Ann/1\\n.jpg'."),
        (4, '"Cy/1.jpg,Cy/4.jpg,1,3', "line 4: expected comma-separated values, but unexpected end of data."),
        (2, '"Ann"/1.jpg,Ann/2.jpg,1,7', "line 2: expected comma-separated values, but ',' expected after '\"'."),
        (3, "Ann/1.jpg,Ann/1.jpg,1,1", "line 3: expected two photos, got 'Ann/1.jpg' twice."),
        (3, "Ann/2.jpg,Ann/1.jpg,1,1", "line 3: expected each pair once, got that of line 2 again."),
        (3, "Ann/1.jpg,Bob/1.jpg,maybe,1", "line 3: expected same to be 1 or 0, got 'maybe'."),
        (
            3,
            "Ann/1.jpg,Bob/1.jpg,1,1",
            "line 3: expected same to be 0 for 'Ann' and 'Bob', got 1. Columns first_person",
        ),
        (3, "Ann/1.jpg,Ann/3.jpg,0,1", "line 3: expected same to be 1 for 'Ann' and 'Ann', got 0."),
        (3, "Ann/1.jpg,Bob/1.jpg,0,1.5", "line 3: expected fold to be a whole number, got '1.5'."),
        (3, "Ann/1.jpg,Bob/1.jpg,0,-1", "line 3: expected fold to be a whole number, got '-1'."),
        (3, "Ann/1.jpg,1.jpg,0,1", "line 3: expected a folder that names the person, or the column second_person, got"),
        (3, f"Ann/{'a' * 999},Bob/1.jpg,?,1", "line 3: expected same to be 1 or 0, got '?'."),
        (3, f"/{'a' * 999},Bob/1.jpg,0,1", f"line 3: expected a path below the folder of photos, got '/{'a' * 58}…'."),
        (3, f"{'a' * 200_000},Bob/1.jpg,0,1", "line 3: expected comma-separated values, but field larger than"),
    ],
)
def test_errors_of_a_csv_name_file_and_line(tmp_path: Path, line: int, text: str, message: str) -> None:
    lines = PATHS.splitlines()
    lines[line - 1] = text
    with pytest.raises(DataError, match=r"^pairs\.csv, " + re.escape(message)) as error:
        read_pairs(written(tmp_path, "\n".join(lines), "pairs.csv"))
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("See docs/protocols.")


def test_a_csv_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: expected first,second,same, got the end of the file"):
        read_pairs(written(tmp_path, "first,second,same\n"))
    with pytest.raises(DataError, match=r"a\.csv, line 1: expected a header"):
        read_pairs(written(tmp_path, "", "a.csv"))


def test_photos_of_pairs_are_found_and_others_counted(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "José")
    for name in ("Ann_A/Ann_A_0001.jpg", "Ann_A/Ann_A_0003.jpg", f"{decomposed}/1.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found, missing = find_pairs(read_pairs(written(tmp_path, TWO_FOLDS)), tmp_path)
    assert missing == 3
    assert [(p.first, p.second, p.same, p.fold) for p in found] == [
        (tmp_path / "Ann_A/Ann_A_0001.jpg", tmp_path / "Ann_A/Ann_A_0003.jpg", True, 0)
    ]
    text = f"first,second,same\nJosé/1.jpg,Ann_A/Ann_A_0001.jpg,0\nAnn_A/{'a' * 300},Ann_A/Ann_A_0001.jpg,1\n"
    found, missing = find_pairs(read_path_pairs(written(tmp_path, text)), tmp_path)
    assert missing == 1
    assert found[0].first == tmp_path / decomposed / "1.jpg"
    assert (found[0].first_person, found[0].second_person) == ("José", "Ann_A")
    with pytest.raises(DataError, match=r"names the photo 'Cy/1.jpg', which .* does not hold"):
        find_pairs(read_path_pairs(written(tmp_path, "first,second,same\nCy/1.jpg,Cy/2.jpg,1\n")), tmp_path)


def test_a_listed_photo_lies_below_the_folder(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.jpg").touch()
    for name in ("../secret.jpg", str(tmp_path / "secret.jpg"), ""):
        with pytest.raises(DataError, match="paths below a folder"):
            listed_photo(tmp_path / "photos", name)


def test_groups_are_read(tmp_path: Path) -> None:
    text = "note,group,person\nx,North, Jose\u0301\ny,South,Bob\n"
    assert read_groups(written(tmp_path, text, "g.csv")) == {"José": "North", "Bob": "South"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("person;group\nA;x\n", "line 1: expected a header with one column person (person,group), got 'person;group'."),
        ("person,group\nA,x\nB,\n", "line 3: expected group to be a name, got ''."),
        ("person,group\n\x1b[2J,x\n", "line 2: expected person to be a name, got '\\x1b[2J'."),
        ("person,group\nA,x\nB,x\nA,x\n", "line 4: expected each person once, got 'A' of line 2 again."),
        ("person,group\n", "line 2: expected person,group, got the end of the file."),
    ],
)
def test_errors_of_groups_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=r"^g\.csv, " + re.escape(message)):
        read_groups(written(tmp_path, text, "g.csv"))
