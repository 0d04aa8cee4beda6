"""Embeddings of a few people in the plane, a colour for each: what a training's log shows epoch by epoch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_MOST_PEOPLE = 10
_DOTS_PER_INCH = 80


def shown_people(labels: np.ndarray) -> npt.NDArray[np.int64]:
    """Return the labels of the at most ten people with most photos, most first: [photos] int → [people] int64."""
    people, counts = np.unique(labels, return_counts=True)
    return np.asarray(people[np.argsort(-counts, kind="stable")][:_MOST_PEOPLE], np.int64)


def on_plane(embeddings: np.ndarray) -> npt.NDArray[np.float64]:
    """Return the first two principal components, [photos, dim] → [photos, 2]; zeros for what there is too little of."""
    from sklearn.decomposition import PCA

    found = PCA(min(2, *embeddings.shape), svd_solver="full").fit_transform(embeddings)
    return np.pad(np.asarray(found, np.float64), ((0, 0), (0, 2 - found.shape[1])))


def plane_image(embeddings: np.ndarray, labels: np.ndarray, *, title: str) -> npt.NDArray[np.uint8]:
    """Draw the embeddings of `shown_people` by their first two principal components, a colour for each person.

    Args:
        embeddings: [photos, width] float.
        labels: [photos] int, the person of each.

    Returns:
        [height, width, 3] uint8 RGB. Nobody is named: colours go by the number of photos.
    """
    import cv2

    from facetl.report.plots import PEOPLE, figure_png, new_axes, styled

    people = shown_people(labels)
    kept = np.isin(labels, people)
    places, persons = on_plane(embeddings[kept]), labels[kept]
    with styled():
        figure, axes = new_axes(5.6, 5.6)
        for person, colour in zip(people, PEOPLE, strict=False):
            own = places[persons == person]
            axes.scatter(own[:, 0], own[:, 1], s=26, color=colour, alpha=0.85, linewidths=0)
        axes.set(title=title, xlabel="First principal component", ylabel="Second principal component")
        axes.set_aspect("equal", adjustable="datalim")
    png = np.frombuffer(figure_png(figure, dpi=_DOTS_PER_INCH), np.uint8)
    decoded = cv2.imdecode(png, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[:, :, ::-1])
