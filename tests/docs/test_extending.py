"""What docs/extending.md shows runs as it is printed, and each part is short."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "extending.md").read_text()
LONGEST = 30  # lines of a part
PARTS = {
    title: re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    for title, text in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.MULTILINE | re.DOTALL)
}


def run(title: str, folder: Path) -> str:
    """Run the code of a part, block after block, in a process of its own; return what it prints."""
    code = "\n".join(PARTS[title])
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("title", PARTS)
def test_a_part_is_short(title: str) -> None:
    first = PARTS[title][0]
    assert 0 < len(first.strip().splitlines()) < LONGEST


def test_a_loss(tmp_path: Path) -> None:
    assert run("A loss", tmp_path) == "2 1.2\n"


def test_a_backbone(tmp_path: Path, make_people: Callable[..., Path]) -> None:
    make_people(tmp_path / "faces", people=3, photos=2)
    assert run("A backbone", tmp_path) == "(6, 128) 6\n"
    assert run("A backbone", tmp_path) == "(6, 128) 0\n"


def test_a_detector(tmp_path: Path) -> None:
    photo = np.zeros((200, 300, 3), np.uint8)
    photo[20:120, 40:120] = photo[60:180, 180:270] = 255
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "two.png"), photo)
    assert run("A detector", tmp_path) == "1 2\n"


def test_a_data_set_layout(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name in ("ann-01", "ann-02", "zoe-01", "notes"):
        cv2.imwrite(str(tmp_path / "set" / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    assert run("A data-set layout", tmp_path) == "3 ('ann', 'zoe') ('zoe',) {'other-name': 1}\n"


def test_a_sampler(tmp_path: Path) -> None:
    assert run("A sampler", tmp_path) == "(4, 2) (4,)\n"
