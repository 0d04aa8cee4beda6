"""Erasure of a person from a run: gallery, lists of people, pictures, cached features; then a search of every file."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from facetl.data.layouts import FOLDERS, read_layout
from facetl.data.manifest import person_name
from facetl.embeddings.index import Index, MissingCacheError, turned_key
from facetl.embeddings.maintenance import keep
from facetl.errors import DataError
from facetl.faces.landmark_store import existing_store
from facetl.io.json import JsonFields
from facetl.methods.continual.exemplars import Exemplars
from facetl.people.byte_search import Trace, Wanted, trace
from facetl.people.library_erasure import spellings, wanted_name
from facetl.recognition.gallery_file import GalleryFile
from facetl.recognition.run_folder import CONFIG, RunFolder, SplitPeople
from facetl.runs.versions import VERSIONS

# What shows held-out people by picture and name; it is made by training and cannot be made again without it.
PICTURES = ("report.html", "logs/sprite.png", "logs/names.tsv", "logs/embeddings.tsv", "logs/projector_config.pbtxt")
_NUMBERS = 64  # bytes of an embedding that are looked for


@dataclass(frozen=True)
class RunForgotten(JsonFields):
    """Counts of what was erased of a person from a run, and traces of what is left.

    Attributes:
        run: its folder.
        faces: enrolled faces that are gone.
        side: whether the person was in `train`, `validation` or `test`; None for no list.
        deleted: files of the run that showed the person.
        rows: features and found faces dropped from the cache.
        remains: where something of the person is still found.
        advice: what to do about what cannot be reached.
    """

    run: str
    faces: int
    side: str | None
    deleted: tuple[str, ...]
    rows: int
    remains: tuple[Trace, ...]
    advice: tuple[str, ...]


def forget_in_run(
    folder: Path, name: str, *, photos: Path | None, cache: Path | None, layout: str = FOLDERS
) -> RunForgotten | None:
    """Erase somebody from a run folder and its other versions, and from the cache the features of photos that only this
    person alone is on.

    Args:
        photos: the folder that the run was trained on; None where there is none.
        cache: the cache of its features; None leaves it.
        layout: how the people lie in `photos`; see `facetl.data.layouts.read_layout`.

    Photos are not touched. Returns None where nothing in the run names the person. Raises RunError where it is
    damaged or another process changes it, DataError for what is no name, CacheLockedError while another process fills
    the cache.
    """
    name = person_name(name)
    with RunFolder(folder).changing_gallery():
        return _forget(folder, name, photos, cache, layout)


def _forget(folder: Path, name: str, photos: Path | None, cache: Path | None, layout: str) -> RunForgotten | None:
    run = RunFolder(folder)
    gallery, people = run.stored_gallery(), run.people()
    rows = [] if gallery is None else [row for row, own in enumerate(gallery.names) if own == name]
    side = next((side for side, names in (people or {}).items() if name in names), None)
    wanted = _wanted(name, gallery, rows, people)
    shown = sorted({one.file for one in trace(folder, wanted) if one.file in PICTURES})
    known, untold = _features_of(name, photos, cache, layout)
    exemplars = Exemplars.read(folder)
    kept = exemplars is not None and name in exemplars.people
    # What an update replaced is a run like any other, kept within the run.
    versions = [path.parent for path in sorted((folder / VERSIONS).glob(f"*/{CONFIG}"))]
    earlier = [one for one in (_forget(path, name, None, None, layout) for path in versions) if one]
    if not (rows or side or shown or known or earlier or kept):
        return None
    # Before the lists that tell that somebody is on them, for the next call to go on after this one was killed.
    deleted = tuple(
        one for one in PICTURES if (shown or name in (people or {}).get("test", ())) and (folder / one).exists()
    )
    for one in deleted:
        (folder / one).unlink()
    if exemplars is not None and kept:
        exemplars.without([name]).write(folder)
    if rows:
        run.write_gallery((gallery or GalleryFile.empty("")).without(name))
    if people is not None and side is not None:
        kept_photos = run.held_out_photos()
        run.write_people(
            {one: names - {name} for one, names in people.items()},
            kept_photos and {one: {who: own[who] for who in own if who != name} for one, own in kept_photos.items()},
        )
    dropped = _drop_features(known, cache)
    remains = tuple(trace(folder, wanted))
    return RunForgotten(
        run=str(folder),
        faces=len(rows) + sum(one.faces for one in earlier),
        side=side,
        deleted=deleted,
        rows=dropped,
        remains=remains,
        advice=(*_advice(folder, name, side, photos, remains), *untold),
    )


def _wanted(name: str, gallery: GalleryFile | None, rows: Collection[int], people: SplitPeople | None) -> list[Wanted]:
    """Return what is looked for: the name, however it is written, and the embeddings of the enrolled faces."""
    names = {*(gallery.names if gallery else ()), *(one for side in (people or {}).values() for one in side)}
    wanted = [wanted_name(name, names, _written)]
    if gallery is not None and rows:
        wanted.append(Wanted("embedding", {gallery.embeddings[row].tobytes()[:_NUMBERS] for row in rows}))
    return wanted


def _written(name: str) -> set[bytes]:
    decomposed = unicodedata.normalize("NFD", name)
    return spellings(name) | spellings(decomposed) | {name.encode("utf-32-le")}


def _features_of(name: str, photos: Path | None, cache: Path | None, layout: str) -> tuple[set[bytes], list[str]]:
    """Return the sha256 of photos that are the person's and nobody else's; and the reason where that is unknown."""
    if photos is None or cache is None:
        return set(), []
    try:
        with Index.open(cache, write=False) as index:
            seen = index.photos()
    except MissingCacheError:
        return set(), []
    with existing_store(cache, write=False) as store:
        seen += store.photos() if store else []
    try:
        is_own = _ownership(name, photos, layout)
    except DataError as error:
        reason = f"It is unknown whose the features in the cache are: {error} Delete the person's photos, then run "
        return set(), [f"{reason}facetl cache gc, which drops the features of photos that are gone."]
    own: set[bytes] = set()
    others: set[bytes] = set()
    for path, sha in seen:
        (own if is_own(Path(path)) else others).add(sha)
    return own - others, []


def _ownership(name: str, photos: Path, layout: str) -> Callable[[Path], bool]:
    """Return a test of whether a photo is the person's; DataError where the folder does not have the layout."""
    if layout == FOLDERS:
        # By the path alone: photos that were deleted since left features behind.
        return lambda path: (
            path.is_relative_to(photos) and unicodedata.normalize("NFC", path.relative_to(photos).parts[0]) == name
        )
    own = {photo.path for photo in read_layout(photos, layout).photos if photo.identity == name}
    return own.__contains__


def _drop_features(gone: Collection[bytes], cache: Path | None) -> int:
    if not gone or cache is None:
        return 0
    dropped = 0
    with existing_store(cache, write=True) as store:
        if store:
            seen = store.photos()
            store.forget([path for path, sha in seen if sha in gone])
            dropped += store.keep({sha for _, sha in seen} - set(gone))
    with Index.open(cache, write=False) as index:
        keys = {
            key
            for extractor in index.extractors()
            for shard in index.shards(extractor.id)
            for key, _ in index.rows_of(extractor.id, shard)
        }
        # Photos that are remembered and have no row, being unreadable, stay remembered.
        keys |= {sha for _, sha in index.photos()}
    of_gone = {*gone, *(bytes.fromhex(turned_key(sha.hex())) for sha in gone)}
    return dropped + keep(cache, {key.hex() for key in keys - of_gone})


def _advice(folder: Path, name: str, side: str | None, photos: Path | None, remains: Collection[Trace]) -> list[str]:
    advice = []
    if side in ("train", "validation"):
        what = "learnt from" if side == "train" else "chosen and calibrated by"
        advice.append(
            f"The head was {what} the person's photos, which nothing takes out of it: train anew without them, then "
            f"delete {folder}."
        )
    if photos is not None and (photos / name).is_dir():
        advice.append(f"The photos were not touched: delete {photos / name}, or training finds the person again.")
    if remains:
        files = ", ".join(sorted({one.file for one in remains}))
        advice.append(f"Something of the person is still in {files}: look there, or delete the run.")
    advice.append(
        "Out of reach: copies of this run and of its report, what evaluate wrote elsewhere by --out, exports, backups."
    )
    return advice
