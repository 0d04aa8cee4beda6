"""Embeddings in the plane: whose, where, in which colours, and nobody's name."""

from __future__ import annotations

import numpy as np

from facetl.report.plots import PEOPLE
from facetl.training.projection_plot import on_plane, plane_image, shown_people


def shows(image: np.ndarray, colour: str) -> bool:
    """Tell whether points of a colour are there, as it is on white at their opacity."""
    blended = 0.85 * np.frombuffer(bytes.fromhex(colour[1:]), np.uint8) + 0.15 * 255
    return bool((np.abs(image - blended).max(axis=2) < 2).any())


def test_those_with_most_photos_are_shown() -> None:
    labels = np.repeat([30, 7, 12, 5], [2, 4, 4, 1])
    assert shown_people(labels).tolist() == [7, 12, 30, 5]
    assert shown_people(np.repeat(np.arange(14), np.arange(14) + 1)).tolist() == list(range(13, 3, -1))


def test_the_plane_is_that_of_the_first_two_principal_components() -> None:
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(40, 6)) * np.array([5, 1, 0.3, 3, 0.2, 0.1]) + 7
    centred = embeddings - embeddings.mean(axis=0)
    axes = np.linalg.svd(centred)[2][:2]
    found = on_plane(embeddings)
    # An axis may point either way.
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ axes.T), atol=1e-9)
    np.testing.assert_array_equal(found, on_plane(embeddings))


def test_what_has_one_number_lies_on_a_line() -> None:
    places = on_plane(np.array([[4.0], [1.0], [7.0]]))
    np.testing.assert_allclose(places, [[0, 0], [-3, 0], [3, 0]])


def test_a_colour_for_each_of_at_most_ten_people() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(12), 6)
    centres = rng.normal(size=(12, 8))
    image = plane_image(centres[labels] + 0.05 * rng.normal(size=(72, 8)), labels, title="Epoch 3")
    assert (image.ndim, image.shape[2], image.dtype) == (3, 3, np.uint8)
    assert all(shows(image, colour) for colour in PEOPLE)
    three = plane_image(centres[labels[:18]], labels[:18], title="Epoch 3")
    assert [shows(three, colour) for colour in PEOPLE] == [True] * 3 + [False] * 7
