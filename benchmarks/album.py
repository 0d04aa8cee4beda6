"""An unlabelled album out of a folder of people, with embeddings by a head that has never seen any of them.

People with `fewest` photos or more are the album; a head is trained and calibrated on all the others. What took minutes
is kept in a file, if one is named, and read from there the next time.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facetl.calibration.calibration import Calibration

FEWEST = 5
VALIDATION = 0.2
ALIGNED_CROP = 0.5


@dataclass(frozen=True)
class Album:
    """Unit embeddings float32 [photos, width], who is on each, and what the head's run would know of its distances.

    raw: squared distances float32 [photos, photos] between the features as they come out of the net, centred and
    normalised (the baseline `raw`), for methods that learn nothing. vectors: the features themselves where the net was
    trained on faces and means their plain distances; else [photos, 0].
    """

    embeddings: np.ndarray
    labels: np.ndarray
    raw: np.ndarray
    calibration: Calibration
    vectors: np.ndarray

    @property
    def threshold(self) -> float:
        """The run's own: highest accuracy on validation people, who are not in the album."""
        return self.calibration.threshold

    def select(self, rows: np.ndarray) -> Album:
        """Keep some photos."""
        return Album(
            self.embeddings[rows], self.labels[rows], self.raw[np.ix_(rows, rows)], self.calibration, self.vectors[rows]
        )

    def halves(self, *, seed: int = 0) -> tuple[Album, Album]:
        """Deal the people out to two albums: one to choose settings on, one to report."""
        people = int(self.labels.max()) + 1
        first = np.random.default_rng(seed).permutation(people)[: people // 2]
        chosen = np.isin(self.labels, first)
        return self.select(np.flatnonzero(chosen)), self.select(np.flatnonzero(~chosen))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `open_album` needs to know."""
    parser.add_argument("folder", nargs="?", type=Path, default=os.environ.get("FACETL_LFW_DEV"))
    parser.add_argument("--extractor", default="inception_v3", help="inception_v3 (aligned faces) or dlib")
    parser.add_argument("--fewest", type=int, default=FEWEST, help="photos of a person of the album")
    parser.add_argument("--cache", type=Path, help="folder of the feature cache; the user's own by default")
    parser.add_argument("--keep", type=Path, help="an .npz file for the embeddings, read if it is there")


def open_album(arguments: argparse.Namespace) -> Album | None:
    """Read the album that is kept, or make it; None, saying so, without photos."""
    if arguments.keep is not None and arguments.keep.is_file():
        return _read(arguments.keep)
    if arguments.folder is None:
        print("needs photos as FOLDER/images/Person/photo.jpg; give the folder or set FACETL_LFW_DEV")
        return None
    album = _make(arguments)
    if arguments.keep is not None:
        calibration = json.dumps(album.calibration.to_json())
        np.savez(
            arguments.keep,
            embeddings=album.embeddings,
            labels=album.labels,
            raw=album.raw,
            said=calibration,
            vectors=album.vectors,
        )
    return album


def _read(path: Path) -> Album:
    with np.load(path) as kept:
        calibration = Calibration.from_json(json.loads(str(kept["said"])))
        return Album(kept["embeddings"], kept["labels"], kept["raw"], calibration, kept["vectors"])


def _make(arguments: argparse.Namespace) -> Album:
    from facetl._tensorflow import start_tensorflow
    from facetl.backbones.backbone import Backbone
    from facetl.backbones.spec import ExtractorSpec
    from facetl.calibration.calibration import Target, calibrate_pairs
    from facetl.data.manifest import Manifest
    from facetl.embeddings import dataset
    from facetl.metrics.baselines import Raw

    start_tensorflow()
    from facetl.training.fit import fit_head
    from facetl.training.head import embed
    from facetl.training.settings import BALANCED

    finds_faces = arguments.extractor == "dlib"
    spec = (
        ExtractorSpec.of("dlib")
        if finds_faces
        else ExtractorSpec.of(arguments.extractor, align="mtcnn", crop=ALIGNED_CROP)
    )
    manifest = Manifest.from_folder(Path(arguments.folder) / "images")
    collection = dataset.embed(manifest, Backbone.from_spec(spec), cache=arguments.cache)
    labels = collection.manifest.labels
    in_album = np.bincount(labels)[labels] >= arguments.fewest
    album_features, album_labels, _ = collection.rows(in_album)
    features, others, small = collection.rows(~in_album)
    sides = np.array([photo.split for photo in small.with_splits(seed=0, validation=VALIDATION, test=0.0).photos])
    chosen, learnt = np.flatnonzero(sides == "validation"), np.flatnonzero(sides == "train")
    fitted = fit_head(
        features.subset(learnt),
        others[learnt],
        BALANCED,
        validation=(features.subset(chosen), others[chosen]),
        layout=collection.layout,
    )
    calibrated = calibrate_pairs(
        embed(fitted.head, features.subset(chosen)), others[chosen], target=Target("accuracy"), seed=0
    )
    raw = Raw().fit(features.subset(learnt)).transform(album_features)
    distances = np.maximum(2.0 - 2.0 * (raw @ raw.T), 0.0).astype(np.float32)
    person = np.unique(album_labels, return_inverse=True)[1].astype(np.int64)
    vectors = np.asarray(album_features[:], np.float32)[:, : None if finds_faces else 0]
    return Album(embed(fitted.head, album_features), person, distances, calibrated.calibration, vectors)
