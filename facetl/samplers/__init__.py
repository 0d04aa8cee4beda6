"""Samplers: which rows of labelled features a training step sees, as a `tf.data.Dataset` for `fit`.

Of anything that has features and labels, not of faces alone. Importing this package imports no TensorFlow.
"""

from facetl.samplers.neighbour_sampler import NeighbourSampler
from facetl.samplers.pair_sampler import PairSampler
from facetl.samplers.pk_sampler import PKSampler
from facetl.samplers.sampler import SAMPLERS, Sampler, Schedule, register_sampler
from facetl.samplers.shuffle_sampler import ShuffleSampler
from facetl.samplers.triplet_sampler import RandomSampler, TripletSampler

__all__ = [
    "SAMPLERS",
    "NeighbourSampler",
    "PKSampler",
    "PairSampler",
    "RandomSampler",
    "Sampler",
    "Schedule",
    "ShuffleSampler",
    "TripletSampler",
    "register_sampler",
]
