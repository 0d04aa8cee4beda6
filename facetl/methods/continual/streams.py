"""Photos as another camera would have taken them: grey, or in low light."""

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

_PROBES_FROM = 3  # photos of a person from which some are held out: two are left to make a pair


@dataclass(frozen=True, eq=False)
class Step:
    """What one step brings.

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
    probes = {name: _probes(rows, held_out, most_probes) for name, rows in photos.items()}
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
            # Somebody who comes after steps that brought photos brings the photos of those steps along.
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


def held_back(names: ArrayLike, *, seed: int, held_out: float = 0.25, most: int = 5) -> NDArray[np.bool_]:
    """Choose photos to measure by, bool [photos]: a share of those of each person who has 3 or more, at most `most`."""
    owners, rng = np.asarray(names), np.random.default_rng(seed)
    chosen = np.zeros(len(owners), np.bool_)
    for name in np.unique(owners):
        chosen[_probes(rng.permutation(np.flatnonzero(owners == name)), held_out, most)] = True
    return chosen


def _probes(rows: NDArray[np.int64], held_out: float, most: int) -> NDArray[np.int64]:
    if len(rows) < _PROBES_FROM:
        return rows[:0]
    return rows[: min(max(1, round(held_out * len(rows))), most, len(rows) - 2)]


def _parts(rows: NDArray[np.int64], later: int) -> list[NDArray[np.int64]]:
    """Return what is brought at once, and what each of the steps that bring photos brings; the first two come first."""
    if not later:
        return [rows]
    share = max(2, -(-len(rows) // (later + 1)))
    return [rows[:share], *np.array_split(rows[share:], later)]
