"""Where a net may be tapped: the layers, each with its grids, that are worth comparing."""

from __future__ import annotations

from facetl.backbones.spec import AVERAGE, ExtractorSpec

GRIDS = (5, 7)
# Every block from the stem to the last that keeps a map of 17×17; what lies behind has forgotten who a person is.
_INCEPTION_V3 = ("max_pooling2d_1", "mixed0", "mixed1", "mixed2", "mixed3", "mixed4", "mixed5", "mixed7")

Candidate = tuple[str, int]


def candidates(name: str) -> tuple[Candidate, ...]:
    """Return (tap, grid) of each feature of a net of keras.applications to compare, `avg` the last.

    Of inception_v3 the blocks up to mixed7; of other nets the last layer of each spatial resolution whose name is its
    own. A map smaller than a grid is taken at its own size. Raises WeightsError for a net that there is not.
    """
    if name == ExtractorSpec.name:
        return (*((tap, grid) for tap in _INCEPTION_V3 for grid in GRIDS), (AVERAGE, 1))
    from facetl.backbones import keras_applications

    model = keras_applications.net(name).build(None)
    last: dict[int, str] = {}
    for layer in model.layers[1:]:
        shape = layer.output.shape
        if len(shape) == 4 and min(shape[1:3]) > 1 and not keras_applications.is_automatic(layer):
            last[int(min(shape[1:3]))] = layer.name
    found = [(tap, grid) for side, tap in last.items() for grid in sorted({min(grid, side) for grid in GRIDS})]
    return (*found, (AVERAGE, 1))
