"""Photos as another camera would have taken them: grey, or in low light."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facetl.data.manifest import Manifest
from facetl.errors import DataError, PhotoError
from facetl.imaging.decode import read_photo

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
