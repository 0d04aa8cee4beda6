"""Photos whose faces are patches of colour on black, a detector of patches, and a run that knows people by colour."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest

from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.calibration.calibration import Calibration, Target, calibrate_pairs
from facetl.faces.alignment import template
from facetl.faces.detectors import DetectorSpec, Face
from facetl.recognition import recognizer as recognizer_module

SIDE = 40  # of a patch, pixels
PEOPLE = {"Ann": (200, 60, 60), "Bob": (60, 200, 60), "Eve": (60, 60, 200), "Zoe": (200, 200, 40)}


def photo(path: Path, *colours: tuple[int, int, int], seed: int = 0, shift: int = 0) -> Path:
    """Write a photo of patches of RGB colours side by side; `shift` moves them down, by pixels up to half a patch."""
    rng = np.random.default_rng(seed)
    image = np.zeros((2 * SIDE, (len(colours) or 1) * 2 * SIDE, 3), np.uint8)
    for place, colour in enumerate(colours):
        left = place * 2 * SIDE + SIDE // 2
        patch = np.clip(np.array(colour) + rng.normal(0, 6, (SIDE, SIDE, 3)), 1, 255)
        top = SIDE // 2 + shift
        image[top : top + SIDE, left : left + SIDE] = patch
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[:, :, ::-1])
    return path


@dataclass(frozen=True)
class PatchSpec(DetectorSpec):
    """The settings of the detector of patches."""

    name: str = "patches"

    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}

    def make(self) -> PatchSpec:
        return self

    def detect(self, images: Sequence[np.ndarray]) -> list[list[Face]]:
        """Return the patches of each photo, the rightmost first."""
        return [_patches(image) for image in images]


def _patches(image: np.ndarray) -> list[Face]:
    _, _, boxes, _ = cv2.connectedComponentsWithStats((image.max(axis=2) > 0).astype(np.uint8))
    faces = []
    for left, top, width, height, area in boxes[1:].tolist():
        if area > SIDE:
            landmarks = (template(width) + np.array([left, top])).astype(np.float32)
            faces.append(Face((left, top, left + width - 1.0, top + height - 1.0), landmarks, 0.9))
    return sorted(faces, key=lambda face: -face.box[0])


@dataclass
class Colours:
    """An extractor that gives a photo's mean colour, centred."""

    spec: ExtractorSpec
    weights: Weights
    dim: int = 3
    flagged: Mapping[str, int] = field(default_factory=dict)

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        return np.array([image.reshape(-1, 3).mean(axis=0) - 100 for image in images], np.float32).reshape(-1, 3)


def use_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every run that is loaded see colours."""
    monkeypatch.setattr(recognizer_module, "make_extractor", Colours)


def head(*, seed: int = 1) -> keras.Model:
    """Return a head, 3 → 4 numbers of unit norm."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((3,))
    turned = keras.layers.Dense(4, use_bias=False, kernel_initializer="orthogonal")(inputs)
    return keras.Model(inputs, keras.layers.UnitNormalization()(turned))


def calibration(*, people: int = 12, seed: int = 0) -> Calibration:
    """Return a calibration on made-up people in the space of the head."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(people, 1, 4))
    rows = centres / np.linalg.norm(centres, axis=2, keepdims=True) + rng.normal(0, 0.05, (people, 6, 4))
    rows = (rows / np.linalg.norm(rows, axis=2, keepdims=True)).reshape(-1, 4)
    return calibrate_pairs(rows, np.repeat(np.arange(people), 6), target=Target("accuracy"), seed=0).calibration


def write_run(folder: Path, *, seed: int = 1, align: str = "none", people: int = 12) -> Path:
    """Write a run folder that `Recognizer.load` reads where `use_colours` holds."""
    folder.mkdir(parents=True)
    weights = folder.parent / "net.h5"
    weights.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    spec = ExtractorSpec.of("mobilenet_v3_small", align=align)
    stored = {"source": "file", "sha256": sha256, "path": str(weights), "description": "a net"}
    extractor = {"spec": spec.to_json(), "weights": stored, "fingerprint": spec.fingerprint(sha256), "dim": 3}
    config = {"data": str(folder.parent / "photos"), "settings": {"seed": 0}, "extractor": extractor}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "calibration.json").write_text(json.dumps(calibration(people=people).to_json()))
    head(seed=seed).save(folder / "head.keras")
    return folder
