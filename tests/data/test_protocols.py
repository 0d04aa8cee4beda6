from __future__ import annotations

import re
import unicodedata
from pathlib import Path

import pytest

from facetl.data.protocols import Pair, lfw_photo, read_lfw_pairs
from facetl.errors import DataError

TWO_FOLDS = "2\t1\nAnn_A\t1\t3\nAnn_A\t2\tBob_B\t1\nCy_C\t2\t10\nCy_C\t4\tDi_D\t7\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
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
