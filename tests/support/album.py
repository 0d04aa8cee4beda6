"""A made-up album: faces of the sample pasted into larger scenes, several in each, some turned, some twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

_FACE = (168, 138)  # height and width of a pasted face, pixels
_CELL = (250, 220)


@dataclass(frozen=True)
class Pasted:
    """Who was pasted where: the middle of the face in pixels of the upright scene."""

    person: str
    across: float
    down: float


class Album:
    """Scenes below a folder, and who is on each; `truth` tells of a face that was found."""

    def __init__(self, folder: Path, sample: Path, *, seed: int = 0) -> None:
        self.folder, self._sample = folder, sample
        self._rng = np.random.default_rng(seed)
        self.scenes: dict[str, list[Pasted]] = {}

    def scene(self, name: str, *photos: tuple[str, int], turn: float = 0.0, exif: bool = False) -> Path:
        """Write a scene with the sample's photos (person, number) side by side.

        turn: degrees by which the scene is turned; exif: stored lying on its side, with a mark that says so.
        """
        height, width = _CELL[0] + 120, _CELL[1] * max(1, len(photos)) + 60
        scene = self._background(height, width)
        pasted = []
        for place, (person, number) in enumerate(photos):
            middle = (30 + _CELL[1] * place + _CELL[1] // 2, height // 2 + int(self._rng.integers(-40, 40)))
            self._paste(scene, person, number, middle)
            pasted.append(Pasted(person, *map(float, middle)))
        if turn:
            matrix = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.0)
            scene = cv2.warpAffine(scene, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
            moved = [matrix @ [one.across, one.down, 1.0] for one in pasted]
            pasted = [Pasted(one.person, float(x), float(y)) for one, (x, y) in zip(pasted, moved, strict=True)]
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(scene)
        if exif:
            lying, marks = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
            marks[0x0112] = 6
            lying.save(path, quality=95, exif=marks)
        else:
            image.save(path, **({"quality": 95} if path.suffix == ".jpg" else {}))
        self.scenes[str(path)] = pasted
        return path

    def again(self, path: Path, name: str) -> Path:
        """Copy a scene, byte by byte, to another name."""
        other = self.folder / name
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_bytes(path.read_bytes())
        self.scenes[str(other)] = self.scenes[str(path)]
        return other

    def truth(self, path: str, box: list[float]) -> str | None:
        """Return whose face was pasted where a face was found; None where none was."""
        across, down = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        near = [
            one
            for one in self.scenes[path]
            if abs(one.across - across) < _FACE[1] / 2 and abs(one.down - down) < _FACE[0] / 2
        ]
        return near[0].person if near else None

    def _background(self, height: int, width: int) -> np.ndarray:
        coarse = self._rng.uniform(60, 200, (4, 5, 3)).astype(np.float32)
        smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        return np.clip(smooth + self._rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)

    def _paste(self, scene: np.ndarray, person: str, number: int, middle: tuple[int, int]) -> None:
        """Paste a face, wider by its own border, with soft edges: MTCNN looks around a face, too."""
        face = cv2.imread(str(self._sample / person / f"{number}.pgm"), cv2.IMREAD_COLOR)
        face = cv2.resize(face, _FACE[::-1], interpolation=cv2.INTER_CUBIC)
        room = 36
        face = cv2.copyMakeBorder(face, room, room, room, room, cv2.BORDER_REPLICATE)
        soft = np.zeros(face.shape[:2], np.float32)
        soft[12:-12, 12:-12] = 1
        soft = cv2.GaussianBlur(soft, (0, 0), 5)[:, :, None]
        top, left = middle[1] - face.shape[0] // 2, middle[0] - face.shape[1] // 2
        part = scene[top : top + face.shape[0], left : left + face.shape[1]]
        scene[top : top + face.shape[0], left : left + face.shape[1]] = (soft * face + (1 - soft) * part).astype(
            np.uint8
        )
