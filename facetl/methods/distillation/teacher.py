"""The teacher of a distillation: who is on its photos, on which side, and what it makes of them, from the cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from facetl.backbones.backbone import Backbone
from facetl.backbones.extractor import make_extractor
from facetl.backbones.photo_net import FeatureMap
from facetl.backbones.spec import ExtractorSpec
from facetl.data.layouts import read_layout
from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection
from facetl.errors import RunError
from facetl.io.arrays import Rows, RowView, take_columns
from facetl.metrics.baselines import Raw
from facetl.recognition.photo_embeddings import embed_manifest
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder
from facetl.training.head import embed, join
from facetl.training.model_selection import raw_head
from facetl.training.whitening import Whitening

Progress = Callable[[int, int], None] | None
# A longer feature is brought down to the principal components of the training photos.
_LONGEST, _COMPONENTS = 512, 128


@dataclass(frozen=True)
class Teacher:
    """The teacher of a student: photos, embeddings and maps to learn from.

    Attributes:
        name: of the run, or of the extractor.
        description: what it is, a phrase.
        recognizer: the teacher itself, for photos that a student is compared on.
        manifest: the photos, each on a side; the training side also holds those of people that the run did not know.
        embeddings: [photos, width] float32 unit vectors, in the manifest's order.
        features: [photos, dim] float16, what they were made of, in the same order, read from the cache.
        layout: of which maps a feature is made.
        computed: of how many photos the features were not in the cache.
    """

    name: str
    description: str
    recognizer: Recognizer
    manifest: Manifest
    embeddings: np.ndarray
    features: RowView
    layout: FeatureMap
    computed: int

    @property
    def spec(self) -> ExtractorSpec:
        """The part of a photo that it sees."""
        return self.recognizer.backbone.spec

    @property
    def crop(self) -> float:
        """The widest of its crops: what of a photo its student sees."""
        return max(self.spec.crops)

    @property
    def maps(self) -> FeatureMap:
        """The maps that it sees of that crop."""
        each = len(self.layout.maps) // len(self.spec.crops)
        first = each * self.spec.crops.index(self.crop)
        return FeatureMap(self.layout.maps[first : first + each])

    def of(self, manifest: Manifest) -> np.ndarray:
        """Return the embeddings of some of the photos, by their paths."""
        return self.embeddings[self.manifest.rows_of(manifest.paths)]

    def maps_of(self, manifest: Manifest) -> Rows:
        """Return `maps` of some of the photos, by their paths: [photos, maps.dim] float16, read when indexed."""
        start = self.maps.dim * self.spec.crops.index(self.crop)
        rows = self.features.subset(self.manifest.rows_of(manifest.paths))
        return take_columns(rows, slice(start, start + self.maps.dim))

    @classmethod
    def of_run(
        cls,
        folder: Path,
        *,
        cache: Path,
        images: Path | None = None,
        validation: float = 0.2,
        test: float = 0.2,
        seed: int = 0,
        on_progress: Progress = None,
    ) -> Teacher:
        """Load a run and embed its photos with the features of the cache; only what is missing there is computed.

        Args:
            folder: the run's folder.
            images: the photos, a folder per person; by default those that the run was trained on.
            validation, test, seed: how people are split where the run knows nobody, as one of a face net as its
                authors left it. Otherwise people stay on the run's sides, and others are for training only.

        Raises RunError for no run, one without photos, or one that does not say who its test people are; DataError.
        """
        recognizer, run = Recognizer.load(folder), RunFolder(folder)
        if images is None:
            config = run.training_config()
            images, layout = Path(config["data"]), str(config.get("layout", "folders"))
        else:
            layout = "folders"
        found = embed_manifest(recognizer, read_layout(images, layout), cache=cache, on_progress=on_progress)
        collection = Collection.of(found, recognizer.backbone.spec, recognizer.backbone.weights)
        manifest = _on_sides(collection.manifest, run, validation=validation, test=test, seed=seed)
        return cls(
            name=run.name,
            description=f"the run {run.name}",
            recognizer=recognizer,
            manifest=manifest,
            embeddings=found.embeddings[found.manifest.rows_of(manifest.paths)],
            features=collection.features,
            layout=collection.layout,
            computed=found.report.computed,
        )

    @classmethod
    def of_extractor(
        cls,
        spec: ExtractorSpec,
        images: Path,
        *,
        cache: Path,
        weights: Path | None = None,
        validation: float = 0.2,
        test: float = 0.2,
        seed: int = 0,
        on_progress: Progress = None,
        on_faces: Progress = None,
        notify: Callable[[str], None] = lambda line: None,
    ) -> Teacher:
        """Take an extractor's features at unit length; long ones as the principal components of training photos.

        Raises DataError, WeightsError, CacheError.
        """
        collection = dataset.embed(
            read_layout(images, "auto"),
            Backbone.from_spec(spec, weights, on_notice=notify),
            cache=cache,
            on_progress=on_progress,
            on_faces=on_faces,
        ).split_for_training(seed=seed, validation=validation, test=test)
        head = _head_of_features(collection, seed)
        extractor = make_extractor(spec, collection.weights)
        return cls(
            name=spec.name,
            description=f"the features of {spec.name}",
            recognizer=Recognizer(extractor, head, threshold=0.0),
            manifest=collection.manifest,
            embeddings=embed(head, collection.features),
            features=collection.features,
            layout=collection.layout,
            computed=collection.report.computed,
        )


def is_run(run: str, models: Path) -> bool:
    """Return whether a name means a run, by its folder or below `models`."""
    return any(RunFolder(folder).is_run for folder in (Path(run).expanduser(), models / run))


def _on_sides(manifest: Manifest, run: RunFolder, *, validation: float, test: float, seed: int) -> Manifest:
    known = run.people_of("who its test people are")
    if not any(known.values()):
        return manifest.split_for_training(seed=seed, validation=validation, test=test)
    photos = run.on_sides(manifest).photos
    split = dataclasses.replace(
        manifest, photos=tuple(dataclasses.replace(photo, split=photo.split or "train") for photo in photos)
    )
    if not known["test"]:
        raise RunError(
            f"{run.path}: a student is compared with its teacher on test people, and this run has none. Train it on "
            "6 people with 2 photos each or more, or on 2 with 6 photos each."
        )
    missing = [side for side in SIDES if not len(split.subset(side))]
    if missing:
        raise RunError(
            f"{manifest.root}: expected photos of the run's {', '.join(missing)} people, found none. Name their folder "
            "by --images."
        )
    return split


def _head_of_features(collection: Collection, seed: int) -> keras.Model:
    features, labels, _ = collection.side("train")
    dim = features.shape[1]
    if dim <= _LONGEST:
        return raw_head(Raw().fit(features))
    front = Whitening.fit(features, labels, method="whiten", components=_COMPONENTS, seed=seed).model(dim)
    reduced = keras.Input(front.output_shape[1:])
    return join(front, keras.Model(reduced, keras.layers.UnitNormalization(name="unit")(reduced)))
