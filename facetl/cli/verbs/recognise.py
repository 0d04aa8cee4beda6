"""Apply a run to photos: `facetl verify`, `enroll`, `identify`, `embed` and `cluster`."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from facetl.cli import options
from facetl.cli.inputs import (
    DetectorName,
    DetectorWeights,
    Models,
    Photos,
    Run,
    cache_folder,
    chosen_detector,
    embedded_photos,
    find_run,
    open_known,
    open_recognizer,
)
from facetl.cli.output import counted, notify, photo_progress, put, put_json
from facetl.data.manifest import person_name
from facetl.data.walk import walk
from facetl.errors import DataError
from facetl.io.vector_file import check_vector_path
from facetl.recognition.embedded_face import EmbeddedFace, EmbeddedPhoto
from facetl.recognition.face_embeddings import write_embeddings
from facetl.recognition.run_folder import RunFolder


def verify(
    run: Run,
    first: Annotated[Path, typer.Argument(metavar="A", help="A photo.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Tell whether two photos show one person: the distance of their faces against the run's threshold.

    Of several faces in a photo, the large one near the centre is taken. Exit code 0 also for two people.
    """
    recognizer = open_recognizer(find_run(run, models), chosen_detector(detector, detector_weights))
    pair = recognizer.verify(first, second)
    for path, faces in zip((first, second), pair.faces, strict=True):
        if faces > 1:
            notify(f"{path}: {faces} faces; the large one near the centre was taken")
    if json:
        put_json(pair.to_json())
        return
    put("one person" if pair.verified else "two people")
    put(f"distance     {pair.distance:.4f}, threshold {pair.threshold:.4f}")
    sure = "not known: the run is not calibrated" if pair.probability is None else f"{pair.probability:.1%}"
    put(f"probability  {sure}")


def enroll(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")],
    photos: Photos,
    face: Annotated[int | None, typer.Option(min=1, help="Which face of the photo, counted from the left.")] = None,
    largest: Annotated[bool, typer.Option("--largest", help="Of several faces in a photo, the largest.")] = False,
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Put a person's photos into a run's gallery, so that `facetl identify` can name the person.

    What is kept is embeddings, never photos. A photo with several faces is refused unless --face or --largest
    chooses one. Training the run anew ends its gallery: enrol again.
    """
    if face is not None and largest:
        raise typer.BadParameter("give one of --face and --largest")
    folder = find_run(run, models, change=True)
    # Before minutes are spent on photos.
    person_name(name)
    in_run = RunFolder(folder)
    head = in_run.head_digest()
    recognizer = open_recognizer(folder, chosen_detector(detector, detector_weights))
    skipped: Counter[str] = Counter()
    chosen: list[tuple[str, EmbeddedFace]] = []
    for photo in embedded_photos(recognizer, photos, skipped):
        if photo.faces:
            chosen.append((photo.sha, _face_of(photo, face, largest)))
        else:
            skipped["no-face"] += 1
    if not chosen:
        reasons = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "no photo"
        raise DataError(f"enrolling {name} needs photos that show a face, got {reasons}. Give others.")
    with in_run.changing_gallery(head=head):
        gallery, done = in_run.gallery().with_faces(name, chosen)
        in_run.write_gallery(gallery)
    counts = gallery.counts()
    total, people = counts[done.name], len(counts)
    if json:
        put_json({"run": str(folder), **asdict(done), "total": total, "people": people, "skipped": dict(skipped)})
        return
    put(f"{done.name}: {done.faces:,} faces enrolled, {total:,} in all")
    if done.known:
        put(f"known already  {done.known:,}")
    for other, faces in done.moved.items():
        put(f"moved          {faces:,} from {other}")
    put(f"skipped        {counted(skipped)}")
    put(f"gallery        {people:,} people")


def _face_of(photo: EmbeddedPhoto, face: int | None, largest: bool) -> EmbeddedFace:
    """Return the face that is enrolled of a photo; DataError where it has several and no option chooses."""
    if face is not None:
        if face > len(photo.faces):
            raise DataError(f"--face {face}: {photo.path} shows {len(photo.faces)}, counted from the left from 1.")
        return photo.faces[face - 1]
    if len(photo.faces) > 1 and not largest:
        where = "; ".join(
            f"{number}: {' '.join(f'{edge:g}' for edge in seen.box)}" for number, seen in enumerate(photo.faces, 1)
        )
        raise DataError(
            f"{photo.path}: a photo to enrol shows one face, or --face N or --largest says which; found "
            f"{len(photo.faces)} ({where}). Nothing was enrolled."
        )
    return photo.largest


def identify(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="Name of a run below --models, or its folder; or a library, for the people named there."
        ),
    ],
    photos: Photos,
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Name every face of photos by the people who were enrolled, or say unknown: a line a face.

    A line has path, box, name, distance and probability: how likely the face and a photo of that person show one
    person. A stranger can resemble somebody: a name is a suggestion.
    """
    recognizer, identifier = open_known(run, models, chosen_detector(detector, detector_weights))
    skipped: Counter[str] = Counter()
    count, found = 0, []
    for photo in embedded_photos(recognizer, photos, skipped):
        count += 1
        named = identifier.identify(photo)
        found += [face.to_json() for face in named]
        if not named:
            notify(f"{photo.path}: no face")
        if not json:
            for face in named:
                put(face.line)
    if json:
        put_json({"faces": found, "photos": count, "people": len(identifier.people), "skipped": dict(skipped)})
    elif skipped:
        notify(f"skipped {counted(skipped)}")


def embed(
    run: Run,
    photos: Photos,
    out: Annotated[
        Path,
        typer.Option(
            help="File to write: .csv or .parquet with the columns path, left, top, right, bottom, e0, e1, …; .npy "
            "with the embeddings [faces, width] float32, and the other columns beside it in NAME.rows.csv."
        ),
    ],
    all_faces: Annotated[
        bool, typer.Option("--all-faces/--one-face", help="Every face of a photo, or only the one it is about.")
    ] = False,
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos a forward pass.")] = 32,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Write the embedding of each photo, with its path and the face's box; what cannot be embedded is counted."""
    check_vector_path(out)
    recognizer = open_recognizer(find_run(run, models), chosen_detector(detector, detector_weights))
    album = walk(photos)
    with photo_progress("embedding") as progress:
        faces = write_embeddings(
            out,
            recognizer.embed_batches(
                album.paths, skipped=album.skipped, all_faces=all_faces, batch_size=batch_size, on_progress=progress
            ),
            skipped=album.skipped,
        )
    width = recognizer.head.output_shape[-1]
    if json:
        content = {"photos": len(album.paths), "faces": faces, "width": width}
        put_json({**content, "skipped": dict(album.skipped), "out": str(out)})
        return
    put(f"photos    {len(album.paths):,}")
    put(f"faces     {faces:,} embeddings of {width} numbers")
    put(f"skipped   {counted(album.skipped)}")
    put(f"file      {out}")


def cluster(
    run: Run,
    photos: Photos,
    out: Annotated[Path, typer.Option(help="CSV with the columns path, face (from the left), stack, confidence.")],
    detector: DetectorName = None,
    detector_weights: DetectorWeights = None,
    seed: Annotated[int, typer.Option(hidden=True, help="No effect, since nothing here is random: for scripts.")] = 0,
    models: Models = Path("models"),
    cache: options.Cache = None,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Group the faces of photos into stacks that seem to be one person's each.

    Rather two stacks of one person than one of two. To name them and to correct what is wrong: facetl people.
    """
    recognizer = open_recognizer(find_run(run, models), chosen_detector(detector, detector_weights))
    from facetl.clustering.album_stacks import stack_album

    album = walk(photos)
    with photo_progress("finding faces") as faces, photo_progress("features", unit="faces") as progress:
        done = stack_album(
            recognizer,
            album.paths,
            cache=cache_folder(cache),
            skipped=album.skipped,
            on_faces=faces,
            on_progress=progress,
            on_notice=notify,
        )
    done.write(out)
    if json:
        put_json({**done.to_json(), "out": str(out)})
        return
    put(f"photos    {done.photos:,}, {done.without_face:,} without a face")
    put(f"faces     {len(done.faces):,}")
    put(f"stacks    {done.stacks:,}")
    put(f"skipped   {counted(done.skipped)}")
    put(f"table     {out}")
