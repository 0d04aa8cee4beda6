"""Random gather of cached features: ours beside HDF5, LMDB (where installed), memory itself.

    python benchmarks/cache_gather.py [--rows 6000] [--dim 14112] [--batch 1024] [--seed 0]

Every way returns float16 [batch, dim] for random rows, warm. The limit is `numpy.take` from an array
in memory into one that is reused; `fresh` is the same into new memory, which the system must clear first.
Prints a table and one JSON line.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.shards import DTYPE

FINGERPRINT = "be" * 32
Gather = Callable[[np.ndarray], np.ndarray]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000)
    parser.add_argument("--dim", type=int, default=14112)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def ways(folder: Path, table: np.ndarray, batch: int) -> tuple[dict[str, Gather], dict[str, float]]:
    """Each way's gather, and the seconds that ours took to write and to check every row."""
    out = np.zeros((batch, table.shape[1]), DTYPE)
    shas = [hashlib.sha256(b"%d" % row).hexdigest() for row in range(len(table))]
    began = time.perf_counter()
    with EmbeddingCache.open(folder / "cache", fingerprint=FINGERPRINT, write=True) as cache:
        for start in range(0, len(table), 256):
            cache.append(shas[start : start + 256], table[start : start + 256])
        written = time.perf_counter()
        gathered = cache.gather(shas)
        for start in range(0, len(table), batch):
            gathered[start : start + batch]
    seconds = {"write": written - began, "first_read": time.perf_counter() - written}
    np.save(folder / "whole.npy", table)
    mapped = np.load(folder / "whole.npy", mmap_mode="r")
    found: dict[str, Gather] = {
        "memory, the limit": lambda rows: table.take(rows, axis=0, out=out, mode="clip"),
        "memory, fresh": lambda rows: table[rows],
        "facetl, take(out=)": lambda rows: gathered.take(rows, out=out),
        "facetl, [rows]": lambda rows: gathered[rows],
        "one .npy, mapped": lambda rows: mapped[rows],
        **hdf5(folder, table),
        **lmdb(folder, table),
    }
    return found, seconds


def hdf5(folder: Path, table: np.ndarray) -> dict[str, Gather]:
    if importlib.util.find_spec("h5py") is None:
        return {}
    import h5py

    file = h5py.File(folder / "rows.h5", "w")
    data = file.create_dataset("rows", data=table)

    def gather(rows: np.ndarray) -> np.ndarray:
        unique, places = np.unique(rows, return_inverse=True)  # HDF5 wants them sorted, each once
        result: np.ndarray = data[unique][places]
        return result

    return {"HDF5": gather}


def lmdb(folder: Path, table: np.ndarray) -> dict[str, Gather]:
    if importlib.util.find_spec("lmdb") is None:
        return {}
    import lmdb as library

    environment = library.open(str(folder / "lmdb"), map_size=4 * table.nbytes + 2**26)
    with environment.begin(write=True) as transaction:
        for row, values in enumerate(table):
            transaction.put(row.to_bytes(8, "big"), values.tobytes())
    transaction = environment.begin(buffers=True)

    def gather(rows: np.ndarray) -> np.ndarray:
        out = np.empty((len(rows), table.shape[1]), DTYPE)
        for place, row in enumerate(rows.tolist()):
            out[place] = np.frombuffer(transaction.get(row.to_bytes(8, "big")), DTYPE)
        return out

    return {"LMDB": gather}


def main() -> None:
    options = parse()
    rng = np.random.default_rng(options.seed)
    table = rng.random((options.rows, options.dim), dtype=np.float32).astype(DTYPE)
    with tempfile.TemporaryDirectory() as folder:
        found, seconds = ways(Path(folder), table, options.batch)
        best = dict.fromkeys(found, np.inf)
        for _ in range(options.rounds):  # interleaved: a busy machine slows all of them
            for name, gather in found.items():
                # Rows of its own for each: those that another way has just read are in the processor's cache.
                rows = rng.integers(0, options.rows, options.batch)
                began = time.perf_counter()
                result = gather(rows)
                best[name] = min(best[name], time.perf_counter() - began)
                assert np.array_equal(result[-1], table[rows[-1]]), name
                del result
    limit = best["memory, the limit"]
    print(f"{options.rows} rows of {options.dim} float16, {options.batch} at random, best of {options.rounds}")
    print(f"{'way':<20}{'rows/s':>12}{'GB/s':>8}{'of the limit':>14}")
    for name, took in best.items():
        rate = options.batch / took
        print(f"{name:<20}{rate:>12,.0f}{rate * table[0].nbytes / 1e9:>8.2f}{limit / took:>13.0%}")
    print(f"written durably in {seconds['write']:.2f} s, first read with checks {seconds['first_read']:.2f} s")
    record = {
        "benchmark": "cache_gather",
        **{name: getattr(options, name) for name in ("rows", "dim", "batch")},
        "rows_per_second": {name: round(options.batch / took) for name, took in best.items()},
        "of_limit": {name: round(limit / took, 3) for name, took in best.items()},
        **{f"{name}_seconds": round(value, 3) for name, value in seconds.items()},
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
