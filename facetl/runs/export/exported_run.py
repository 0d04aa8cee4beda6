"""Hands a run over as one file or folder, and compares what was written with the run before it takes its place."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from facetl._tensorflow import path_for_tensorflow
from facetl.data.layouts import read_layout
from facetl.data.manifest import Manifest
from facetl.errors import DataError, RunError
from facetl.io.files import PARTIAL
from facetl.io.json import JsonFields
from facetl.metrics.linalg import normalised
from facetl.metrics.pairs import sample_pairs
from facetl.metrics.roc import accuracy_at
from facetl.metrics.verification import pair_distances
from facetl.recognition.recognizer import Recognizer, save_model
from facetl.recognition.run_folder import RunFolder
from facetl.runs.export.file_formats import (
    QUANTISATIONS,
    Faces,
    LiteRTNet,
    OnnxNet,
    Progress,
    fixed_input,
    keras_model,
    layers_of_facetl,
    litert_model,
    onnx_model,
)
from facetl.training.head import embed


@dataclass(frozen=True)
class Parity(JsonFields):
    """The difference between a copy's embeddings and the original's.

    Attributes:
        photos: compared.
        max_difference: the largest of any number of any embedding.
        mean_cosine: between a photo's two embeddings.
        pairs: of labelled photos that accuracy was measured on; 0 where there are too few people.
        accuracy, accuracy_original: of verifying them at the run's threshold, by the copy and by the original.
    """

    photos: int
    max_difference: float
    mean_cosine: float
    pairs: int
    accuracy: float | None
    accuracy_original: float | None

    @property
    def accuracy_change(self) -> float | None:
        """Accuracy of the copy less that of the original; None where nobody is labelled."""
        if self.accuracy is None or self.accuracy_original is None:
            return None
        return self.accuracy - self.accuracy_original

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types, and `accuracy_change`."""
        return super().to_json() | {"accuracy_change": self.accuracy_change}


def compare(original: np.ndarray, copy: np.ndarray, labels: np.ndarray, *, threshold: float, seed: int = 0) -> Parity:
    """Compare unit embeddings of the same photos, [photos, width] float twice, and who is on them, [photos] int.

    threshold: the run's squared distance, the same for both, since users of the copy have no other.
    """
    counts = np.unique(labels, return_counts=True)[1]
    accuracies: list[float | None] = [None, None]
    pairs = 0
    if len(counts) >= 2 and counts.max() >= 2:
        drawn = sample_pairs(labels, seed=seed)
        pairs = len(drawn.same)
        accuracies = [
            accuracy_at(pair_distances(embeddings, drawn), drawn.same, threshold) for embeddings in (copy, original)
        ]
    lengths = np.linalg.norm(original, axis=1) * np.linalg.norm(copy, axis=1)
    cosines = np.sum(original * copy, axis=1) / np.maximum(lengths, 1e-12)
    return Parity(
        photos=len(labels),
        max_difference=float(np.max(np.abs(original - copy))),
        mean_cosine=float(np.mean(cosines)),
        pairs=pairs,
        accuracy=accuracies[0],
        accuracy_original=accuracies[1],
    )


FORMATS = ("saved_model", "keras", "litert", "onnx")


@dataclass(frozen=True)
class Exported(JsonFields):
    """A run in another form.

    Attributes:
        path: where it lies, and `bytes` how large it is, of a folder all files together.
        takes: what it is fed with, a sentence.
        needs: classes of layers that only facetl has; empty where TensorFlow or Keras alone loads it.
        parity: against the run itself; None where there were no photos to compare on.
    """

    path: Path
    format: str
    quantise: str
    bytes: int
    takes: str
    needs: tuple[str, ...]
    parity: Parity | None


def export(
    recognizer: Recognizer,
    out: Path,
    *,
    form: str,
    quantise: str = "none",
    faces: Faces | None = None,
    representative: Faces | None = None,
) -> Exported:
    """Write a run in a format, compare it with the run on `faces`, and put it in its place.

    Args:
        out: a file, of a SavedModel a folder; replaced where one of that kind is there.
        form: one of FORMATS; `quantise` one of QUANTISATIONS, for litert alone.
        representative: with int8, photos of training people whose activations set the scales.

    Raises RunError where the run has no such form, or something else lies at `out`.
    """
    _check(form, quantise, out)
    extractor = recognizer.backbone
    out.parent.mkdir(parents=True, exist_ok=True)
    needs: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=PARTIAL) as room:
        written = Path(room) / (f"{out.name}.keras" if form == "keras" else out.name)
        if form == "saved_model":
            save_model(extractor, recognizer.head, written)
            of_photos = extractor.spec.family.in_tensorflow
            takes = (
                "serve: images [n, height, width, 3] float32 RGB in 0–255, serve_uint8 the same as bytes, "
                f"{'the face aligned' if extractor.spec.align != 'none' else 'as they are'}; head: features"
                if of_photos
                else f"head: features [n, {extractor.dim}]"
            )
        else:
            side, crop = fixed_input(extractor)
            takes = _of_crops(side, crop, extractor.spec.align, many=form != "litert")
            if form == "keras":
                model = keras_model(recognizer)
                needs = tuple(layers_of_facetl(model))
                model.save(written)
            elif form == "onnx":
                written.write_bytes(onnx_model(recognizer))
            else:
                shown = None if representative is None else representative.pixels(side, crop)
                written.write_bytes(litert_model(recognizer, quantise=quantise, representative=shown))
        parity = None if faces is None else _parity(recognizer, written, form, faces)
        size = size_of(written)
        # A file of a temporary room is its owner's alone; a model holds nobody's embedding.
        if written.is_file():
            written.chmod(0o644)
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(written, out)
    return Exported(out, form, quantise, size, takes, needs, parity)


def run_faces(
    folder: Path,
    recognizer: Recognizer,
    side: str,
    *,
    most: int,
    cache: Path,
    images: Path | None = None,
    on_progress: Progress = None,
) -> Faces:
    """Return photos of a run's people of one side, those with two or more first, all of a person together.

    images: another folder, of whom everyone is taken. Raises DataError where there are none, RunError for a run that
    does not say who its people are.
    """
    if images is not None:
        manifest = read_layout(images, "auto")
    else:
        run = RunFolder(folder)
        config, known = run.training_config(), run.people()
        root = Path(config["data"])
        if known is None or not os.path.isdir(root):
            raise DataError(
                f"{folder}: the run's photos are needed, and {root} is gone or its people are not known. Name a folder "
                f"of photos by {'--representative' if side == 'train' else '--images'}."
            )
        manifest = read_layout(root, str(config.get("layout", "folders")))
        manifest = run.on_sides(manifest).subset(side)
    return Faces.of(first_people(manifest, most), recognizer.backbone.spec.align, cache=cache, on_progress=on_progress)


def first_people(manifest: Manifest, most: int) -> Manifest:
    """Keep at most so many photos, whole people with two photos or more first; DataError where there is none."""
    counts = manifest.counts()
    # Two photos of each make the most pairs of different people; the third of one person adds little.
    seen: dict[str, int] = {}
    ranked = []
    for row, photo in enumerate(manifest.photos):
        seen[photo.identity] = seen.get(photo.identity, 0) + 1
        ranked.append((seen[photo.identity] > 2, counts[photo.identity] < 2, row))
    rows = sorted(row for _, _, row in sorted(ranked)[:most])
    if not rows:
        raise DataError(f"{manifest.root}: expected photos to compare on, found none.")
    return manifest.select(rows)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_file():
        return path.stat().st_size
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())


def _check(form: str, quantise: str, out: Path) -> None:
    if form not in FORMATS:
        raise RunError(f"--format: expected {', '.join(FORMATS)}, got {form!r}.")
    if quantise not in QUANTISATIONS or (quantise != "none" and form != "litert"):
        raise RunError(f"--quantise: expected {', '.join(QUANTISATIONS)}, with --format litert, got {quantise!r}.")
    if form == "keras" and out.suffix != ".keras":
        raise RunError(f"--out: Keras loads files that end in .keras, got {out.name}.")
    if form == "saved_model":
        if out.exists() and not (out / "saved_model.pb").is_file() and not (out.is_dir() and not any(out.iterdir())):
            raise RunError(f"--out: {out} holds something else than a SavedModel. Choose another name.")
    elif out.is_dir():
        raise RunError(f"--out: expected a file to write, got the folder {out}.")


def _of_crops(side: int, crop: float, align: str, *, many: bool) -> str:
    what = "the whole photo" if crop == 1 else f"the central square, {crop:g} of the shorter side,"
    if align != "none":
        what += " of the aligned face"
    return f"photos [{'n' if many else 1}, {side}, {side}, 3] float32 RGB in 0–255: {what}, resized to {side}×{side}"


def _parity(recognizer: Recognizer, written: Path, form: str, faces: Faces) -> Parity:
    original = embed(recognizer.head, recognizer.backbone.extract(faces.images))
    copy = normalised(_embedded(recognizer, written, form, faces, original.shape[1]))
    if not np.isfinite(copy).all():
        raise RunError(f"--format {form}: what was written gives no numbers. Use another format or --quantise none.")
    return compare(original, copy, faces.labels, threshold=recognizer.threshold)


def _embedded(recognizer: Recognizer, written: Path, form: str, faces: Faces, width: int) -> np.ndarray:
    extractor = recognizer.backbone
    if form == "saved_model":
        with path_for_tensorflow(written) as path:
            signatures: Any = tf.saved_model.load(path).signatures
        if "serve" not in signatures:
            features = extractor.extract(faces.images)
            return np.asarray(signatures["head"](features=tf.constant(features))["embeddings"])
        rows = [signatures["serve_uint8"](images=tf.constant(image[None]))["embeddings"][0] for image in faces.images]
        return np.array(rows).reshape(-1, width)
    pixels = faces.pixels(*fixed_input(extractor))
    if form == "litert":
        return LiteRTNet(written)(pixels)
    if form == "onnx":
        return OnnxNet(written)(pixels)
    return embed(keras.models.load_model(written, compile=False), pixels)
