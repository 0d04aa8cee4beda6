"""Faces in photos that lie on their side, and in photos without a face: what looking four ways up finds, and its cost.

Run: python benchmarks/faces.py [PHOTOS] [--photos 300] [--detector mtcnn] [--detector-weights FILE] [--run RUN].
PHOTOS is a folder of upright photos of one person each, at any depth, by default FACETL_LFW_DEV; so many are drawn,
but the spread of grey values is of all. The rival, in the same run, is the same detector that looks at photos upright
alone. Landmarks are right where all five lie within half the distance of the eyes of those in the upright photo. A
cut photo lacks what lies left of a share of the face; a small one is shrunk until the face is so many pixels high;
the group is all faces in one photo, 180 pixels each. Background is the upper corners of each photo, a quarter of its
sides, doubled. Costs are seconds of processor time a photo of 1600 × 1067. With a run that was trained without
--align: the share of pairs of different people that it takes for one person, of 160 photos shrunk to a few sides.
Prints a table and a JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facetl.data.walk import walk
from facetl.faces.detectors import AnyWayUp, Detector, Face, choose, detector_spec, turned_back
from facetl.images.decode import read_photo

TIMED = 20
SMALL = (24, 20, 16, 12)
SHRUNK, SIDES = 160, (0, 64, 24)  # photos, and the sides they are shrunk to, 0 for not at all
WIDE, HIGH = 1600, 1067


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--detector", default="mtcnn")
    parser.add_argument("--detector-weights", type=Path)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.folder is None:
        print("faces: needs photos; give their folder or set FACETL_LFW_DEV")
        return
    paths = walk([Path(given.folder)]).paths
    drawn = np.random.default_rng(given.seed).permutation(len(paths))[: given.photos]
    photos = [read_photo(paths[place]) for place in drawn]
    every = detector_spec(given.detector, given.detector_weights).make()
    assert isinstance(every, AnyWayUp)
    upright = every.net
    spread = min(float(cv2.cvtColor(read_photo(path), cv2.COLOR_RGB2GRAY).std()) for path in paths)
    before, after = ([net.detect([photo])[0] for photo in photos] for net in (upright, every))
    shown = [(photo, face) for photo, found in zip(photos, before, strict=True) if (face := choose(found, photo.shape))]
    turned = {
        str(90 * turns): [sum(right(net, photo, face, turns) for photo, face in shown) for net in (upright, every)]
        for turns in (1, 2, 3)
    }
    background = [piece for photo in photos for piece in corners(photo)]
    result: dict[str, Any] = {
        "benchmark": "faces",
        "of": len(paths),
        "least_spread": spread,
        "photos": len(photos),
        "with_a_face": len(shown),
        "turned_right": turned,
        "other_faces": sum(not same(*pair) for pair in zip(before, after, strict=True)),
        "background": len(background),
        "false": [sum(bool(net.detect([piece])[0]) for piece in background) for net in (upright, every)],
        "seconds": {
            "face": cost([large(photo) for photo, _ in shown[:TIMED]], upright, every),
            "none": cost([large(piece) for piece in background[:TIMED]], upright, every),
        },
    }
    hard = {
        "cut by a third": sum(bool(every.detect([cut(*one, 1 / 3)])[0]) for one in shown),
        "cut by half": sum(bool(every.detect([cut(*one, 1 / 2)])[0]) for one in shown),
        **{f"{high} pixels high": sum(bool(every.detect([small(*one, high)])[0]) for one in shown) for high in SMALL},
        "together in one photo": len(every.detect([group(shown)])[0]),
    }
    result |= {"hard": hard}
    print(f"{len(photos)} of {len(paths):,} photos; the least spread of grey values of all {spread:.1f}")
    print(f"{'':44s}{'upright alone':>16s}{'any way up':>16s}")
    for degrees, (alone, any_way) in turned.items():
        print(f"{f'landmarks right of {len(shown)} turned by {degrees}':44s}{alone:16d}{any_way:16d}")
    print(f"{f'upright photos of {len(photos)} with other faces':44s}{'':>16s}{result['other_faces']:16d}")
    alone, any_way = result["false"]
    print(f"{f'faces in {len(background)} pieces of background':44s}{alone:16d}{any_way:16d}")
    for what, count in hard.items():
        print(f"{f'of {len(shown)} faces, {what}':44s}{'':>16s}{count:16d}")
    for what, (first, second) in result["seconds"].items():
        print(f"{f'processor s, {what}':44s}{first:16.3f}{second:16.3f}  x {second / first:.2f}")
    if given.run is not None:
        result["taken_for_one"] = taken_for_one(given.run, [paths[place] for place in drawn[:SHRUNK]])
        for side, share in result["taken_for_one"].items():
            print(f"{f'different people taken for one at {side} pixels':44s}{share:16.1%}")
    print(json.dumps(result))


def right(net: Detector, photo: np.ndarray, face: Face, turns: int) -> bool:
    """Return whether a detector finds a face's landmarks where they are in the turned photo."""
    turned = np.ascontiguousarray(np.rot90(photo, turns))
    found = choose(net.detect([turned])[0], turned.shape)
    if found is None:
        return False
    there = turned_back(found, turns, photo.shape[:2])
    eyes = float(np.linalg.norm(face.landmarks[0] - face.landmarks[1]))
    return float(np.linalg.norm(there.landmarks - face.landmarks, axis=1).max()) <= eyes / 2


def cut(photo: np.ndarray, face: Face, share: float) -> np.ndarray:
    """Return a photo without what lies left of a share of the face's box."""
    return np.ascontiguousarray(photo[:, round(face.box[0] + share * face.width) :])


def small(photo: np.ndarray, face: Face, high: int) -> np.ndarray:
    """Return a photo shrunk until the face's box is so many pixels high."""
    factor = high / face.height
    return np.asarray(cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))


def group(shown: list[tuple[np.ndarray, Face]]) -> np.ndarray:
    """Return a photo of all faces, with a margin of a quarter, 20 in a row."""
    canvas = np.full((200 * -(-len(shown) // 20), 4000, 3), 110, np.uint8)
    for place, (photo, face) in enumerate(shown):
        left, top, right, bottom = face.box
        wide, high = face.width / 4, face.height / 4
        rows = slice(max(0, round(top - high)), round(bottom + high))
        columns = slice(max(0, round(left - wide)), round(right + wide))
        down, across = 200 * (place // 20) + 10, 200 * (place % 20) + 10
        canvas[down : down + 180, across : across + 180] = cv2.resize(photo[rows, columns], (180, 180))
    return canvas


def taken_for_one(run: Path, paths: Sequence[Path]) -> dict[str, float]:
    """Return side → share of the pairs of different people, by their folders, that a run takes for one person."""
    from facetl.recognition.recognizer import Recognizer
    from facetl.training.head import embed

    recognizer = Recognizer.load(run)
    people = np.array([path.parent.name for path in paths])
    first, second = np.triu_indices(len(paths), 1)
    different = people[first] != people[second]
    shares = {}
    for side in SIDES:
        photos = [read_photo(path) for path in paths]
        if side:
            photos = [cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA) for photo in photos]
        rows = embed(recognizer.head, recognizer.backbone.extract(photos))
        distances = np.sum((rows[first] - rows[second])[different] ** 2, axis=1)
        shares[str(side or "full")] = float(np.mean(distances <= recognizer.threshold))
    return shares


def same(first: list[Face], second: list[Face]) -> bool:
    """Return whether two searches found the same faces."""
    return [face.to_json() for face in first] == [face.to_json() for face in second]


def corners(photo: np.ndarray) -> list[np.ndarray]:
    """Return the upper left and right corner of a photo, doubled."""
    high, wide = (side // 4 for side in photo.shape[:2])
    return [cv2.resize(part, (2 * wide, 2 * high)) for part in (photo[:high, :wide], photo[:high, -wide:])]


def large(photo: np.ndarray) -> np.ndarray:
    """Return a photo stretched to WIDE × HIGH pixels."""
    return np.asarray(cv2.resize(photo, (WIDE, HIGH), interpolation=cv2.INTER_CUBIC))


def cost(photos: list[np.ndarray], *nets: Detector) -> list[float]:
    """Return the seconds of processor time that each detector takes for a photo, one after the other."""
    seconds = [0.0] * len(nets)
    for net in nets:
        net.detect(photos[:1])  # what is traced or allocated once
    for photo in photos:
        for place, net in enumerate(nets):
            began = time.process_time()
            net.detect([photo])
            seconds[place] += time.process_time() - began
    return [total / len(photos) for total in seconds]


if __name__ == "__main__":
    main()
