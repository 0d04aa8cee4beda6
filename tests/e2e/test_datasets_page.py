"""What docs/datasets.md shows runs: the code of a layout of one's own, and commands with their options."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from facetl.data.layouts import FOLDERS, LAYOUTS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "datasets.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def test_a_layout_of_ones_own_is_read(tmp_path: Path) -> None:
    for name in ("1987-ada-lovelace", "1988-ada-lovelace", "1988-mary-anning"):
        photo = tmp_path / "school" / "photos" / f"{name}.jpg"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(b"x")
    (tmp_path / "school" / "test.txt").write_text("ada-lovelace\n")
    (code,) = CODE
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "('ada-lovelace', 'mary-anning') 2\n", done.stderr
    function = code[code.index("@layout") : code.index("manifest =")]
    assert len(function.strip().splitlines()) < 30


def test_every_layout_stands_on_the_page() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert rows == [FOLDERS, *LAYOUTS]


def test_the_commands_name_layouts_that_exist() -> None:
    named = re.findall(r"--layout (\w+)", PAGE)
    assert {"vggface2", "agedb"} <= set(named) <= {FOLDERS, "auto", "NAME", *LAYOUTS}
