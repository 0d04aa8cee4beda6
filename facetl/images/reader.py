"""Reads photos ahead of the net that looks at them: in threads, in order, with a bound on what is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facetl.errors import PhotoError
from facetl.io.files import sha256_of
from facetl.io.system import usable_processors

Decode = Callable[[bytes], NDArray[np.uint8]]

_DECODED_BYTES = 256 * 2**20  # decoded photos held at a time; phone photos take 36 MB each


@dataclass(frozen=True)
class ReadPhoto:
    """A photo read: its sha256, and its pixels uint8 [h, w, 3] or the reason for none."""

    sha: str
    image: NDArray[np.uint8] | None
    reason: str = ""


def read_batches(
    waiting: Mapping[str, Sequence[Path]], decode: Decode, *, batch_size: int
) -> Generator[list[ReadPhoto], None, None]:
    """Give the photos in batches, those that cannot be read among them.

    Args:
        waiting: sha256 of each photo, and the paths at which it may be read.
        decode: a photo's bytes to its pixels, or PhotoError, whose reason is counted.
        batch_size: readable photos in a batch; fewer where they are large.
    """
    batch: list[ReadPhoto] = []
    readable = held = 0
    with closing(_read_ahead(waiting, decode, batch_size)) as photos:
        for photo in photos:
            batch.append(photo)
            if photo.image is not None:
                readable += 1
                held += photo.image.nbytes
            if readable >= batch_size or held >= _DECODED_BYTES:
                yield batch
                batch, readable, held = [], 0, 0
    if batch:
        yield batch


def _read_ahead(
    waiting: Mapping[str, Sequence[Path]], decode: Decode, batch_size: int
) -> Generator[ReadPhoto, None, None]:
    workers = min(8, max(2, usable_processors()))
    ahead: deque[Future[ReadPhoto]] = deque()
    largest = 1
    pool = ThreadPoolExecutor(workers)
    try:
        for sha, paths in waiting.items():
            ahead.append(pool.submit(_read, sha, paths, decode))
            while len(ahead) >= max(workers, min(batch_size, _DECODED_BYTES // largest)):
                photo = ahead.popleft().result()
                largest = max(largest, photo.image.nbytes if photo.image is not None else 0)
                yield photo
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _read(sha: str, paths: Sequence[Path], decode: Decode) -> ReadPhoto:
    reason = "unreadable"
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError:
            continue
        # A photo may change between hashing and decoding: then these bytes are not those that name it.
        if sha256_of(data) != sha:
            reason = "changed-meanwhile"
            continue
        try:
            return ReadPhoto(sha, decode(data))
        except PhotoError as error:
            return ReadPhoto(sha, None, error.reason)
    return ReadPhoto(sha, None, reason)
