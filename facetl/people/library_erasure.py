"""Erasure of a person from a library: faces, pictures, features, names, answers; then a search of every file."""

from __future__ import annotations

import html
import json
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np

from facetl.data.boxes import matched
from facetl.data.manifest import person_name
from facetl.embeddings.embedding_cache import EmbeddingCache
from facetl.embeddings.index import Index, MissingCacheError
from facetl.embeddings.maintenance import keep
from facetl.errors import CacheError, LibraryError
from facetl.faces.detectors import Face
from facetl.faces.landmark_store import FILE_NAME as LANDMARKS
from facetl.faces.landmark_store import LandmarkStore, packed
from facetl.io.json import JsonFields
from facetl.io.sqlite_file import Execute
from facetl.people.byte_search import Trace, Wanted, trace
from facetl.people.library import FILE_NAME, Library
from facetl.people.store import photos as photos_module
from facetl.people.store.database import rows_of
from facetl.people.store.models import LibraryFace, LibraryPhoto
from facetl.people.store.resolve import NAME, RENAME

# A setting that is there while files still have to be cleaned; it names nobody.
_UNDER_WAY = "forgetting"
_SAME_FACE = 0.35
# Numbers of a feature that are looked for, and how many of them are not 0 at least.
_WINDOW, _TELLING = 32, 4
_SHORT = 5


@dataclass(frozen=True)
class PersonData:
    """Faces and photos of a person in a library.

    Attributes:
        faces: those shown under the name.
        alone: the photos that show nobody else; their paths, bytes' sha256 and likeness go with the person.
        shared: photo → where the person's faces lie in it, of photos that stay for the others.
    """

    faces: tuple[LibraryFace, ...]
    alone: tuple[LibraryPhoto, ...]
    shared: dict[int, tuple[Face, ...]]


@dataclass(frozen=True)
class ForgetReport(JsonFields):
    """Counts of what was erased of a person, and traces of what is left.

    `faces` and `photos` that show nobody else are out of the library, with `thumbnails`, `rows` of features, and
    `answers`. `remains` tells in which files, and how often, something of the person was still found; `advice` what to
    do about it. `seconds` is all of it.
    """

    faces: int
    photos: int
    thumbnails: int
    rows: int
    answers: int
    remains: tuple[Trace, ...]
    advice: tuple[str, ...]
    seconds: float


def forget(library: Library, name: str) -> ForgetReport:
    """Erase somebody from a library, and prove it by searching the bytes of all its files.

    Gone are all faces shown under the name, also those that nobody confirmed, and the photos that show nobody else;
    photos that show others stay without the person's faces. Answers about the others stay. The photos themselves are
    not touched. If it was interrupted, the same call goes on.

    Raises LibraryError where nobody has the name, DataError for what is no name, CacheLockedError while another process
    fills the library's cache.
    """
    began = time.perf_counter()
    name = person_name(name)
    with library.database.read() as sql:
        held = person_data(sql, name)
        unfinished = sql("SELECT 1 FROM settings WHERE name = ?", (_UNDER_WAY,)).fetchone() is not None
    if held is None and not unfinished:
        raise LibraryError(
            f"Only somebody who has a name can be forgotten; nobody has the name {name!r}. Check its spelling."
        )
    held = held or PersonData((), (), {})
    _clean_landmarks(library, held)
    with library.database.write() as sql:
        answers = erase_person(sql, library, name, held)
        sql("INSERT OR REPLACE INTO settings VALUES (?, '')", (_UNDER_WAY,))
    with library.database.read() as sql:
        living = {key.hex() for (key,) in sql("SELECT key FROM faces")}
    windows = _dead_windows(library.cache_folder, living)
    rows = 0
    with suppress(MissingCacheError):
        rows = keep(library.cache_folder, living)
    thumbnails = _drop_thumbnails(library, living)
    library.database.vacuum()
    library.set_setting(_UNDER_WAY, None)
    remains = trace(library.folder, _wanted(library, name, held, windows))
    return ForgetReport(
        faces=len(held.faces),
        photos=len(held.alone),
        thumbnails=thumbnails,
        rows=rows,
        answers=answers,
        remains=tuple(remains),
        advice=tuple(_advice(library, name, remains)),
        seconds=time.perf_counter() - began,
    )


def _clean_landmarks(library: Library, held: PersonData) -> None:
    """Delete found faces of photos that go or never came into the library, and the person's in the others."""
    gone = {photo.sha for photo in held.alone}
    with library.database.read() as sql:
        shas = {sha.hex() for (sha,) in sql("SELECT sha FROM photos")} - gone
        shared = {photo.sha: held.shared[photo.id] for photo in photos_module.photos_of(sql, list(held.shared))}
    if not (library.cache_folder / LANDMARKS).is_file():
        return
    with LandmarkStore.open(library.cache_folder, write=True) as store:
        for detector in store.detectors():
            found = store.find(detector.fingerprint, shared)
            left = {sha: _without(faces, shared[sha]) for sha, faces in found.items()}
            # What is put anew is never searched again; a photo that loses no face stays as it was searched.
            fewer = {sha: faces for sha, faces in left.items() if len(faces) < len(found[sha])}
            store.put(detector.fingerprint, detector.description, fewer)
        living = {bytes.fromhex(sha) for sha in shas}
        store.forget([path for path, sha in store.photos() if sha not in living])
        store.keep(living)


def _without(faces: Sequence[Face], going: Sequence[Face]) -> list[Face]:
    pairs = matched([face.box for face in faces], [face.box for face in going], least=_SAME_FACE)
    gone = {place for place, _ in pairs}
    return [face for place, face in enumerate(faces) if place not in gone]


def _dead_windows(cache: Path, living: set[str]) -> set[bytes]:
    """Return a piece of each cached feature that no face of the library has, by which it would be found."""
    windows: set[bytes] = set()
    with suppress(MissingCacheError), Index.open(cache, write=False) as index:
        for extractor in index.extractors():
            entries = [entry for shard in index.shards(extractor.id) for entry in index.rows_of(extractor.id, shard)]
            with EmbeddingCache.open(cache, fingerprint=extractor.fingerprint, write=False) as rows:
                for key in {key.hex() for key, _ in entries} - living:
                    with suppress(CacheError):  # a damaged row cannot be recognised, and goes with the rest
                        windows.add(_window(rows.rows([key]).tobytes()))
    return windows - {b""}


def _window(row: bytes) -> bytes:
    """Return the piece of a feature that has most numbers other than 0, from the first of them on."""
    halves = np.frombuffer(row, np.uint16)
    starts = range(0, max(1, len(halves) - _WINDOW + 1), _WINDOW)
    start = max(starts, key=lambda start: int(np.count_nonzero(halves[start : start + _WINDOW])))
    piece = np.trim_zeros(halves[start : start + _WINDOW], "f")
    return piece.tobytes() if np.count_nonzero(piece) >= _TELLING else b""


def _drop_thumbnails(library: Library, living: set[str]) -> int:
    dropped = 0
    for path in library.thumbs_folder.glob("*/*"):
        if path.suffix != ".jpg" or path.stem not in living:
            path.unlink(missing_ok=True)
            dropped += path.suffix == ".jpg"
    return dropped


# What is looked for


def spellings(name: str) -> set[bytes]:
    """Return how a name may be written in a file: as it is, in JSON, in HTML, in an address, in a folder's name."""
    forms = {name, json.dumps(name)[1:-1], html.escape(name), quote(name), name.replace(" ", "_")}
    return {form.encode() for form in forms}


def wanted_name(name: str, people: Iterable[str], spell: Callable[[str], set[bytes]] = spellings) -> Wanted:
    """Return the search for a name in all its spellings, except inside the longer names of other people."""
    others = {text for other in people if name in other and other != name for text in spell(other)}
    # Two or three letters are among the numbers of any picture, or of a gallery, whose letters are four bytes each.
    telling = min(map(len, spellings(name))) > _SHORT
    return Wanted("name", spell(name), word=True, within=others, in_numbers=telling)


def _wanted(library: Library, name: str, held: PersonData, windows: Collection[bytes]) -> list[Wanted]:
    paths = {os.fsencode(path) for photo in held.alone for path in photo.paths}
    with library.database.read() as sql:
        longer = {path for (path,) in sql("SELECT path FROM paths") if any(path.startswith(one) for one in paths)}
    shas, keys = ([bytes.fromhex(photo.sha) for photo in held.alone], [bytes.fromhex(face.key) for face in held.faces])
    return [
        wanted_name(name, (person.name for person in library.people())),
        Wanted("path of a photo", paths, within=longer),
        Wanted("photo", {*shas, *(sha.hex().encode() for sha in shas)}),
        Wanted("face", {*keys, *(key.hex().encode() for key in keys), *(packed(face.face) for face in held.faces)}),
        Wanted("feature", windows),
    ]


def _advice(library: Library, name: str, remains: Sequence[Trace]) -> list[str]:
    """Return what to do about what is left."""
    files = {one.file.split(os.sep)[0] for one in remains}
    advice = ["The photos were not touched: importing their folders again finds the faces again."]
    models = sorted({os.sep.join(one.file.split(os.sep)[:2]) for one in remains if one.file.startswith("models")})
    if models:
        advice.append(f"Learnt with the person: {', '.join(models)}. Learn anew, then delete them.")
    in_use = Path(library.setting("run") or library.folder)
    if (
        not in_use.is_relative_to(library.folder)
        and in_use.is_dir()
        and trace(in_use, [wanted_name(name, (person.name for person in library.people()))])
    ):
        advice.append(f"The run in use, {in_use}, names the person. Train anew without, then delete it.")
    if any(one.what == "name" and one.file.startswith(FILE_NAME) for one in remains):
        advice.append("The name is in the path of photos that show others, or of folders. Rename those.")
    if any(one.what != "name" for one in remains) and files - {"models"}:
        advice.append("Something else uses the library just now. Stop it, and forget again.")
    return advice


# The rows of the database


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
    void = library.drop_faces(sql, [face.id for face in held.faces])
    for photo in held.alone:
        sql("DELETE FROM photos WHERE id = ?", (photo.id,))
    naming = _naming(sql, name)
    for answer in naming:
        sql("DELETE FROM answers WHERE id = ?", (answer,))
    # Moves of faces keep stacks and suggestions of the past.
    sql("UPDATE answers SET moves = NULL")
    sql("UPDATE stacks SET suggestion = NULL WHERE suggestion = ?", (name,))
    library.resolve_again(sql)
    # People without a face: this one, under every name.
    sql("DELETE FROM people WHERE id NOT IN (SELECT person FROM labels WHERE person IS NOT NULL)")
    return void + len(naming)


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
