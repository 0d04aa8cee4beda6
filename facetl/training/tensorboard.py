"""TensorBoard: scalars, distance histograms, the graph, embeddings in the plane, the projector with face thumbnails."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from facetl._tensorflow import path_for_tensorflow
from facetl.io.files import write_atomic
from facetl.io.text import printable
from facetl.training.callbacks import VerifyPairs

# TensorBoard's projector takes a sprite of at most 8192 × 8192 pixels.
_SPRITE_SIDE = 8192
_THUMBNAIL = 64
_MOST_PEOPLE = 10
_DOTS_PER_INCH = 80
_NAMES = {
    "loss": "training/loss",
    "active": "training/active_triplets",
    "learning_rate": "training/learning_rate",
    "val_loss": "validation/loss",
    "val_accuracy": "validation/accuracy",
    "val_auc": "validation/auc",
    "spread": "validation/embedding_spread",
}


class TensorBoardLog(keras.callbacks.Callback):
    """Writes each epoch's logs, the validation pairs' distances, and once the head's graph.

    With `plotted`, the person of each validation photo ([photos] int), also an image: the embeddings of the few who
    have most photos, in the plane. It names nobody.
    """

    def __init__(self, folder: Path, validate: VerifyPairs, *, plotted: np.ndarray | None = None) -> None:
        super().__init__()
        self.folder = folder
        self.validate = validate
        self.plotted = plotted
        self.writer: Any = None
        self._open = ExitStack()

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Open the event file."""
        # The writer looks for its file now and then.
        self.writer = tf.summary.create_file_writer(self._open.enter_context(path_for_tensorflow(self.folder)))

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write the epoch under its number, counted from 1."""
        distances, same = self.validate.distances, self.validate.pairs.same
        with self.writer.as_default(step=epoch + 1):
            for name, tag in _NAMES.items():
                if name in (logs or {}):
                    tf.summary.scalar(tag, logs[name])  # type: ignore[index]
            tf.summary.histogram("distance/same_person", distances[same])
            tf.summary.histogram("distance/different_people", distances[~same])
            if self.plotted is not None:
                image = plane_image(self.validate.embeddings, self.plotted, title=f"Epoch {epoch + 1}")
                tf.summary.image("validation/embeddings", image[None])
            if epoch == 0:
                self._graph()
        self.writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Close the event file."""
        self.writer.close()
        self._open.close()

    def _graph(self) -> None:
        head = self.model.head
        signature = tf.TensorSpec(head.input_shape, tf.float32)
        tf.summary.graph(tf.function(lambda features: head(features)).get_concrete_function(signature).graph)


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
    from facetl.report.plots import PEOPLE, figure_png, new_axes

    people = shown_people(labels)
    kept = np.isin(labels, people)
    places, persons = on_plane(embeddings[kept]), labels[kept]
    with new_axes(5.6, 5.6) as (figure, axes):
        for person, colour in zip(people, PEOPLE, strict=False):
            own = places[persons == person]
            axes.scatter(own[:, 0], own[:, 1], s=26, color=colour, alpha=0.85, linewidths=0)
        axes.set(title=title, xlabel="First principal component", ylabel="Second principal component")
        axes.set_aspect("equal", adjustable="datalim")
    png = np.frombuffer(figure_png(figure, dpi=_DOTS_PER_INCH), np.uint8)
    decoded = cv2.imdecode(png, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.ascontiguousarray(decoded[:, :, ::-1])


def write_projector(
    folder: Path, embeddings: np.ndarray, names: Sequence[str], thumbnails: Sequence[np.ndarray]
) -> None:
    """Write embeddings [n, dim] with names and thumbnails ([64, 64, 3] uint8 RGB each) for the projector tab.

    The files hold biometric data and are readable by their owner alone. More photos than a sprite can hold are
    left out, the last ones first.
    """
    side = min(int(np.ceil(np.sqrt(len(embeddings)))), _SPRITE_SIDE // _THUMBNAIL)
    count = min(len(embeddings), side * side)
    sprite = np.zeros((side * _THUMBNAIL, side * _THUMBNAIL, 3), np.uint8)
    for place, image in enumerate(thumbnails[:count]):
        top, left = (part * _THUMBNAIL for part in divmod(place, side))
        sprite[top : top + _THUMBNAIL, left : left + _THUMBNAIL] = image
    _, png = cv2.imencode(".png", sprite[:, :, ::-1])
    rows = "\n".join("\t".join(f"{x:.5f}" for x in row) for row in embeddings[:count])
    write_atomic(folder / "embeddings.tsv", rows.encode())
    # A tab or a line break in a folder's name would shift the table.
    table = "\n".join(printable(name).strip() or "-" for name in names[:count])
    write_atomic(folder / "names.tsv", table.encode())
    write_atomic(folder / "sprite.png", png.tobytes())
    write_atomic(
        folder / "projector_config.pbtxt",
        'embeddings {\n  tensor_name: "held-out people"\n  tensor_path: "embeddings.tsv"\n'
        '  metadata_path: "names.tsv"\n  sprite {\n    image_path: "sprite.png"\n'
        f"    single_image_dim: {_THUMBNAIL}\n    single_image_dim: {_THUMBNAIL}\n  }}\n}}\n".encode(),
    )
