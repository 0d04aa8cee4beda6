"""Streams of people, for the benchmark of updates: steps, photos as another camera would take them, and measures.

A task is what one step brings: some people, or a domain. Row i of an accuracy matrix R [steps, tasks] is measured after
step i, column j on held-out photos of task j; task j is what step j brings, task 0 what the first model was made of.

References:
    Lopez-Paz, Ranzato: Gradient Episodic Memory for Continual Learning, NeurIPS 2017, equations 2 to 4;
    Chaudhry, Dokania, Ajanthan, Torr: Riemannian Walk for Incremental Learning, ECCV 2018, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from facetl.data.manifest import Manifest
from facetl.errors import DataError, PhotoError
from facetl.images.decode import read_photo
from facetl.methods.continual.new_people import held_out_rows
from facetl.metrics.ranking import checked_names

DOMAINS = ("grey", "low-light")

_EXPOSURE = 0.06  # of the light that the photo was taken by: four stops less
_GAMMA = 2.2
_ELECTRONS = 2000.0  # that a white pixel would have collected in full light
_READ_NOISE = 4.0  # electrons


def changed(image: NDArray[np.uint8], domain: str, *, seed: int | list[int] = 0) -> NDArray[np.uint8]:
    """Return a photo [height, width, 3] uint8 RGB in a domain, in the same form.

    `grey`: the luma of ITU-R BT.601 in all three channels. `low-light`: a sixteenth of the light, with the shot noise
    and read noise of a sensor (Poisson and Gaussian; Foi et al., Practical Poissonian-Gaussian Noise Modeling, IEEE TIP
    2008), not brightened again. Raises DataError for another domain.
    """
    if domain == "grey":
        return np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    if domain != "low-light":
        raise DataError(f"a domain is one of {', '.join(DOMAINS)}, got {domain!r}.")
    rng = np.random.default_rng(seed)
    light = np.power(image / 255.0, _GAMMA) * (_EXPOSURE * _ELECTRONS)
    collected = rng.poisson(light) + rng.normal(0.0, _READ_NOISE, image.shape)
    brightness = np.power(np.clip(collected / _ELECTRONS, 0.0, 1.0), 1.0 / _GAMMA)
    return np.asarray(np.round(255.0 * brightness), np.uint8)


def write_changed(manifest: Manifest, folder: Path, domain: str, *, seed: int) -> Manifest:
    """Write a manifest's photos in a domain to FOLDER/Person/NUMBER.png, and return the manifest of those.

    A photo that cannot be read is left out. Raises DataError where the folder is not empty, or no photo can be read.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: photos in another domain go into a new folder, this one holds files.")
    for number, photo in enumerate(manifest.photos):
        try:
            image = read_photo(photo.path)
        except PhotoError:
            continue
        path = folder / photo.identity / f"{number:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        # cv2 cannot write to every path that Python can.
        path.write_bytes(cv2.imencode(".png", changed(image, domain, seed=[seed, number])[:, :, ::-1])[1].tobytes())
    return Manifest.from_folder(folder)


KINDS = ("people", "photos", *DOMAINS)


@dataclass(frozen=True, eq=False)
class Step:
    """The photos of one step.

    Attributes:
        kind: `people` who are new, new `photos` of people known from steps before, or people who are new and whose
            photos are shown in a domain, `grey` or `low-light`.
        photos: int64 [n], rows to learn from.
        probes: int64 [m], rows to measure by, of the step's own people, never learnt from.
    """

    kind: str
    photos: NDArray[np.int64]
    probes: NDArray[np.int64]


def stream(
    names: ArrayLike,
    kinds: Sequence[str],
    *,
    seed: int,
    first: float = 0.5,
    held_out: float = 0.25,
    most_probes: int = 5,
) -> tuple[Step, ...]:
    """Deal photos into a first step of `people`, and one step for each of the kinds.

    Everybody but those of the first step is dealt evenly to the steps that bring people. A quarter of the photos of
    people who have 3 or more is held out, at most `most_probes` of a person; a step that brings photos measures by the
    people whose photos it brings. What follows, follows from the names and the seed.

    Args:
        names: who is on each photo, str [photos].
        first: share of the people in the first step, in (0, 1).
        held_out: share of a person's photos that are probes.

    Raises DataError for a kind that is none, or where a step would bring nobody.
    """
    owners = np.asarray(names)
    if unknown := sorted(set(kinds) - set(KINDS)):
        raise DataError(f"a step brings one of {', '.join(KINDS)}, got {unknown[0]!r}.")
    if not 0.0 < first < 1.0 or not 0.0 < held_out < 1.0 or most_probes < 1:
        raise DataError(
            "a stream needs shares in (0, 1) and 1 probe or more, got "
            f"first {first:g}, held_out {held_out:g}, most_probes {most_probes}."
        )
    rng = np.random.default_rng(seed)
    photos = {str(name): rng.permutation(np.flatnonzero(owners == name)) for name in np.unique(owners)}
    people = [str(name) for name in rng.permutation(sorted(photos))]
    probes = {name: held_out_rows(rows, held_out, most_probes) for name, rows in photos.items()}
    bringing = sum(kind != "photos" for kind in kinds)
    begun = round(first * len(people)) if bringing else len(people)
    dealt = iter(np.array_split(np.array(people[begun:]), max(bringing, 1)))
    groups = [people[:begun], *([] if kind == "photos" else next(dealt).tolist() for kind in kinds)]
    parts = {name: _parts(rows[len(probes[name]) :], kinds.count("photos")) for name, rows in photos.items()}
    steps: list[Step] = []
    known: list[str] = []
    passed = 0
    for place, (kind, arriving) in enumerate(zip(("people", *kinds), groups, strict=True)):
        if kind == "photos":
            passed += 1
            brought = [name for name in known if len(parts[name][passed])]
            taken = [parts[name][passed] for name in brought]
        else:
            brought = arriving
            # A person who comes after steps that brought photos brings the photos of those steps along.
            taken = [np.concatenate(parts[name][: passed + 1]) for name in brought]
            known += brought
        if not brought:
            raise DataError(
                f"step {place} of the stream would bring nobody: {len(people):,} people with {len(owners):,} photos "
                "are too few. Ask for fewer steps."
            )
        held = [probes[name] for name in brought]
        steps.append(Step(kind, np.sort(np.concatenate(taken)), np.sort(np.concatenate(held))))
    return tuple(steps)


def _parts(rows: NDArray[np.int64], later: int) -> list[NDArray[np.int64]]:
    """Return what is brought at once, and what each of the steps that bring photos brings; the first two come first."""
    if not later:
        return [rows]
    share = max(2, -(-len(rows) // (later + 1)))
    return [rows[:share], *np.array_split(rows[share:], later)]


@dataclass(frozen=True, eq=False)
class AccuracyMatrix:
    """Accuracies of tasks after steps.

    Attributes:
        values: float64 [steps, tasks], in [0, 1], as many tasks as steps, at least 2.
    """

    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        values = np.asarray(self.values, np.float64)
        object.__setattr__(self, "values", values)
        square = values.ndim == 2 and values.shape[0] == values.shape[1] >= 2
        if not square or not np.all((values >= 0.0) & (values <= 1.0)):
            raise DataError(
                "An accuracy matrix must be [steps, tasks], square, 2 or more, of values in [0, 1]. "
                f"Received: shape {values.shape}."
            )

    @property
    def average_accuracy(self) -> float:
        """Mean accuracy of all tasks after the last step (Lopez-Paz and Ranzato, equation 2)."""
        return float(self.values[-1].mean())

    @property
    def backward_transfer(self) -> float:
        """Mean gain on the earlier tasks since each was learnt, below 0 where they suffered (equation 3)."""
        return float(np.mean(self.values[-1, :-1] - np.diag(self.values)[:-1]))

    @property
    def forgetting(self) -> float:
        """Mean loss on the earlier tasks, each against its best of all steps before the last (Chaudhry et al.).

        It can be below 0, where the last step is the best. The best of many noisy values is too high: of a model that
        only wavers, it is above 0.
        """
        return float(np.mean(self.values[:-1, :-1].max(axis=0) - self.values[-1, :-1]))

    def forward_transfer(self, baseline: ArrayLike) -> float:
        """Mean gain on the later tasks before each is learnt, over a baseline's float [tasks] (equation 4)."""
        given = np.asarray(baseline, np.float64)
        if given.shape != self.values.shape[1:]:
            raise DataError(
                f"A baseline must have an accuracy a task, [{self.values.shape[1]}]. Received: {given.shape}."
            )
        return float(np.mean(np.diag(self.values, 1) - given[1:]))

    def to_json(self) -> dict[str, object]:
        """Return the matrix and what needs no baseline as plain types."""
        return {
            "matrix": self.values.tolist(),
            "average_accuracy": self.average_accuracy,
            "forgetting": self.forgetting,
            "backward_transfer": self.backward_transfer,
        }


def verified_against_gallery(
    probes: ArrayLike,
    names: ArrayLike,
    gallery: ArrayLike,
    gallery_names: ArrayLike,
    *,
    threshold: float,
) -> float:
    """Return how often probe and gallery photo are rightly judged to show one person or two, both kinds weighing alike.

    Of pairs of one person, each probe's person weighs the same; of pairs of two people, each pair. probes, gallery:
    unit embeddings float [photos, dim]; names, gallery_names: str [photos]; threshold: a squared distance up to which
    two photos count as one person. Raises DataError where no probe's person is in the gallery, or nobody else is.
    """
    rows, stored = np.asarray(probes, np.float64), np.asarray(gallery, np.float64)
    owners, kept = checked_names(names, len(rows)), checked_names(gallery_names, len(stored))
    same = owners[:, None] == kept
    accepted = 2.0 - 2.0 * (rows @ stored.T) <= threshold
    people = np.unique(owners[same.any(axis=1)])
    if not len(people) or same.all():
        raise DataError(
            "Verifying against a gallery needs a probe's person in it, and another person. "
            f"Received: {len(people)} people of the probes, {len(np.unique(kept))} in the gallery."
        )
    right = [accepted[owners == person][same[owners == person]].mean() for person in people]
    return float((np.mean(right) + 1.0 - accepted[~same].mean()) / 2.0)
