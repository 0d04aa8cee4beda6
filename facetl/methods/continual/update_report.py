"""What an update did, for its reader and for the version that it made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facetl.methods.continual.comparing import Found, Gain, Verified
from facetl.methods.continual.enrolment import Enrolment


@dataclass(frozen=True)
class UpdateReport:
    """What an update did.

    Attributes:
        folder: the run's.
        method: as asked for.
        version: the run's version now.
        in_place: whether a new head is in use; `why_not` says why it is not.
        enrolment: who can be named since; they can be even where the new head was refused.
        people, photos: new ones that were learnt from; `held_out` new people never were.
        seen: photos left out, the run having seen them.
        old: both heads on the run's test people. new: on pairs with the new people among them; None for too few.
        found: new people's held-out photos; None where nobody has 3 photos.
        own_gain, gallery_gain: of the new head, and of the new head on a gallery of the old one, over the old head, on
            the validation people; None without a new head.
        gallery_kept: whether what was enrolled with the old head still answers.
        memory_bytes_per_person: a person, of what is remembered for the next update.
        way: `closed form` or `gradient`, or `training` for joint; None without a new head.
        seconds: of learning alone.
    """

    folder: Path
    method: str
    version: int
    in_place: bool
    why_not: str | None
    enrolment: Enrolment
    people: int
    photos: int
    held_out: int
    seen: int
    old: Verified | None = None
    new: Verified | None = None
    found: Found | None = None
    own_gain: Gain | None = None
    gallery_gain: Gain | None = None
    gallery_kept: bool = True
    memory_bytes_per_person: float | None = None
    way: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain types."""
        gains_of = {"own_gain": self.own_gain, "gallery_gain": self.gallery_gain}
        parts = {"old": self.old, "new": self.new, "found": self.found}
        return {
            "run": str(self.folder),
            "method": self.method,
            "version": self.version,
            "in_place": self.in_place,
            "why_not": self.why_not,
            "enrolment": self.enrolment.to_json(),
            "people": self.people,
            "photos": self.photos,
            "held_out": self.held_out,
            "seen": self.seen,
            **{name: None if part is None else part.to_json() for name, part in parts.items()},
            **{
                name: None if gain is None else {"value": gain.value, "stderr": gain.stderr}
                for name, gain in gains_of.items()
            },
            "gallery_kept": self.gallery_kept,
            "memory_bytes_per_person": self.memory_bytes_per_person,
            "way": self.way,
            "seconds": self.seconds,
        }
