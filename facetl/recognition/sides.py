"""Who a run was trained on, chosen by and measured on, kept with it so that nobody is measured on by mistake."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES
from facetl.errors import RunError

PEOPLE = "people.json"


def write(folder: Path, manifest: Manifest) -> None:
    """Write the people of each side of a split manifest into a run folder, readable by its owner alone."""
    sides = {side: list(manifest.subset(side).identities) for side in SIDES}
    descriptor = os.open(folder / PEOPLE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(sides, stream, ensure_ascii=False, indent=2)
        stream.write("\n")


def read(folder: Path) -> Mapping[str, frozenset[str]] | None:
    """Return side → people, NFC-normalised as in a manifest; None for a run that was made before they were kept.

    Raises RunError for a file that holds anything else.
    """
    path = folder / PEOPLE
    try:
        sides = json.loads(path.read_text(encoding="utf-8"))
        return {side: frozenset(map(str, sides[side])) for side in SIDES}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: expected the people of {', '.join(SIDES)} ({error}). Train again.") from error
