"""Takes somebody out of the library's file: faces, photos, names, and every answer about them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from facetl.faces.detectors import Face
from facetl.io.sqlite_file import Run
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryFace, Photo
from facetl.people.store.resolve import NAME, RENAME


@dataclass(frozen=True)
class Belongings:
    """What the library holds of somebody.

    Attributes:
        faces: those shown under the name.
        alone: the photos that show nobody else; their paths, bytes' sha256 and likeness go with the person.
        shared: photo → where the person's faces lie in it, of photos that stay for the others.
    """

    faces: tuple[LibraryFace, ...]
    alone: tuple[Photo, ...]
    shared: dict[int, tuple[Face, ...]] = field(default_factory=dict)


def belongings(run: Run, name: str) -> Belongings | None:
    """Return what there is of somebody; None where nobody has the name, nor ever had it."""
    sql = "SELECT face FROM shown JOIN people ON people.id = shown.person WHERE people.name = ? ORDER BY face"
    ids = [face for (face,) in run(sql, (name,))]
    if not ids and run("SELECT 1 FROM answers WHERE name = ?1 OR old = ?1", (name,)).fetchone() is None:
        return None
    faces = photos_module.faces_of_ids(run, ids)
    photos = sorted({face.photo for face in faces})
    others = {
        photo
        for photo, face in rows_of(run, "SELECT photo, id FROM faces WHERE photo IN ({marks})", photos)
        if face not in set(ids)
    }
    return Belongings(
        tuple(faces),
        tuple(photos_module.photos_of(run, [photo for photo in photos if photo not in others])),
        {photo: tuple(face.face for face in faces if face.photo == photo) for photo in sorted(others)},
    )


def unsay(run: Run, library: Library, name: str, held: Belongings) -> int:
    """Take out somebody's faces, photos, name, and what was said of them; return how many answers went."""
    ids = [face.id for face in held.faces]
    touched = {one for (one,) in rows_of(run, "SELECT answer FROM answer_faces WHERE face IN ({marks})", ids)}
    library.drop_faces(run, ids)
    for photo in held.alone:
        run("DELETE FROM photos WHERE id = ?", (photo.id,))
    gone = _empty(run, touched) | _naming(run, name)
    for answer in gone:
        run("DELETE FROM answers WHERE id = ?", (answer,))
    # Moves of faces tell of stacks and suggestions that were.
    run("UPDATE answers SET moves = NULL")
    run("UPDATE stacks SET suggestion = NULL WHERE suggestion = ?", (name,))
    library.hear_anew(run)
    # Whoever has no face: the person, under this name and those before.
    run("DELETE FROM people WHERE id NOT IN (SELECT person FROM labels WHERE person IS NOT NULL)")
    return len(gone)


def _naming(run: Run, name: str) -> set[int]:
    """Return the answers that call somebody so, or by a name that he had before.

    Where another had the name before him, the answers of that time get the name that the other has now.
    """
    sql = "SELECT id, kind, state, name, old FROM answers WHERE kind IN (?, ?) AND origin = 'user' ORDER BY id DESC"
    names = {name}  # that he has at the time of the answer
    found = set()
    for number, kind, state, called, old in run(sql, (NAME, RENAME)).fetchall():
        holds = kind == RENAME and state == 0
        if called in names:
            found.add(number)
            if holds:
                names.add(old)
        elif holds and old in names:
            _spell_out(run, number, old, called)
            names.remove(old)
        elif old in names:
            found.add(number)
    # What a photo's metadata says counts as older than what the user says.
    sql = "SELECT id FROM answers WHERE origin = 'region' AND name IN ({marks})"
    return found | {number for (number,) in rows_of(run, sql, sorted(names))}


def _spell_out(run: Run, rename: int, old: str, new: str) -> None:
    """Write a new name into the answers before it was given, instead of giving it."""
    before = "(id < ? OR origin = 'region')"
    run(f"UPDATE answers SET name = ? WHERE name = ? AND {before}", (new, old, rename))
    run(f"UPDATE answers SET old = ? WHERE old = ? AND {before}", (new, old, rename))
    run("DELETE FROM answers WHERE id = ?", (rename,))


def _empty(run: Run, answers: Collection[int]) -> set[int]:
    """Return the answers that say nothing any more: about no face, or with one side gone, or of one face alone."""
    empty = set()
    for answer in answers:
        (kind,) = run("SELECT kind FROM answers WHERE id = ?", (answer,)).fetchone()
        sides = dict(
            run("SELECT side, count(*) FROM answer_faces WHERE answer = ? GROUP BY side", (answer,)).fetchall()
        )
        left, right = sides.get(0, 0), sides.get(1, 0)
        if left < (2 if kind == "same" else 1) or (kind == "different" and not right):
            empty.add(answer)
    return empty
