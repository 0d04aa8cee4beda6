"""Every row once an epoch, in even batches."""

from __future__ import annotations

import numpy as np
import pytest

from facetl.errors import TrainingError
from facetl.samplers import ShuffleSampler


def test_shuffled_batches_are_even_and_follow_from_seed_and_epoch() -> None:
    labels = np.array([5, 5, 3, 9, 9, 9, 5, 9, 9])
    sampler = ShuffleSampler(labels, smallest_class=2, seed=1)
    one, other = list(sampler.batches(0, batch_size=3)), list(sampler.batches(1, batch_size=3))
    # Whoever has one photo is in no batch: 8 photos make 3, 3 and 2.
    assert sorted(map(len, one)) == [2, 3, 3]
    assert sorted(np.concatenate(one).tolist()) == [0, 1, 3, 4, 5, 6, 7, 8]
    assert np.concatenate(one).tolist() != np.concatenate(other).tolist()
    again = ShuffleSampler(labels, smallest_class=2, seed=1).batches(1, batch_size=3)
    np.testing.assert_array_equal(np.concatenate(list(again)), np.concatenate(other))
    with pytest.raises(TrainingError, match="at least 2 people with 2 photos each, got 1 of 3"):
        ShuffleSampler([0, 0, 1, 2], smallest_class=2)
