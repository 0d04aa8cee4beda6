"""MTCNN: three small nets, each of which looks closer at what the one before it took for a face.

Zhang, Zhang, Li and Qiao, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks",
IEEE Signal Processing Letters 23 (2016). Nets and weights are those of the package `mtcnn`. Its own cascade is
not used: it compares all pairs of proposals at once, which no memory holds for a photo of a crowd; it moves the
faces of photos of unequal sizes by other photos' padding; and it rounds landmarks to whole pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import tensorflow as tf
from mtcnn.stages import StageONet, StagePNet, StageRNet
from numpy.typing import NDArray

from facetl.errors import DataError
from facetl.faces.detectors import Face, MtcnnSpec, mtcnn_weights

Floats = NDArray[np.float32]
Net = Callable[[tf.Tensor], list[tf.Tensor]]

_CELL, _STRIDE = 12, 2  # the proposal net sees squares of 12 pixels, every 2 pixels
_PYRAMID = 0.709  # each level has half the area of the one above
_SAME_ON_LEVEL, _SAME = 0.5, 0.7  # overlap from which two boxes are one face
_PROPOSALS = 4096  # of a photo, the best go on: bounds time and memory for a photo full of faces
_PIXELS, _PATCHES = 2**21, 512  # pixels of photos, and patches, that pass a net at once


@dataclass(frozen=True)
class _Boxes:
    """Boxes [n, 4] (left, top, right, bottom), their scores [n], and the place of each one's photo [n]."""

    edges: Floats
    scores: Floats
    photos: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.edges)

    def pick(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> _Boxes:
        return _Boxes(self.edges[which], self.scores[which], self.photos[which])


class MtcnnDetector:
    """Finds faces with five landmarks; what it finds in a photo does not depend on the photos beside it."""

    def __init__(self, spec: MtcnnSpec) -> None:
        self.spec = spec
        self._propose = _graph(StagePNet(weights=str(mtcnn_weights("pnet"))).model, side=None)
        self._refine = _graph(StageRNet(weights=str(mtcnn_weights("rnet"))).model, side=24)
        self._finish = _graph(StageONet(weights=str(mtcnn_weights("onet"))).model, side=48)

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Return the faces of each photo, best first.

        Args:
            images: [height, width, 3] uint8 RGB, upright, of any sizes.

        Raises DataError on anything else.
        """
        shrunk = [_shrunk(image, self.spec.max_side) for image in images]
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, image in enumerate(shrunk):
            # A narrower photo holds no face.
            if min(image.shape[:2]) >= self.spec.min_face:
                alike[image.shape].append(place)
        faces: list[list[Face]] = [[] for _ in images]
        for (height, width, _), places in alike.items():
            step = max(1, _PIXELS // (height * width))
            for start in range(0, len(places), step):
                part = places[start : start + step]
                boxes, landmarks = self._cascade(np.stack([shrunk[place] for place in part]))
                for at in range(len(boxes)):
                    place = part[boxes.photos[at]]
                    found = _face(boxes.edges[at], landmarks[at], boxes.scores[at], shrunk[place], images[place])
                    faces[place] += [found] if found else []
        return faces

    def _cascade(self, photos: NDArray[np.uint8]) -> tuple[_Boxes, Floats]:
        """Return the faces of photos [n, h, w, 3] of one size, and their landmarks [faces, 5, 2]."""
        pixels: Floats = (photos.astype(np.float32) - 127.5) / np.float32(128)
        _, refined, final = self.spec.thresholds
        canvas = tf.constant(pixels)
        boxes = _checked(self._refine, 24, canvas, self._proposals(pixels), refined)
        boxes = _checked(self._finish, 48, canvas, boxes, final)
        boxes = boxes.pick(_not_inside(boxes))
        # The nets do not take an empty batch.
        return boxes, self._landmarks(canvas, boxes) if len(boxes) else np.zeros((0, 5, 2), np.float32)

    def _landmarks(self, canvas: tf.Tensor, boxes: _Boxes) -> Floats:
        """Look once more, where the face was found, at it and at its mirror image; return the mean [n, 5, 2].

        The net's landmarks tremble with its view: this halves by how much they miss when the photo is moved.
        """
        squares = _squared(boxes.edges)
        seen = _points(_looked_at(self._finish, 48, canvas, squares, boxes.photos)[1], squares)
        last = canvas.shape[2] - 1
        mirrored = np.stack([last - squares[:, 2], squares[:, 1], last - squares[:, 0], squares[:, 3]], axis=1)
        outputs = _looked_at(self._finish, 48, canvas[:, :, ::-1], mirrored, boxes.photos)
        # What lies left in the mirror lies right in the photo.
        back = _points(outputs[1], mirrored)[:, [1, 0, 2, 4, 3]]
        back[..., 0] = last - back[..., 0]
        return np.asarray((seen + back) / 2, np.float32)

    def _proposals(self, pixels: Floats) -> _Boxes:
        """Slide the proposal net over every level of the photos' pyramid."""
        count, height, width, _ = pixels.shape
        levels = []
        scale = _CELL / self.spec.min_face
        while min(height, width) * scale >= _CELL:
            size = (int(width * scale), int(height * scale))
            level = np.stack([cv2.resize(photo, size, interpolation=cv2.INTER_AREA) for photo in pixels])
            offsets, scores = (np.asarray(output) for output in self._propose(level))
            photos, rows, columns = np.nonzero(scores[..., 1] > self.spec.thresholds[0])
            corners = _STRIDE * np.stack([columns, rows], axis=1)
            cells = np.concatenate([corners, corners + _CELL], axis=1) + _CELL * offsets[photos, rows, columns]
            found = _Boxes((cells / scale).astype(np.float32), scores[photos, rows, columns, 1], photos)
            levels.append(found.pick(_distinct(found, count, _SAME_ON_LEVEL)))
            scale *= _PYRAMID
        joined = _Boxes(
            np.concatenate([level.edges for level in levels]),
            np.concatenate([level.scores for level in levels]),
            np.concatenate([level.photos for level in levels]),
        )
        return joined.pick(_distinct(joined, count, _SAME))


def _graph(model: tf.keras.Model, *, side: int | None) -> Net:
    """Compile a net once for all sizes of input."""
    signature = [tf.TensorSpec((None, side, side, 3), tf.float32)]
    function: Net = tf.function(model, input_signature=signature)
    return function


def _shrunk(image: NDArray[np.uint8], max_side: int) -> NDArray[np.uint8]:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise DataError(f"a photo to look for faces in is uint8 [height, width, 3], got {image.dtype} {image.shape}.")
    height, width = image.shape[:2]
    factor = max_side / max(height, width, 1)
    if factor >= 1:
        return image
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _checked(net: Net, side: int, canvas: tf.Tensor, boxes: _Boxes, threshold: float) -> _Boxes:
    """Return the boxes that a net takes for faces, moved by it, of those that overlap the best one."""
    if not len(boxes):
        return boxes
    squares = _squared(boxes.edges)
    offsets, *_, scores = _looked_at(net, side, canvas, squares, boxes.photos)
    found = _Boxes(_moved(squares, offsets), scores[:, 1], boxes.photos).pick(scores[:, 1] > threshold)
    return found.pick(_distinct(found, int(canvas.shape[0]), _SAME))


def _looked_at(net: Net, side: int, canvas: tf.Tensor, squares: Floats, photos: NDArray[np.intp]) -> list[Floats]:
    """Return a net's outputs for those squares [n, 4] of the photos on the canvas [photos, h, w, 3]."""
    height, width = canvas.shape[1:3]
    # crop_and_resize counts from the centre of the first pixel, 0, to that of the last, 1.
    ends = squares[:, [1, 0, 3, 2]] / np.array([height - 1, width - 1] * 2, np.float32)
    outputs = []
    for start in range(0, len(squares), _PATCHES):
        part = slice(start, start + _PATCHES)
        patches = tf.image.crop_and_resize(canvas, ends[part], photos[part].astype(np.int32), (side, side))
        outputs.append([np.asarray(output) for output in net(patches)])
    return [np.concatenate(parts) for parts in zip(*outputs, strict=True)]


def _distinct(boxes: _Boxes, photos: int, overlap: float) -> NDArray[np.intp]:
    """Return the places of the boxes that are left when of two that overlap the better one stays, best first."""
    kept = []
    for photo in range(photos):
        own = np.flatnonzero(boxes.photos == photo)
        best = tf.image.non_max_suppression(boxes.edges[own], boxes.scores[own], _PROPOSALS, overlap)
        kept.append(own[np.asarray(best)])
    return np.concatenate(kept)


def _not_inside(boxes: _Boxes) -> NDArray[np.intp]:
    """Return the places of the boxes, best first, that do not lie mostly within a better one of their photo."""
    kept: list[int] = []
    areas = np.prod(boxes.edges[:, 2:] - boxes.edges[:, :2], axis=1)
    for place in np.argsort(-boxes.scores, kind="stable"):
        better = np.array([other for other in kept if boxes.photos[other] == boxes.photos[place]], np.intp)
        near = np.maximum(boxes.edges[better, :2], boxes.edges[place, :2])
        far = np.minimum(boxes.edges[better, 2:], boxes.edges[place, 2:])
        shared = np.prod(np.maximum(far - near, 0), axis=1)
        if (shared <= _SAME * np.minimum(areas[better], areas[place])).all():
            kept.append(int(place))
    return np.array(kept, np.intp)


def _squared(edges: Floats) -> Floats:
    centres = (edges[:, :2] + edges[:, 2:]) / 2
    half = (edges[:, 2:] - edges[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def _moved(edges: Floats, offsets: Floats) -> Floats:
    """Move each edge by its offset, a fraction of the box's side counted in pixels."""
    sides = edges[:, 2:] - edges[:, :2] + 1
    return edges + offsets * np.concatenate([sides, sides], axis=1)


def _points(outputs: Floats, edges: Floats) -> Floats:
    """Return landmarks [n, 5, 2] of outputs [n, 10]: five x, then five y, as fractions of the box."""
    fractions = outputs.reshape(-1, 2, 5).transpose(0, 2, 1)
    return edges[:, None, :2] + fractions * (edges[:, None, 2:] - edges[:, None, :2])


def _face(
    edges: Floats, points: Floats, score: np.float32, shrunk: NDArray[np.uint8], image: NDArray[np.uint8]
) -> Face | None:
    """Return a face in the pixels of the whole photo, None for one that lies outside it."""
    height, width = image.shape[:2]
    factor = np.array([width / shrunk.shape[1], height / shrunk.shape[0]], np.float32)
    corners = (edges.reshape(2, 2) + 0.5) * factor - 0.5
    (left, top), (right, bottom) = np.clip(corners, 0, [width - 1, height - 1]).tolist()
    landmarks = (points + 0.5) * factor - 0.5
    if right <= left or bottom <= top or not np.isfinite(landmarks).all():
        return None
    return Face((left, top, right, bottom), landmarks.astype(np.float32), float(score))
