"""Filling the cache: only what is missing is computed, nothing is lost, and nothing is fatal but the disk."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from facetl.embeddings import fill as fill_module
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.fill import Fill, fill
from facetl.embeddings.maintenance import info
from facetl.errors import CacheError, CacheLockedError, PhotoError

WEIGHTS = "ab" * 32
DIM = 16


@dataclass(frozen=True)
class Spec:
    name: str = "tiny"

    def fingerprint(self, weights_sha256: str) -> str:
        return hashlib.sha256(f"{self.name} {weights_sha256}".encode()).hexdigest()


class Tiny:
    """Projects the mean colour and size of a photo; counts the photos that it saw."""

    flagged: ClassVar[dict[str, int]] = {}
    dim = DIM

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.matrix = np.random.default_rng(0).normal(size=(5, DIM)).astype(np.float32)

    def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
        self.batches.append(len(images))
        inputs = [[*image.mean((0, 1)) / 255, image.shape[0] / 9, image.shape[1] / 9] for image in images]
        return np.array(inputs, np.float32) @ self.matrix


def decode(data: bytes) -> np.ndarray:
    """Photos of these tests: their width, then their pixels."""
    if not data:
        raise PhotoError("empty-file", "no bytes")
    if data.startswith(b"text"):
        raise PhotoError("not-an-image", "text")
    return np.frombuffer(data[1:], np.uint8).reshape(-1, data[0], 3)


def photo(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    height, width = (int(n) for n in rng.integers(2, 9, 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([width]) + rng.integers(0, 256, height * width * 3, dtype=np.uint8).tobytes())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [photo(tmp_path / "faces" / f"Person {i % 7}" / f"{i}.jpg", i) for i in range(50)]


def run(photos: Sequence[Path], folder: Path, net: Tiny | None = None, **options: object) -> Fill:
    def make() -> Tiny:
        assert net is not None, "no extractor may be built"
        return net

    settings: dict = {"spec": Spec(), "weights_sha256": WEIGHTS, "decode": decode, "batch_size": 8, **options}
    return fill(photos, cache_folder=folder, make_net=make, **settings)


def stored(folder: Path, filled: Fill) -> dict[Path, np.ndarray]:
    with EmbeddingCache.open(folder, fingerprint=Spec().fingerprint(WEIGHTS), write=False) as cache:
        return dict(zip(filled.shas, cache.rows(list(filled.shas.values())), strict=True))


def expected(path: Path) -> np.ndarray:
    return Tiny().extract([decode(path.read_bytes())])[0].astype(np.float16)


def test_every_photo_gets_its_own_row(photos: list[Path], tmp_path: Path) -> None:
    net = Tiny()
    filled = run(photos, tmp_path / "c", net)
    assert (filled.report.photos, filled.report.computed, filled.report.reused) == (50, 50, 0)
    assert filled.report.skipped == {}
    assert filled.report.rate > 0
    assert sum(net.batches) == 50
    assert list(filled.shas) == photos
    assert filled.shas[photos[3]] == hashlib.sha256(photos[3].read_bytes()).hexdigest()
    for path, row in stored(tmp_path / "c", filled).items():
        np.testing.assert_allclose(row, expected(path), rtol=2e-3, atol=1e-3)


def test_a_second_fill_builds_no_extractor(photos: list[Path], tmp_path: Path) -> None:
    first = run(photos, tmp_path / "c", Tiny())
    again = run(photos, tmp_path / "c", None)
    assert (again.report.computed, again.report.reused, again.report.rate) == (0, 50, 0.0)
    assert again.shas == first.shas
    assert set(again.report.to_json()) == {"photos", "computed", "reused", "skipped", "seconds", "rate", "flagged"}


def test_rows_follow_bytes_not_names_or_order(photos: list[Path], tmp_path: Path) -> None:
    run(photos, tmp_path / "c", Tiny())
    moved = [path.rename(path.with_name(f"z{i}.png")) for i, path in enumerate(photos[::-1])]
    added = photo(tmp_path / "faces" / "A" / "first.jpg", 999)
    net = Tiny()
    filled = run([added, *moved], tmp_path / "c", net)
    assert net.batches == [1]
    assert (filled.report.computed, filled.report.reused) == (1, 50)
    for path, row in stored(tmp_path / "c", filled).items():
        np.testing.assert_allclose(row, expected(path), rtol=2e-3, atol=1e-3)


def test_the_same_bytes_are_computed_once(tmp_path: Path) -> None:
    paths = [photo(tmp_path / f"{i}.jpg", i % 3) for i in range(9)]
    net = Tiny()
    filled = run([*paths, paths[0]], tmp_path / "c", net)
    assert sum(net.batches) == 3
    assert (filled.report.photos, filled.report.computed, filled.report.reused) == (9, 3, 6)
    assert len(set(filled.shas.values())) == 3


def test_broken_photos_are_counted_every_time_and_never_fatal(photos: list[Path], tmp_path: Path) -> None:
    empty, text, twin, gone = (tmp_path / name for name in ("empty.jpg", "text.jpg", "twin.jpg", "gone.jpg"))
    empty.touch()
    text.write_bytes(b"text of a letter")
    twin.write_bytes(b"text of a letter")
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    everything = [empty, photos[0], text, twin, gone, pipe, *photos[1:10]]
    expected_skips = {"empty-file": 1, "hidden": 4, "not-an-image": 2, "unreadable": 2}
    for net in (Tiny(), Tiny()):
        filled = run(everything, tmp_path / "c", net, skipped={"hidden": 4, "nothing": 0})
        report = filled.report
        assert report.skipped == expected_skips
        assert report.photos == 15 == report.computed + report.reused + 5
        assert list(filled.shas) == photos[:10]
    assert net.batches == [], "built in vain, asked for nothing"


def test_a_row_does_not_depend_on_its_batch(photos: list[Path], tmp_path: Path) -> None:
    tables = []
    for size, order in ((1, 1), (7, -1), (50, 1)):
        folder = tmp_path / f"c{size}"
        filled = run(photos[::order], folder, Tiny(), batch_size=size)
        rows = stored(folder, filled)
        tables.append(np.stack([rows[path] for path in photos]).astype(np.float32))
    for table in tables[1:]:
        np.testing.assert_allclose(table, tables[0], rtol=2**-10, atol=1e-4)


def test_batches_are_full_and_bounded(photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = Tiny()
    run(photos, tmp_path / "c", net, batch_size=16)
    assert net.batches == [16, 16, 16, 2]
    monkeypatch.setattr("facetl.images.decode._DECODED_BYTES", 1)
    net = Tiny()
    run(photos, tmp_path / "d", net, batch_size=16)
    assert net.batches == [1] * 50, "photos too large to be held together go one by one"


def test_progress_begins_with_what_needs_no_work(photos: list[Path], tmp_path: Path) -> None:
    run(photos[:20], tmp_path / "c", Tiny())
    seen: list[tuple[int, int]] = []
    run(photos, tmp_path / "c", Tiny(), on_progress=lambda *numbers: seen.append(numbers))
    assert seen == [(20, 50), (28, 50), (36, 50), (44, 50), (50, 50)]
    seen.clear()
    run(photos, tmp_path / "c", None, on_progress=lambda *numbers: seen.append(numbers))
    assert seen == [(50, 50)]


def test_an_interrupt_keeps_what_is_committed(photos: list[Path], tmp_path: Path) -> None:
    class Interrupted(Tiny):
        def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
            if len(self.batches) == 3:
                raise KeyboardInterrupt
            return super().extract(images)

    with pytest.raises(KeyboardInterrupt):
        run(photos, tmp_path / "c", Interrupted())
    net = Tiny()
    filled = run(photos, tmp_path / "c", net)
    assert (filled.report.computed, filled.report.reused) == (26, 24)


def test_a_net_that_gives_rubbish_is_an_error(photos: list[Path], tmp_path: Path) -> None:
    class Rubbish(Tiny):
        def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
            return np.full((len(images), DIM), np.nan, np.float32)

    with pytest.raises(CacheError, match="finite"):
        run(photos, tmp_path / "c", Rubbish())
    assert run(photos, tmp_path / "c", Tiny()).report.computed == 50


def test_a_photo_changed_between_hashing_and_decoding_mislabels_nothing(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = fill_module.digests

    def then_change(paths: Sequence[Path]) -> list[str | None]:
        found = honest(paths)
        photos[4].write_bytes(photos[5].read_bytes()[:1] + b"\x07" * (3 * photos[5].read_bytes()[0]))
        return found

    monkeypatch.setattr(fill_module, "digests", then_change)
    filled = run(photos, tmp_path / "c", Tiny())
    assert filled.report.skipped == {"changed-meanwhile": 1}
    assert photos[4] not in filled.shas
    monkeypatch.setattr(fill_module, "digests", honest)
    again = run(photos, tmp_path / "c", Tiny())
    assert again.report.computed == 1
    np.testing.assert_allclose(stored(tmp_path / "c", again)[photos[4]], expected(photos[4]), rtol=2e-3, atol=1e-3)


def test_a_full_cache_is_used_while_another_process_writes(photos: list[Path], tmp_path: Path) -> None:
    run(photos[:9], tmp_path / "c", Tiny())
    with EmbeddingCache.open(tmp_path / "c", fingerprint="c" * 64, write=True):
        assert run(photos[:9], tmp_path / "c", None).report.reused == 9
        with pytest.raises(CacheLockedError):
            run(photos, tmp_path / "c", Tiny())


def test_the_cache_records_what_filled_it(photos: list[Path], tmp_path: Path) -> None:
    run(photos, tmp_path / "c", Tiny())
    report = info(tmp_path / "c")
    assert report.extractors[0].description == {"name": "tiny", "weights_sha256": WEIGHTS}
    assert report.photos == 50
    run(photos, tmp_path / "c", Tiny(), spec=Spec("other"))
    assert len(info(tmp_path / "c").extractors) == 2


def test_a_cached_fill_of_the_development_set_takes_no_time(lfw_dev: Path, tmp_path: Path) -> None:
    paths = sorted((lfw_dev / "images").glob("*/*.jpg"))

    class Ones(Tiny):
        def extract(self, images: Sequence[np.ndarray]) -> np.ndarray:
            return np.ones((len(images), DIM), np.float32)

    options: dict = {"decode": lambda data: np.zeros((1, 1, 3), np.uint8), "batch_size": 2048}
    run(paths, tmp_path / "c", Ones(), **options)
    began = time.perf_counter()
    filled = run(paths, tmp_path / "c", None, **options)
    assert filled.report.reused == len(paths)
    assert time.perf_counter() - began < 2
