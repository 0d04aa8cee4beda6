"""A run without training: a net that was trained on faces by others, at the threshold that they published.

For a collection of which nobody is named yet. Nothing of it is learnt here, so nobody is needed to learn from.
"""

from __future__ import annotations

from pathlib import Path

import keras

from facetl import __version__
from facetl.backbones.extractor import make_extractor
from facetl.backbones.spec import ExtractorSpec
from facetl.backbones.weights import resolve
from facetl.io.files import write_atomic
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import MODEL_CARD, RunFolder, extractor_record, versions
from facetl.runs.reference_net import PUBLISHED
from facetl.training.layers import SphereLift

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


def write_raw_run(folder: Path, name: str = "dlib") -> Recognizer:
    """Write the run folder of a net in NETS and return its recognizer.

    Raises WeightsError where the net is not installed, RunError where the folder holds something else.
    """
    spec = ExtractorSpec.of(name, mirror=False)
    weights = resolve(spec)
    partial = RunFolder.begin(folder)
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
    partial.complete(folder)
    return recognizer


def _head(dim: int) -> keras.Model:
    inputs = keras.Input((dim,), name="features")
    return keras.Model(inputs, SphereLift(RADIUS, name="lifted")(inputs), name="head")
