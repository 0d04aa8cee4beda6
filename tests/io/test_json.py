"""Results as plain data, and JSON files that are there whole or not at all."""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from facetl.io.json import JsonFields, parse_json, plain, write_json


class Ends(NamedTuple):
    low: float
    high: float


@dataclass(frozen=True)
class Inner:
    values: tuple[np.float32, ...]


@dataclass(frozen=True)
class Renamed(JsonFields):
    count: np.int64

    def to_json(self) -> dict[str, Any]:
        return {"n": super().to_json()["count"]}


@dataclass(frozen=True)
class Outer(JsonFields):
    path: Path
    inner: Inner
    many: tuple[Renamed, ...]
    named: Mapping[str, Ends]
    grid: np.ndarray
    nothing: None = None


def test_every_field_is_plain_at_any_depth() -> None:
    outer = Outer(
        path=Path("faces") / "Ann",
        inner=Inner((np.float32(0.5), np.float32(2.0))),
        many=(Renamed(np.int64(3)),),
        named={"far": Ends(0.25, 0.75)},
        grid=np.array([[1, 2], [3, 4]], np.uint8),
    )
    expected = {
        "path": str(Path("faces") / "Ann"),
        "inner": {"values": [0.5, 2.0]},
        "many": [{"n": 3}],
        "named": {"far": [0.25, 0.75]},
        "grid": [[1, 2], [3, 4]],
        "nothing": None,
    }
    assert outer.to_json() == plain(outer) == expected
    assert list(outer.to_json()) == list(expected), "fields keep their order"
    assert json.loads(json.dumps(outer.to_json())) == expected
    assert type(outer.to_json()["many"][0]["n"]) is int


def test_a_file_is_private_and_keeps_letters(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_json(path, {"name": "José 山田"})
    assert path.read_text(encoding="utf-8") == '{\n  "name": "José 山田"\n}\n'
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_number_that_json_has_not_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    write_json(path, {"loss": 1.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": math.nan})
    assert json.loads(path.read_text()) == {"loss": 1.5}
    assert [one.name for one in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "1" + "0" * 400, "9" * 5000, "NaN", "[-Infinity]", "1e999", "{", b"\xff"]
)
def test_what_json_or_float64_has_not_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"number|deep|decode|Expecting"):
        parse_json(text)


def test_what_was_written_is_parsed() -> None:
    assert parse_json(b'{"a": [1, -2.5e3, null, true, 18446744073709551616]}') == {"a": [1, -2500.0, None, True, 2**64]}
    assert math.isnan(parse_json("NaN", finite=False))
    assert parse_json("1e999", finite=False) == math.inf
