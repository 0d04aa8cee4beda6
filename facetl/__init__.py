"""facetl: transfer learning for faces, from folders of photos to a measured embedding model.

Importing this package imports no TensorFlow; a name below brings what it needs when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facetl import losses, metrics, samplers
    from facetl.backbones.backbone import Backbone
    from facetl.calibration.calibration import calibrate
    from facetl.data.manifest import Manifest
    from facetl.embeddings.dataset import embed
    from facetl.losses.proxy import MetricModel
    from facetl.recognition.recognizer import Recognizer
    from facetl.training import callbacks
    from facetl.training.head import build_head
    from facetl.training.whitening import Whitening
    from facetl.transformer import FaceEmbedder

__version__ = "0.1.0"

# Public name → the module that has it, or is it.
_HOMES = {
    "Backbone": "facetl.backbones.backbone",
    "FaceEmbedder": "facetl.transformer",
    "Manifest": "facetl.data.manifest",
    "MetricModel": "facetl.losses.proxy",
    "Recognizer": "facetl.recognition.recognizer",
    "Whitening": "facetl.training.whitening",
    "build_head": "facetl.training.head",
    "calibrate": "facetl.calibration.calibration",
    "callbacks": "facetl.training.callbacks",
    "embed": "facetl.embeddings.dataset",
    "losses": "facetl.losses",
    "metrics": "facetl.metrics",
    "samplers": "facetl.samplers",
}

__all__ = [
    "Backbone",
    "FaceEmbedder",
    "Manifest",
    "MetricModel",
    "Recognizer",
    "Whitening",
    "__version__",
    "build_head",
    "calibrate",
    "callbacks",
    "embed",
    "losses",
    "metrics",
    "samplers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'facetl' has no attribute {name!r}; it has {', '.join(__all__)}.")
    home = import_module(_HOMES[name])
    # A name that is its module's own stands for the module.
    value = home if name == home.__name__.rpartition(".")[2] and not hasattr(home, name) else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
