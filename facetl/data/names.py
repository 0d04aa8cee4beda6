"""What may be a person's name."""

from __future__ import annotations

import unicodedata

from facetl.errors import DataError

UNKNOWN = "unknown"
_LONGEST = 200


def person_name(text: str) -> str:
    """Return a name as it is kept: NFC-normalised, single spaces, none at the ends.

    Raises DataError for an empty or over-long one, one with control characters, and "unknown", which stands for
    strangers.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    # Lone surrogates are what a shell passes of bytes that are no UTF-8: no JSON, page or file could carry them.
    odd = [sign for sign in name if unicodedata.category(sign) in ("Cc", "Cs")]
    if not name or len(name) > _LONGEST or odd:
        raise DataError(f"a name has 1 to {_LONGEST} characters and no control characters, got {text[:60]!r}.")
    if name.casefold() == UNKNOWN:
        raise DataError(f"nobody can be called {name!r}, the answer for strangers. Choose another name.")
    return name
