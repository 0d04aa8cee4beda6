"""What facetl raises for a user to read.

    FacetlError                 one clear line, exit code 1
    ├── DataError               a folder, list or split of photos that cannot serve
    │   └── PhotoError          one photo that cannot be read; skipped and counted by its `reason`
    ├── WeightsError            an extractor's weights are missing, damaged or of the wrong shape
    ├── CacheError              the embedding cache cannot be used
    │   ├── CacheLockedError    another process is writing it
    │   ├── CacheCorruptError   stored bytes no longer match their checksum
    │   └── CacheFullError      the disk took no more
    ├── TrainingError           training cannot start or go on
    │   └── CollapseError       the head maps everyone to one point
    ├── RunError                a run folder is missing, incomplete or in the way
    └── LibraryError            a photo library is missing, damaged, or was asked for what it does not hold

A message names the rule, what was received, and what to do.
"""

from __future__ import annotations


class FacetlError(Exception):
    """Anything that a user can mend; the command line prints it as one line and exits with 1."""


class DataError(FacetlError):
    """A folder, list or split of photos that cannot serve."""


class PhotoError(DataError):
    """One photo that cannot be read; `reason` is the short name under which it is counted."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class WeightsError(FacetlError):
    """An extractor's weights are missing, damaged or of the wrong shape."""


class CacheError(FacetlError):
    """The embedding cache cannot be used."""


class CacheLockedError(CacheError):
    """Another process is writing the cache."""


class CacheCorruptError(CacheError):
    """Stored bytes no longer match their checksum."""


class CacheFullError(CacheError):
    """The disk took no more rows; those committed before are safe."""


class TrainingError(FacetlError):
    """Training cannot start or go on."""


class CollapseError(TrainingError):
    """The head maps everyone to one point."""


class RunError(FacetlError):
    """A run folder is missing, incomplete or in the way."""


class LibraryError(FacetlError):
    """A photo library is missing, damaged, or was asked for what it does not hold."""
