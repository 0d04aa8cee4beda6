"""`facetl data`: photos to work on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from facetl.cli.options import Json, Layout, Seed
from facetl.cli.output import counted, notify, photo_progress, put, put_json, put_table
from facetl.data.check import SMALL, without_copies
from facetl.data.check import check as check_photos
from facetl.data.fetch.sources import fetch as fetch_source
from facetl.data.layouts import read_layout
from facetl.data.manifest import Manifest
from facetl.data.openset_split import split_openset, write_openset
from facetl.data.triplets import (
    Coverage,
    coverage,
    examples,
    file_of_test,
    make_triplet_sets,
    write_examples,
    write_triplets,
)

People = Annotated[Path, typer.Argument(help="Folder with a folder of photos per person.")]

app = typer.Typer(help="Get photos to work on, and test sets made of them.", no_args_is_help=True)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="sample, lfw, tfds:NAME, or a folder to check.")],
    out: Annotated[Path, typer.Argument(help="Folder to make, with a folder per person.")],
    json: Json = False,
) -> None:
    """Make a named source of faces into a folder of people."""
    with photo_progress(f"fetching {name}") as progress:
        fetched = fetch_source(name, out, progress=progress)
    if json:
        put_json(fetched.to_json())
        return
    put(f"{fetched.root}: {fetched.photos:,} photos of {fetched.people:,} people")
    if fetched.terms:
        notify(fetched.terms)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of photos.")],
    layout: Layout = "folders",
    json: Json = False,
) -> None:
    """Show who is in a folder of photos, and what would be left out of it, and why."""
    manifest = read_layout(folder, layout)
    with photo_progress("reading headers") as progress:
        found = check_photos(manifest, progress=progress)
    if json:
        put_json(found.to_json())
        return
    put(f"folder    {found.root}, read as {found.layout}")
    put(f"photos    {found.photos:,} of {found.people:,} people, {found.single:,} with one photo alone")
    for side, counts in found.sides.items():
        put(f"{side:9s} {counts['photos']:,} of {counts['people']:,} people, by the set's own lists")
    put(f"small     {found.small:,} with a side below {SMALL} pixels")
    put(f"skipped   {counted(found.skipped)}")


@app.command()
def triplets(
    folder: People,
    count: Annotated[int, typer.Option(min=1, help="How many triplets.")],
    out: Annotated[Path, typer.Option(help="CSV to write: Anchor,Positive,Negative; never written over.")],
    test: Annotated[
        float, typer.Option(help="Share of the triplets that show other people, in OUT's name with .test.csv.")
    ] = 0.0,
    classes: Annotated[
        Path | None, typer.Option(help="CSV to write, too: Photo,Person,Class,Side of every photo they show.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Make a test set of triplets that shows everyone as evenly as the photos allow."""
    manifest = without_copies(Manifest.from_folder(folder))
    sets = make_triplet_sets(manifest, count=count, test=test, seed=seed)
    content: dict[str, Any] = {"out": str(out), "seed": seed}
    for one in sets:
        path = file_of_test(out) if one.side == "test" else out
        write_triplets(path, one.triplets)
        shown = coverage(one.manifest, one.triplets)
        if one.side == "test":
            content["test"] = {"out": str(path), **shown.to_json()}
        else:
            content |= shown.to_json()
        if not json:
            _put_coverage(path, shown)
    if classes is not None:
        flat = examples(sets)
        write_examples(classes, flat)
        people = len({example.person for example in flat})
        content["classes"] = {"out": str(classes), "photos": len(flat), "people": people}
        if not json:
            put(f"{classes}: {len(flat):,} photos in {people:,} classes")
    if json:
        put_json({**content, "skipped": dict(manifest.skipped)})
        return
    notify(f"passed over: {counted(manifest.skipped)}")


def _put_coverage(path: Path, shown: Coverage) -> None:
    put(f"{path}: {shown.triplets:,} triplets, {2 * shown.triplets:,} decisions")
    table = [["", "appear", "of", "fewest times", "median", "most"]]
    for what, appear, of, times in (
        ("people", shown.people, shown.people_in_set, shown.per_person),
        ("photos", shown.photos, shown.photos_in_set, shown.per_photo),
    ):
        table.append([what, f"{appear:,}", f"{of:,}", f"{times.min:,}", f"{times.median:g}", f"{times.max:,}"])
    put_table(table)
    notify(f"{shown.anchor_people:,} people as anchors, {shown.negative_people:,} as negatives")


@app.command()
def openset(
    folder: People,
    out: Annotated[Path, typer.Option(help="New folder for gallery/, probe/ and the list of both.")],
    strangers: Annotated[
        int | None, typer.Option(min=0, help="People the gallery does not know. Default: a quarter.")
    ] = None,
    known: Annotated[
        int | None, typer.Option(min=1, help="People in the gallery. Default: the rest with 2 photos or more.")
    ] = None,
    gallery_photos: Annotated[
        int, typer.Option(min=1, help="Photos a known person gives to the gallery, at most.")
    ] = 5,
    link: Annotated[bool, typer.Option("--link", help="Link to the photos instead of copying them.")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Split people into known ones, with photos to know them by and to ask for, and strangers."""
    manifest = without_copies(Manifest.from_folder(folder))
    split = split_openset(manifest, strangers=strangers, known=known, gallery_photos=gallery_photos, seed=seed)
    with photo_progress("linking" if link else "copying") as progress:
        written = write_openset(split, out, link=link, progress=progress)
    if json:
        put_json({"out": str(written), **split.to_json()})
        return
    put(str(written))
    put_table(
        [
            ["", "people", "photos"],
            ["gallery", f"{len(split.known):,}", f"{len(split.gallery):,}"],
            ["probe, known", f"{len(split.known):,}", f"{len(split.probe):,}"],
            ["probe, strangers", f"{len(split.strangers):,}", f"{len(split.unknown):,}"],
        ]
    )
    notify(f"left out: {split.left_out:,} people; passed over: {counted(manifest.skipped)}")
