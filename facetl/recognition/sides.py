"""Who a run was trained on, chosen by and measured on, kept with it so that nobody is measured on by mistake."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from facetl.data.manifest import Manifest
from facetl.data.splits import SIDES
from facetl.errors import RunError
from facetl.io.files import write_atomic

PEOPLE = "people.json"
# Side → people.
People = Mapping[str, frozenset[str]]


def write(folder: Path, manifest: Manifest) -> None:
    """Write the people of each side of a split manifest into a run folder, readable by its owner alone."""
    write_people(folder, {side: manifest.subset(side).identities for side in SIDES})


def write_people(folder: Path, people: Mapping[str, Iterable[str]]) -> None:
    """Write side → people into a run folder, readable by its owner alone."""
    content = json.dumps({side: sorted(people[side]) for side in SIDES}, ensure_ascii=False, indent=2)
    write_atomic(folder / PEOPLE, f"{content}\n".encode())


def read(folder: Path) -> People | None:
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
