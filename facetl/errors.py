"""Errors for a user to read: a message names the rule, what was received, and what to do."""

from __future__ import annotations

import errno

# How the system calls a disk, a quota or a file that takes no more.
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FacetlError(Exception):
    """Anything that a user can mend; the command line prints it as one line and exits with 1."""


class DataError(FacetlError):
    """A folder, list or split of photos that cannot serve."""


class PhotoError(DataError):
    """One photo that cannot be read; `reason` is the short name under which it is skipped and counted."""

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


class DivergedError(CollapseError):
    """The loss or the embeddings are no numbers any more."""


class FacetlWarning(UserWarning):
    """Something ended otherwise than it was asked for, and its result is kept."""


class RunError(FacetlError):
    """A run folder is missing, incomplete or in the way."""


class LibraryError(FacetlError):
    """A photo library is missing, damaged, or was asked for what it does not hold."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, at most 200 characters; its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
