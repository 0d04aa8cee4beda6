"""Knowledge distillation: a small net that gives its teacher's embeddings, from photos to a run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from facetl.backbones.spec import AVERAGE, ExtractorSpec, Weights
from facetl.data.manifest import Manifest
from facetl.embeddings.dataset import Collection
from facetl.embeddings.fill import photo_features
from facetl.images.resize import prepare
from facetl.methods.distillation.distillation_settings import DistillationSettings
from facetl.methods.distillation.hints import Hints, centred, imitate, viewed, with_discriminant
from facetl.methods.distillation.student import (
    Lesson,
    OnEpoch,
    Trunk,
    build_student_trunk,
    fit_projection,
    fit_student,
    flattened,
    project,
)
from facetl.methods.distillation.teacher import Teacher
from facetl.methods.scratch.crops import Crops
from facetl.methods.scratch.scratch_training import FittedNet
from facetl.recognition.run_folder import RunFolder
from facetl.runs.training_run import RunReport, Sight, TrainedNet, write_net_run

Notify = Callable[[str], None]
_EXPLAINED = "In the tables, `teacher` is what it was taught by, on the same photos and at a threshold of its own."


def distill(
    teacher: Teacher,
    settings: DistillationSettings,
    folder: Path,
    *,
    cache: Path,
    notify: Notify = lambda line: None,
    on_epoch: OnEpoch = lambda epoch, logs: None,
    on_progress: Callable[[int, int], None] | None = None,
    on_faces: Callable[[int, int], None] | None = None,
) -> RunReport:
    """Teach a student on the training photos, choose its epoch by validation people, and write its run folder.

    The teacher's test people are in no batch and choose nothing; the student is measured on them as it was saved. An
    interrupted distillation leaves nothing but rows of the cache. `notify` receives what the user should know.

    Raises TrainingError, CollapseError, WeightsError, DataError, RunError where the folder holds something else.
    """
    # There is nothing to resume: Ctrl-C and failures leave no half run.
    with RunFolder.new(folder) as partial:
        trunk = build_student_trunk(settings, notify=notify)
        sight = Sight(
            cache=cache,
            align=teacher.spec.align,
            crop=teacher.crop,
            mirror=teacher.spec.mirror,
            on_progress=on_progress,
            on_faces=on_faces,
        )
        training = _StudentTraining(teacher, settings, sight, partial.path / "logs", on_epoch, notify)
        fitted, manifest = training.frozen(trunk) if settings.frozen else training.whole(trunk)
        trained = TrainedNet(
            net=fitted.net,
            settings={**settings.to_json(), "teacher": teacher.name, "align": sight.align, "crop": sight.crop},
            history=fitted.history,
            best_epoch=fitted.best_epoch,
            seconds=fitted.seconds,
            origin=f"{trunk.origin}, taught by {teacher.description}"
            + (" (a projection of the frozen net)" if settings.frozen else ""),
            limits=(
                "It knows what its teacher knows of the training people's faces, and no more; the teacher's model card "
                "says where that came from.",
                _EXPLAINED,
            ),
        )
        return write_net_run(folder, trained, manifest, sight, baselines={"teacher": teacher.of}, partial=partial)


@dataclass(frozen=True)
class _StudentTraining:
    """The lessons of one student; its methods give the trained student and the photos that were used."""

    teacher: Teacher
    settings: DistillationSettings
    sight: Sight
    logs: Path
    on_epoch: OnEpoch
    notify: Notify

    def frozen(self, trunk: Trunk) -> tuple[FittedNet, Manifest]:
        """Teach a projection of a trunk's cached features."""
        net = flattened(trunk)
        collection = trunk_features(net, trunk.sha256, self.teacher.manifest, self.sight)

        def lesson(side: str) -> Lesson:
            features, labels, manifest = collection.side(side)
            return Lesson(features, labels, self.teacher.of(manifest))

        train, validation = lesson("train"), lesson("validation")
        fitted = fit_projection(net, train, validation, self.settings, logs=self.logs, on_epoch=self.on_epoch)
        return fitted, collection.manifest

    def whole(self, trunk: Trunk) -> tuple[FittedNet, Manifest]:
        """Teach all of a net on crops: maps first, where the teacher has some, then embeddings."""
        crops = Crops.open(self.teacher.manifest, self.sight, side=self.settings.size)
        began, hinted = time.monotonic(), self._hinted()
        if hinted:
            net = self._imitator(trunk, crops)
        else:
            net = project(trunk, self._width, dropout=self.settings.dropout, seed=self.settings.seed)
        train, validation = (
            Lesson(*crops.side(side), self.teacher.of(crops.manifest.subset(side))) for side in ("train", "validation")
        )
        fitted = fit_student(net, train, validation, self.settings, logs=self.logs, on_epoch=self.on_epoch)
        if hinted:
            net = centred(fitted.net, crops.side("train")[0])
            fitted = replace(fitted, net=net, seconds=time.monotonic() - began)
        return fitted, crops.manifest

    @property
    def _width(self) -> int:
        return int(self.teacher.embeddings.shape[1])

    def _hinted(self) -> bool:
        if not self.settings.hint_epochs:
            return False
        if all(grid == 1 for grid, _ in self.teacher.maps.maps):
            self.notify("hints: the teacher's features are no maps; the student learns its embeddings alone")
            return False
        return True

    def _imitator(self, trunk: Trunk, crops: Crops) -> keras.Model:
        """Return the student as the teacher's maps leave it, before it has looked at an embedding."""
        view, own = viewed(trunk.model, self.teacher.maps)
        train, validation = (
            Hints(*crops.side(side), self.teacher.maps_of(crops.manifest.subset(side)))
            for side in ("train", "validation")
        )

        def on_hint_epoch(epoch: int, logs: dict[str, float]) -> None:
            self.notify(
                f"hints, epoch {epoch + 1} of {self.settings.hint_epochs}: {logs['explained']:.3f} of the variance of "
                f"the teacher's maps, {logs['val_explained']:.3f} on validation people"
            )

        mirror = self.sight.mirror
        imitate(view, own, self.teacher.maps, train, validation, self.settings, mirror=mirror, on_epoch=on_hint_epoch)
        return with_discriminant(
            view, own, train, self._width, mirror=mirror, dropout=self.settings.dropout, seed=self.settings.seed
        )


def trunk_features(net: keras.Model, sha256: str, manifest: Manifest, sight: Sight) -> Collection:
    """Return photos with the features of a frozen trunk, computed where the cache does not have them.

    net: photos [n, side, side, 3] → [n, dim]; sha256: of its weights. Raises DataError, CacheError.
    """
    side = net.input_shape[1]
    spec = ExtractorSpec(
        name=f"trunk{side}", tap=AVERAGE, grid=1, crops=(sight.crop,), align=sight.align, mirror=sight.mirror
    )
    weights = Weights("file", sha256, Path("trunk"))
    every = photo_features(
        manifest,
        spec,
        weights,
        make_net=lambda view: TrunkNet(net, view, weights),
        cache=sight.cache,
        on_progress=sight.on_progress,
        on_faces=sight.on_faces,
    )
    return Collection.of(every, spec, weights)


class TrunkNet:
    """The extractor whose feature is a frozen trunk's output, the mean over the photo and its mirror image."""

    flagged: ClassVar[Mapping[str, int]] = {}

    def __init__(self, net: keras.Model, spec: ExtractorSpec, weights: Weights) -> None:
        self.spec = spec
        self.weights = weights
        self.dim = net.output_shape[-1]
        self._net = net
        self._prepare = tf.function(self._prepared, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
        self._forward = tf.function(lambda pixels: net(pixels, training=False), reduce_retracing=True)

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Return the features of photos of any sizes: [height, width, 3] uint8 RGB each → [n, dim] float32."""
        if not images:
            return np.zeros((0, self.dim), np.float32)
        pixels = tf.stack([self._prepare(image) for image in images])
        features = self._forward(pixels)
        if self.spec.mirror:
            features = (features + self._forward(tf.reverse(pixels, axis=[2]))) / 2
        return np.asarray(features)

    def _prepared(self, image: Any) -> Any:
        return prepare(image, size=self._net.input_shape[1], crop=self.spec.crops[0])
