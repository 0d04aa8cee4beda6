"""Standard errors by the jackknife over people: pairs share people, so people are left out, not pairs.

References:
    Efron, Stein: The Jackknife Estimate of Variance, 1981: it is never too small on average for such statistics.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from facetl.metrics.pairs import Pairs
from facetl.metrics.roc import Floats, auc

# People are left out one by one, or in so many groups.
_MOST_GROUPS = 50


def jackknife_variance(without: npt.ArrayLike) -> float:
    """Return the variance of a statistic, from its values without each of n people or groups, [n]; 0 of none."""
    values = np.asarray(without, np.float64)
    return (len(values) - 1) / len(values) * float(np.sum(np.square(values - values.mean()))) if len(values) else 0.0


def auc_gain_stderr(first: Floats, second: Floats, pairs: Pairs, labels: npt.ArrayLike) -> float:
    """Return the standard error of the difference of two AUCs over the same pairs, by person.

    first, second: [pairs] float distances; labels: [photos], who is on a row that `pairs` points to. Leaving a person
    out leaves out all pairs with a photo of that person, which share what makes it easy or hard.
    """
    person = np.unique(np.asarray(labels), return_inverse=True)[1]
    groups = min(int(person.max()) + 1, _MOST_GROUPS)
    group = person % groups
    gains = []
    for left_out in range(groups):
        kept = (group[pairs.first] != left_out) & (group[pairs.second] != left_out)
        if len(np.unique(pairs.same[kept])) == 2:
            gains.append(auc(first[kept], pairs.same[kept]) - auc(second[kept], pairs.same[kept]))
    return math.sqrt(jackknife_variance(gains))
