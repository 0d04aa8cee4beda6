"""Takes somebody out of the library's file: faces, photos, names, and every answer about them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from facetl.faces.detectors import Face
from facetl.io.sqlite_file import Execute
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryFace, LibraryPhoto
from facetl.people.store.resolve import NAME, RENAME


@dataclass(frozen=True)
class PersonData:
    """What the library holds of a person.

    Attributes:
        faces: those shown under the name.
        alone: the photos that show nobody else; their paths, bytes' sha256 and likeness go with the person.
        shared: photo → where the person's faces lie in it, of photos that stay for the others.
    """

    faces: tuple[LibraryFace, ...]
    alone: tuple[LibraryPhoto, ...]
    shared: dict[int, tuple[Face, ...]] = field(default_factory=dict)


def person_data(sql: Execute, name: str) -> PersonData | None:
    """Return what there is of a person; None where nobody has the name, nor ever had it."""
    query = "SELECT face FROM shown JOIN people ON people.id = shown.person WHERE people.name = ? ORDER BY face"
    ids = [face for (face,) in sql(query, (name,))]
    if not ids and sql("SELECT 1 FROM answers WHERE name = ?1 OR old = ?1", (name,)).fetchone() is None:
        return None
    faces = photos_module.faces_of_ids(sql, ids)
    photos = sorted({face.photo for face in faces})
    others = {
        photo
        for photo, face in rows_of(sql, "SELECT photo, id FROM faces WHERE photo IN ({marks})", photos)
        if face not in set(ids)
    }
    return PersonData(
        tuple(faces),
        tuple(photos_module.photos_of(sql, [photo for photo in photos if photo not in others])),
        {photo: tuple(face.face for face in faces if face.photo == photo) for photo in sorted(others)},
    )


def erase_person(sql: Execute, library: Library, name: str, held: PersonData) -> int:
    """Delete a person's faces, photos and name, and the answers about them; return how many answers went."""
    ids = [face.id for face in held.faces]
    touched = {one for (one,) in rows_of(sql, "SELECT answer FROM answer_faces WHERE face IN ({marks})", ids)}
    library.drop_faces(sql, ids)
    for photo in held.alone:
        sql("DELETE FROM photos WHERE id = ?", (photo.id,))
    gone = _void(sql, touched) | _naming(sql, name)
    for answer in gone:
        sql("DELETE FROM answers WHERE id = ?", (answer,))
    # Moves of faces keep stacks and suggestions of the past.
    sql("UPDATE answers SET moves = NULL")
    sql("UPDATE stacks SET suggestion = NULL WHERE suggestion = ?", (name,))
    library.resolve_again(sql)
    # People without a face: this one, under every name.
    sql("DELETE FROM people WHERE id NOT IN (SELECT person FROM labels WHERE person IS NOT NULL)")
    return len(gone)


def _naming(sql: Execute, name: str) -> set[int]:
    """Return the answers that give a person this name, or one that the person had before.

    Where another person had the name earlier, the answers of that time get the name that the other has now.
    """
    query = "SELECT id, kind, state, name, old FROM answers WHERE kind IN (?, ?) AND origin = 'user' ORDER BY id DESC"
    names = {name}  # of the person at the time of the answer
    found = set()
    for number, kind, state, called, old in sql(query, (NAME, RENAME)).fetchall():
        holds = kind == RENAME and state == 0
        if called in names:
            found.add(number)
            if holds:
                names.add(old)
        elif holds and old in names:
            _spell_out(sql, number, old, called)
            names.remove(old)
        elif old in names:
            found.add(number)
    # A name from metadata counts as older than the user's answers.
    query = "SELECT id FROM answers WHERE origin = 'region' AND name IN ({marks})"
    return found | {number for (number,) in rows_of(sql, query, sorted(names))}


def _spell_out(sql: Execute, rename: int, old: str, new: str) -> None:
    """Write a new name into the answers before it was given, instead of giving it."""
    before = "(id < ? OR origin = 'region')"
    sql(f"UPDATE answers SET name = ? WHERE name = ? AND {before}", (new, old, rename))
    sql(f"UPDATE answers SET old = ? WHERE old = ? AND {before}", (new, old, rename))
    sql("DELETE FROM answers WHERE id = ?", (rename,))


def _void(sql: Execute, answers: Collection[int]) -> set[int]:
    """Return the answers that are void now: about no face, with one side gone, or `same` of one face alone."""
    empty = set()
    for answer in answers:
        (kind,) = sql("SELECT kind FROM answers WHERE id = ?", (answer,)).fetchone()
        sides = dict(
            sql("SELECT side, count(*) FROM answer_faces WHERE answer = ? GROUP BY side", (answer,)).fetchall()
        )
        left, right = sides.get(0, 0), sides.get(1, 0)
        if left < (2 if kind == "same" else 1) or (kind == "different" and not right):
            empty.add(answer)
    return empty
