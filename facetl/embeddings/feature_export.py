"""The features of a cache as a file that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.index import CachedExtractor
from facetl.errors import CacheError
from facetl.io.json import JsonFields
from facetl.io.vector_file import vector_file

_BATCH = 512  # rows read at a time: 14 MB of 14,112 numbers


@dataclass(frozen=True)
class FeatureExport(JsonFields):
    """The result of an export: the extractor's fingerprint, rows, those of them that have a path, numbers in a row."""

    fingerprint: str
    rows: int
    with_path: int
    dim: int


def export_features(folder: Path, out: Path, *, fingerprint: str | None = None) -> FeatureExport:
    """Write the features of one extractor to a `.npy` (float16), `.parquet` or `.csv` file, for its owner alone.

    Beside the feature a row has the path at which the photo was seen last, and the sha256 of its bytes. A photo that
    lies at several paths has a row for each; a row of no remembered path, as those of a library's faces, has an empty
    one.

    Args:
        folder: the cache.
        fingerprint: which extractor's rows, by the start of its fingerprint; None for the only one.

    Raises CacheError where there is no such cache or extractor, or more than one; CacheCorruptError where bytes changed
    on the disk; DataError for another ending of `out`.
    """
    chosen = _chosen(EmbeddingCache.extractors(folder), folder, fingerprint or "")
    rows = with_path = 0
    with EmbeddingCache.open(folder, fingerprint=chosen.fingerprint, write=False) as cache, vector_file(out) as file:
        paths = cache.remembered_paths()
        for shas, features in cache.batches(_BATCH):
            lines = [(place, path, sha) for place, sha in enumerate(shas) for path in paths.get(sha, ("",))]
            places, named, digests = zip(*lines, strict=True)
            file.append({"path": named, "sha256": digests}, features[list(places)])
            rows += len(lines)
            with_path += sum(path != "" for path in named)
        if not rows:
            raise CacheError(
                f"{folder}: expected rows of extractor {chosen.fingerprint[:16]}, got none. Fill the cache."
            )
    return FeatureExport(chosen.fingerprint, rows, with_path, chosen.dim)


def _chosen(extractors: list[CachedExtractor], folder: Path, start: str) -> CachedExtractor:
    found = [one for one in extractors if one.fingerprint.startswith(start)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(one.fingerprint[:16] for one in found or extractors) or "none"
    what = f"start with {start!r}" if start else "are in the cache"
    raise CacheError(
        f"--fingerprint: expected the start of one extractor's fingerprint; {len(found)} {what} ({folder} has "
        f"{listed}). facetl cache info tells what each is."
    )
