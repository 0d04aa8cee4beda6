"""Nets that others trained on faces, at the threshold that they published: as a reference beside a run, or as a run.

A run of one is for a collection of which nobody is named yet: nothing is learnt, so nobody is needed to learn from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from facetl import __version__
from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec, Weights
from facetl.backbones.weights import resolve
from facetl.data.manifest import Manifest
from facetl.embeddings.fill import photo_features
from facetl.errors import DataError
from facetl.io.files import write_atomic
from facetl.metrics.pairs import Pairs
from facetl.metrics.roc import Floats, squared_distances
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import MODEL_CARD, RunFolder, extractor_record, versions
from facetl.training.layers import SphereLift

# Name → the squared distance up to which its own authors call two photos one person.
PUBLISHED = {"dlib": 0.6**2}
NETS = tuple(PUBLISHED)

# Several times as long as the nets' vectors (dlib's are of length 1.3 to 1.6).
RADIUS = 8.0

_CARD = """\
# {name}

{description}, as its authors left it: no head was trained, and nobody's photos were looked at to make this run.

- Distances are those between the net's own vectors, divided by {squared:g} so that they fit unit vectors: two photos
  show one person when theirs is at most {threshold:.6f}, which is the authors' {published:g}.
- How often that errs on your people is not known here: there is no calibration, and so no probability.
- Do not use it to grant access or to decide about people.
"""


@dataclass(frozen=True)
class ReferenceNet:
    """A face-trained net in its own pipeline: its own alignment, no head, distances between its plain vectors.

    Attributes:
        name: which.
        threshold: its authors' own, a squared distance; the vectors are not of unit norm.
    """

    name: str
    threshold: float
    spec: ExtractorSpec
    weights: Weights

    @classmethod
    def open(cls, name: str) -> ReferenceNet:
        """Find a net by name; raises DataError for another name, WeightsError when it is not installed."""
        if name not in PUBLISHED:
            raise DataError(f"--ceiling: expected one of {', '.join(PUBLISHED)}, got {name!r}.")
        spec = ExtractorSpec.of(name, mirror=False)
        return cls(name, PUBLISHED[name], spec, resolve(spec))

    def distances(
        self,
        manifest: Manifest,
        pairs: Pairs,
        *,
        cache: Path,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Floats:
        """Return squared distances of pairs of a manifest's photos, all of which can be read: float64 [pairs]."""
        found = photo_features(
            manifest,
            self.spec,
            self.weights,
            make_net=lambda view: make_extractor(view, self.weights),
            cache=cache,
            on_progress=on_progress,
        )
        if len(found.manifest) != len(manifest):
            raise DataError(f"{manifest.root}: {len(manifest) - len(found.manifest)} photos have gone meanwhile.")
        rows = np.asarray(found.features.array(), np.float32)
        return squared_distances(rows[pairs.first], rows[pairs.second])


def write_pretrained_run(folder: Path, name: str = "dlib") -> Recognizer:
    """Write the run folder of a net in NETS and return its recognizer.

    Raises WeightsError where the net is not installed, RunError where the folder holds something else.
    """
    spec = ExtractorSpec.of(name, mirror=False)
    weights = resolve(spec)
    with RunFolder.new(folder) as partial:
        extractor = make_extractor(spec, weights)
        recognizer = Recognizer(extractor, _head(extractor.dim), threshold=PUBLISHED[name] / RADIUS**2)
        recognizer.save(partial.path)
        partial.write_people({})
        config = {
            "facetl": __version__,
            "settings": {},
            "threshold": recognizer.threshold,
            "head": {"fallback": True, "width": extractor.dim + 1},
            "extractor": extractor_record(spec, weights, extractor.dim),
            "versions": versions(),
        }
        partial.write_config(config)
        card = _CARD.format(
            name=folder.name,
            description=weights.description,
            squared=RADIUS**2,
            threshold=recognizer.threshold,
            published=PUBLISHED[name],
        )
        write_atomic(partial.path / MODEL_CARD, card.encode())
    return recognizer


def _head(dim: int) -> keras.Model:
    inputs = keras.Input((dim,), name="features")
    return keras.Model(inputs, SphereLift(RADIUS, name="lifted")(inputs), name="head")
