"""Drawn faces that MTCNN takes for faces, with their eyes and mouths where they are known to be."""

from __future__ import annotations

import cv2
import numpy as np

BACKGROUND = (120, 140, 160)
# Eyes, tip of the nose, corners of the mouth, on a face 200 units large, from its middle.
LANDMARKS = np.array([[-26.0, -12.0], [26.0, -12.0], [0.0, 22.0], [-24.0, 46.0], [24.0, 46.0]])


def landmarks(centre: tuple[int, int], side: float) -> np.ndarray:
    """Return where the landmarks [5, 2] of a drawn face lie, pixels."""
    return np.array(centre) + LANDMARKS * side / 200


def draw_face(canvas: np.ndarray, centre: tuple[int, int], side: float) -> None:
    """Draw a face into an image [h, w, 3] uint8 RGB; `side` is the height of head and hair."""

    def at(across: float, down: float) -> tuple[int, int]:
        return round(centre[0] + across * side / 200), round(centre[1] + down * side / 200)

    def oval(middle: tuple[float, float], axes: tuple[float, float], colour: tuple[int, int, int]) -> None:
        lengths = (max(1, int(axes[0] * side / 200)), max(1, int(axes[1] * side / 200)))
        cv2.ellipse(canvas, at(*middle), lengths, 0, 0, 360, colour, -1)

    oval((0, -15), (72, 92), (60, 40, 30))  # hair
    oval((0, 5), (60, 80), (224, 180, 150))
    for across in (-26, 26):
        oval((across, -12), (13, 7), (245, 240, 235))
        oval((across, -12), (6, 6), (50, 30, 20))
        oval((across, -28), (16, 4), (70, 45, 30))
    cv2.line(canvas, at(-2, -8), at(-6, 18), (200, 150, 120), max(1, int(3 * side / 200)))
    oval((0, 22), (10, 6), (190, 135, 110))
    oval((0, 46), (24, 8), (180, 80, 80))
    canvas[:] = cv2.GaussianBlur(canvas, (0, 0), side / 100)


def picture(height: int, width: int, *faces: tuple[tuple[int, int], float]) -> np.ndarray:
    """Return an image [height, width, 3] uint8 with faces of (centre, side)."""
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    for centre, side in faces:
        draw_face(canvas, centre, side)
    return canvas
