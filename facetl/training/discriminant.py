"""Linear maps that bring photos of one person together, in closed form, from whitened rows."""

from __future__ import annotations

import numpy as np

from facetl.training.settings import TrainingSettings

# The scatter within a person with hundreds of photos must not stand for everyone's.
_WEIGHT = 10
_NO_SCATTER = 1e-9


def supervised(rows: np.ndarray, labels: np.ndarray, settings: TrainingSettings) -> np.ndarray:
    """Return the map [components, components] that `within` or `discriminant` adds; mean square of the rows then 1.

    rows: [photos, components] float32, centred. Within-class covariance normalisation (Hatch, Kajarekar and Stolcke,
    2006); `discriminant` then scales each direction by √(b / (b + 1)), b its variance between people for 1 within
    them (Ioffe, Probabilistic Linear Discriminant Analysis, 2006).
    """
    mapping = _within_whitening(rows, labels, settings.shrinkage)
    photos = len(rows)
    # Of the mapped rows, all that is asked for are moments: those of the rows give them without mapping a single one.
    squares, mean = (rows.T @ rows).astype(np.float64), rows.mean(axis=0, dtype=np.float64)
    if settings.standardise == "discriminant":
        spread = (squares - photos * np.outer(mean, mean)) / (photos - 1)
        values, vectors = np.linalg.eigh(mapping.T @ spread @ mapping)
        between = np.maximum(values - 1, 1e-3)
        mapping = mapping @ (vectors * np.sqrt(between / (between + 1)))[:, ::-1]
    scale = np.sqrt(np.sum(mapping * (squares @ mapping)) / (photos * mapping.shape[1]))
    return np.asarray(mapping / max(scale, 1e-12), np.float32)


def _within_whitening(rows: np.ndarray, labels: np.ndarray, shrinkage: float) -> np.ndarray:
    """Return the map that makes the scatter within people spherical, of variance 1.

    People with many photos count as _WEIGHT photos at most, those with one say nothing.
    """
    _, person, counts = np.unique(labels, return_inverse=True, return_counts=True)
    several = counts[person] > 1
    rows, person = rows[several], np.unique(person[several], return_inverse=True)[1]
    counts = counts[counts > 1]
    together = np.argsort(person, kind="stable")
    sums = np.add.reduceat(rows[together], np.cumsum(counts) - counts, axis=0, dtype=np.float64)
    deviation = rows - (sums / counts[:, None])[person]
    weight = np.minimum(1.0, _WEIGHT / counts)
    freedom = float(np.sum(weight * (counts - 1)))
    within = (deviation * weight[person][:, None]).T @ deviation / max(freedom, 1e-12)
    level = np.trace(within) / len(within)
    if level <= _NO_SCATTER:  # copies of one photo for every person: there is nothing to whiten by
        return np.eye(len(within))
    within *= 1 - shrinkage
    within[np.diag_indices_from(within)] += (shrinkage + _NO_SCATTER) * level
    return np.linalg.inv(np.linalg.cholesky(within)).T
