"""The people a run knows and the new ones: rows, names and sides of both, without photos that the run has seen."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.backbones.backbone import Backbone
from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES, side
from facetl.embeddings import dataset
from facetl.embeddings.dataset import Collection
from facetl.errors import DataError, PhotoError, RunError
from facetl.faces.alignment import CroppedSpec
from facetl.faces.detection import detect_all
from facetl.faces.detectors import choose
from facetl.images.decode import read_photo
from facetl.io.arrays import RowView, concat_rows
from facetl.io.files import digests
from facetl.io.json import JsonFields
from facetl.metrics.linalg import Float32s
from facetl.recognition.embedded_face import EmbeddedFace, own_detector
from facetl.recognition.recognizer import Recognizer
from facetl.recognition.run_folder import RunFolder, SplitPeople
from facetl.runs.recalibration import run_collection
from facetl.training.head import embed

Progress = Callable[[int, int], None]
Notify = Callable[[str], None]

_HELD_OUT_FROM = 3  # photos of a person from which some are held out: two are left to make a pair


@dataclass(frozen=True, eq=False)
class People:
    """Rows of people, [photos, dim] float as a head's front gives them, and their names, str [photos]."""

    rows: np.ndarray
    names: np.ndarray

    def joined(self, others: People) -> People:
        """Return these and others."""
        return People(np.concatenate([self.rows, others.rows]), np.concatenate([self.names, others.names]))

    def of(self, which: np.ndarray) -> People:
        """Return some of them, by a mask or by integers."""
        return People(self.rows[which], self.names[which])

    @property
    def float32(self) -> Float32s:
        """The rows, as every computation takes them."""
        return np.asarray(self.rows, np.float32)

    @property
    def labels(self) -> np.ndarray:
        """The person of each row as a number, int64 [photos], people sorted."""
        return np.unique(self.names, return_inverse=True)[1]


@dataclass(frozen=True, eq=False)
class Known:
    """The people and photos that a run was made of, and has taken up since.

    Attributes:
        config: the run's.
        sides: side → people.
        collections: their photos, the training's first; photos of people on no side are left out.
    """

    config: dict[str, Any]
    sides: SplitPeople
    collections: tuple[Collection, ...]

    @classmethod
    def of(
        cls,
        folder: Path,
        *,
        cache: Path,
        data: Path | None = None,
        on_progress: Progress | None = None,
        notify: Notify = lambda line: None,
    ) -> Known:
        """Open the photos of a run, from `data` where they have moved, and of its updates, where they still lie.

        Raises as `facetl.runs.recalibration.recalibrate` where they are gone.
        """
        run = RunFolder(folder)
        config, people = run.training_config(), run.people_of("whom it was trained on")
        if run.held_out_photos() is not None:
            raise RunError(
                f"{folder}: an update measures on people who were held out, and this run, of few people, held out "
                "photos of those it was trained on. Name new people by facetl enroll, or train again on 6 people or "
                "more."
            )
        if not people["test"]:
            raise RunError(
                f"{folder}: an update measures on test people, and this run has none. Name new people by facetl "
                "enroll, or train again on 6 people or more."
            )
        roots = [data, *(Path(one["data"]) for one in config.get("updates", ()))]
        everyone = frozenset[str]().union(*people.values())
        opened = []
        for place, root in enumerate(roots):
            if place and not (root is not None and os.path.isdir(root)):
                notify(f"warning: the photos of an earlier update are gone from {root}; it is measured without them")
                continue
            # Photos of an update lie in a folder per person, whatever the layout of the training's.
            read = config if not place else {**config, "layout": "folders"}
            collection = run_collection(run, read, cache=cache, data=root, on_progress=on_progress, notify=notify)
            rows = np.flatnonzero([photo.identity in everyone for photo in collection.manifest.photos])
            opened.append(_subset(collection, rows))
        return cls(config, people, tuple(opened))

    def features(self, which: str) -> tuple[RowView, NDArray[np.str_]]:
        """Return the features of everybody on a side, and who is on each photo; DataError where nobody has one."""
        people, parts, names = sorted(self.sides[which]), [], np.zeros(0, np.str_)
        for collection in self.collections:
            own = np.array([photo.identity for photo in collection.manifest.photos], np.str_)
            rows = np.flatnonzero(np.isin(own, people))
            parts.append(collection.features.subset(rows))
            names = np.concatenate([names, own[rows]])
        if not len(names):
            raise DataError(
                f"{self.collections[0].manifest.root}: expected photos of the run's {which} people, got none. Restore "
                "them, or name their folder by --data."
            )
        return concat_rows(parts), names

    def contents(self) -> frozenset[str]:
        """Return the sha256 of every photo."""
        paths = [path for collection in self.collections for path in collection.manifest.paths]
        return frozenset(one for one in digests(paths) if one is not None)


@dataclass(frozen=True)
class Enrolment(JsonFields):
    """The result of enrolling: `people` and `faces` that are new, and how many `known` the gallery had already.

    `total` people can be named now. `skipped` counts photos by the reason why they could not be enrolled.
    """

    people: int
    faces: int
    known: int
    total: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, eq=False)
class NewPeople:
    """People who are new to a run.

    Attributes:
        collection: their photos that the run has not seen; a photo that stands under several people is nobody's.
        contents: sha256 of each.
        sides: side → people; people that the run knows stay on their side.
        seen: how many photos were left out, the run having seen them.
    """

    collection: Collection
    contents: tuple[str, ...]
    sides: SplitPeople
    seen: int

    @classmethod
    def of(
        cls,
        photos: Path,
        known: Known,
        recognizer: Recognizer,
        *,
        cache: Path,
        on_progress: Progress | None = None,
        notify: Notify = lambda line: None,
    ) -> NewPeople:
        """Open photos in a folder per person with the features of a run's extractor.

        New people are put on the run's sides by its seed, in the shares that its people have. Raises DataError where
        no photo is new.
        """
        spec, weights = recognizer.backbone.spec, recognizer.backbone.weights
        collection = dataset.embed(
            Manifest.from_folder(photos),
            Backbone.from_spec(spec, weights.path if spec.family.takes_weights else None, on_notice=notify),
            cache=cache,
            on_progress=on_progress,
        )
        shas = np.array(digests(list(collection.manifest.paths)), object)
        before = known.contents()
        new = np.flatnonzero([sha is not None and sha not in before for sha in shas])
        if not len(new):
            raise DataError(
                f"{photos}: expected photos that are new to the run, got {len(shas):,} that it has seen. Add photos."
            )
        fresh = _subset(collection, new)
        return cls(fresh, tuple(shas[new].tolist()), _sides_of(fresh.manifest, known), len(shas) - len(new))

    @property
    def names(self) -> NDArray[np.str_]:
        """The person on each photo."""
        return np.array([photo.identity for photo in self.collection.manifest.photos], np.str_)

    def some(self, which: NDArray[np.bool_], model: keras.Model) -> People:
        """Return what a model, a head or its front, makes of some photos, perhaps of none."""
        rows = np.flatnonzero(which)
        return People(embed(model, self.collection.features.subset(rows)), self.names[rows])

    def on_side(self, which: str) -> NDArray[np.bool_]:
        """Return which photos are of people on a side, bool [photos]."""
        return np.isin(self.names, sorted(self.sides[which]))

    def enrol(self, folder: Path, head: keras.Model, *, digest: str, cache: Path) -> Enrolment:
        """Put the photos, one person each, into the gallery of a run: all, or none where it cannot be written.

        A person's mean in the gallery is what a face is compared with (nearest class mean; Rebuffi et al., CVPR 2017),
        so that nothing needs to be trained. A person is enrolled under the name of their folder.

        Args:
            head: what embeds the photos.
            digest: of the head; see `RunFolder.head_digest`.
            cache: where faces that were found are kept.

        Raises RunError for a gallery of another head, or one that is being changed; DataError for a folder's name that
        cannot be a person's.
        """
        manifest, embeddings = self.collection.manifest, embed(head, self.collection.features)
        skipped = Counter[str]()
        faces: dict[str, list[tuple[str, EmbeddedFace]]] = defaultdict(list)
        detector, looked_for = own_detector(self.collection.spec), None
        if not isinstance(detector, CroppedSpec):
            shas = dict(zip(manifest.paths, self.contents, strict=True))
            looked_for = detect_all(shas, cache_folder=cache, detector=detector, decode=read_photo).faces
        for photo, sha, row in zip(manifest.photos, self.contents, embeddings, strict=True):
            try:
                image = read_photo(photo.path)
            except PhotoError as error:
                skipped[error.reason] += 1
                continue
            # A photo that is cropped to its face is the face: nothing is to be looked for, nothing to be kept of it.
            seen = detector.make().detect([image])[0] if looked_for is None else looked_for.get(sha, ())
            face = choose(list(seen), image.shape)
            if face is None:
                skipped["no-face"] += 1
            else:
                faces[photo.identity].append((sha, EmbeddedFace(face, row, None)))
        run = RunFolder(folder)
        with run.changing_gallery(head=digest):
            gallery = run.gallery()
            before, new, known = gallery.counts(), 0, 0
            for name, own in sorted(faces.items()):
                gallery, enrolled = gallery.with_faces(name, own)
                new += enrolled.faces
                known += enrolled.known
            run.write_gallery(gallery)
        after = gallery.counts()
        return Enrolment(len(set(after) - set(before)), new, known, len(after), dict(skipped))


def _sides_of(manifest: Manifest, known: Known) -> SplitPeople:
    counts = {which: len(known.sides[which]) for which in SIDES}
    shares = {which: count / max(sum(counts.values()), 1) for which, count in counts.items()}
    of = {name: which for which in SIDES for name in known.sides[which]}
    seed = int(known.config["settings"]["seed"])
    dealt: dict[str, set[str]] = {which: set() for which in SIDES}
    for name in manifest.identities:
        where = of.get(name) or side(name, seed=seed, validation=shares["validation"], test=shares["test"])
        dealt[where].add(name)
    return {which: frozenset(names) for which, names in dealt.items()}


def _subset(collection: Collection, rows: np.ndarray) -> Collection:
    return replace(collection, manifest=collection.manifest.select(rows), features=collection.features.subset(rows))


def held_back(names: ArrayLike, *, seed: int, held_out: float = 0.25, most: int = 5) -> NDArray[np.bool_]:
    """Choose photos to measure by, bool [photos]: a share of those of each person who has 3 or more, at most `most`."""
    owners, rng = np.asarray(names), np.random.default_rng(seed)
    chosen = np.zeros(len(owners), np.bool_)
    for name in np.unique(owners):
        chosen[held_out_rows(rng.permutation(np.flatnonzero(owners == name)), held_out, most)] = True
    return chosen


def held_out_rows(rows: NDArray[np.int64], held_out: float, most: int) -> NDArray[np.int64]:
    """Return the rows of a person, int64 [photos], that are held out; none of a person with fewer than 3 photos."""
    if len(rows) < _HELD_OUT_FROM:
        return rows[:0]
    return rows[: min(max(1, round(held_out * len(rows))), most, len(rows) - 2)]
