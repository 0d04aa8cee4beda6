"""`facetl people`: a photo collection, its people, and the page on which to name them."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from facetl._tensorflow import start_tensorflow
from facetl.cli import options
from facetl.cli.inputs import DetectorWeights, Models, choose_run, open_run
from facetl.cli.options import group_with_default
from facetl.cli.output import EpochTable, command, counted, notify, photo_progress, put, put_json, put_json_or_line
from facetl.errors import DataError
from facetl.people.library import Library
from facetl.people.library_settings import remember_folders, run_in_use, use_detector
from facetl.people.missing_photos import prune as prune_library
from facetl.people.people_export import export as export_people
from facetl.people.photo_import import import_photos
from facetl.people.store.models import LibraryAnswer, Stack
from facetl.people.store.stack_rows import Order

if TYPE_CHECKING:
    from facetl.people.learned_head import Proposal

Answer = Literal["same", "different", "not-a-face", "stranger"]
LibraryFolder = Annotated[Path, typer.Argument(metavar="LIBRARY", help="Folder of a library.")]
app = typer.Typer(
    cls=group_with_default("serve"),
    help="Photos to named people: `facetl people LIBRARY` opens the page on this machine alone. Begin with import.",
    no_args_is_help=True,
)


@app.command()
def serve(
    library: LibraryFolder,
    run: Annotated[str | None, typer.Option(help="Use this run from now on, by name or folder.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="On 127.0.0.1; 0 finds a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the address in a browser.")] = True,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Open the page on a library: `facetl people LIBRARY`. It ends with Ctrl-C.

    The address holds a token, and only this machine is answered. Nothing is fetched from elsewhere.
    """
    # No other verb waits for the web server's packages.
    from facetl.people.web.server import Server
    from facetl.people.web.service import PeopleService

    with Library.open(library) as opened:
        if run is not None:
            choose_run(opened, run, None, models)
        server = Server(opened, service=PeopleService(opened, load_run=lambda: open_run(opened)), port=port)
        put_json_or_line(json, {"address": server.address}, server.address)
        notify("this address is the key to your library: keep it to yourself. Ctrl-C ends the page")
        if browser:
            webbrowser.open(server.address)
        server.run()


@app.command("import")
def import_(
    photos: Annotated[list[Path], typer.Argument(metavar="PHOTOS…", help="Folders of photos, or photos; only read.")],
    library: Annotated[Path, typer.Option(help="Folder of the library; made where it is missing.")],
    run: Annotated[
        str | None,
        typer.Option(
            help="A run that facetl train made, by name below --models or by folder. Default: the library's, else the "
            "only one below --models."
        ),
    ] = None,
    extractor: Annotated[
        str | None,
        typer.Option(
            help="Instead of a run: dlib, a net trained on millions of faces, without training of yours. It needs "
            "facetl[dlib], and tells people apart far better than a run on few people."
        ),
    ] = None,
    detector: Annotated[
        str | None,
        typer.Option(
            help="mtcnn, yunet, or none for photos cropped to a face. Default: the library's, at first mtcnn."
        ),
    ] = None,
    detector_weights: DetectorWeights = None,
    faces_only: Annotated[
        bool,
        typer.Option("--faces-only", help="Find faces, which needs no run; the same command without it stacks them."),
    ] = False,
    models: Models = Path("models"),
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Find the faces of a photo collection, and stack those that seem to be one person's.

    Photos stay where they are and are never written. The same command goes on after an interruption, and takes in what
    is new. Which net tells people apart: see --run and --extractor.
    """
    with Library.open(library, create=True) as opened:
        # Before minutes are spent on photos: whether there is a run at all. To find faces, none is needed.
        wanted = run is not None or extractor is not None or not faces_only
        folder = choose_run(opened, run, extractor, models) if wanted else run_in_use(opened)
        spec = use_detector(opened, detector, detector_weights)
        damaged: list[DataError] = []
        with photo_progress("finding faces") as progress:
            report = import_photos(opened, photos, detector=spec, on_progress=progress, on_damaged=damaged.append)
        remember_folders(opened, [path for path in photos if path.is_dir()])
        stacked = None
        if not faces_only:
            recognizer = open_run(opened)
            from facetl.people.library_clusters import stack_what_is_new

            with photo_progress("stacking faces", unit="faces") as progress:
                stacked = stack_what_is_new(opened, recognizer, on_progress=progress)
        counts = opened.counts()
    if json:
        content = {"library": str(library), "run": None if folder is None else str(folder), **report.to_json()}
        put_json({**content, "stacking": None if stacked is None else stacked.to_json(), "counts": counts})
        return
    put(f"photos    {report.photos:,}: {report.added:,} new, {report.known:,} known, {report.duplicates:,} copies")
    put(f"faces     {report.faces:,} new, {report.poor:,} of them poor; {report.without_face:,} photos without")
    if report.near_duplicates:
        put(f"alike     {report.near_duplicates:,} photos are nearly another one")
    if report.named_from_regions:
        put(f"named     {report.named_from_regions:,} faces, by the photos' own metadata")
    if report.contradictory_names:
        put(f"named     {report.contradictory_names:,} photos by copies' sidecars that differ; the first path's holds")
    if damaged:
        put(f"damaged   the metadata of {len(damaged):,} photos, in part or as a whole; the first: {damaged[0]}")
    if report.replaced or report.carried:
        put(f"edited    {report.replaced:,} photos, {report.carried:,} of their faces keep their answers")
    if report.missing:
        put(f"missing   {report.missing:,} photos{_below(report.absent)}: {command('people', 'prune', library)}")
    put(f"skipped   {counted(report.skipped)}")
    put(f"library   {counts['faces']:,} faces in {counts['photos']:,} photos, {counts['stacks']:,} stacks")
    put(f"seconds   {report.seconds:.1f}")
    if faces_only:
        put("next      the same command without --faces-only, which stacks them")
    else:
        put(f"next      {command('people', library)}")


@app.command()
def cluster(library: LibraryFolder, json: options.Json = False, verbose: options.Verbose = False) -> None:
    """Stack all faces of a library anew; your answers stay."""
    with Library.open(library) as opened:
        recognizer = open_run(opened)
        from facetl.people.library_clusters import restack

        with photo_progress("stacking faces", unit="faces") as progress:
            report = restack(opened, recognizer, on_progress=progress)
    if json:
        put_json(report.to_json())
        return
    for name, value in report.to_json().items():
        put(f"{name:12s}{value:,.1f}" if isinstance(value, float) else f"{name:12s}{value:,}")


@app.command()
def prune(
    library: LibraryFolder,
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FOLDER…]", help="Drop photos below these, too, though the folders are not there."),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Drop them; without it they are only counted.")] = False,
    json: options.Json = False,
) -> None:
    """Drop the photos whose files were deleted, with their faces and your answers about these.

    Photos below a folder that is not there, or is empty, stay unless you name it: its disk may not be connected. What
    is dropped cannot be undone; a photo that comes back later is a new one.
    """
    with Library.open(library) as opened:
        report = prune_library(opened, dropped=folders or (), apply=apply)
    if json:
        put_json(report.to_json())
        return
    names = ", ".join(f"{name} {count:,}" for name, count in report.names.items())
    put(f"photos    {report.photos:,} {'dropped' if apply else 'to drop'}, {report.places:,} paths")
    put(f"faces     {report.faces:,}, {report.answered:,} with answers of yours{f' ({names})' if names else ''}")
    for folder, count in report.kept.items():
        drop = command("people", "prune", library, folder)
        put(f"kept      {count:,} below {folder}, which is not there: {drop}")
    if not apply and (report.photos or report.places):
        notify(f"nothing is changed yet: {command('people', 'prune', library, *(folders or ()), '--apply')}")


@app.command()
def learn(
    library: LibraryFolder,
    apply: Annotated[
        bool, typer.Option("--apply", help="Use what was learnt, and stack all faces anew; learn first if need be.")
    ] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Delete what was learnt and not applied.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Use the run again that was in use before.")] = False,
    seed: options.Seed = 0,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """Train a new head on the people who were named, and show what it would change; nothing changes before --apply.

    Some of their faces are held out: on these the new head is compared with the one in use, and proposed only if it is
    better. The old run is kept.
    """
    if apply + discard + back > 1:
        raise typer.BadParameter("give one of --apply, --discard and --back")
    with Library.open(library) as opened:
        start_tensorflow()
        from facetl.people import learned_head

        if discard:
            learned_head.discard(opened)
            put_json_or_line(json, {"discarded": True}, "what was learnt and not applied is deleted")
            return
        if back:
            with photo_progress("stacking faces", unit="faces") as progress:
                folder = learned_head.go_back(opened, on_progress=progress)
            put_json_or_line(json, {"run": str(folder)}, f"{folder} is in use again")
            return
        if apply and learned_head.waiting(opened) is not None:
            with photo_progress("stacking faces", unit="faces") as progress:
                folder = learned_head.apply(opened, on_progress=progress)
            put_json_or_line(json, {"run": str(folder)}, f"{folder} is in use; --back uses the one before")
            return
        with photo_progress("features", unit="faces") as progress:
            proposal = learned_head.learn(opened, seed=seed, on_progress=progress, on_epoch=EpochTable())
        if apply and proposal.better:
            with photo_progress("stacking faces", unit="faces") as progress:
                learned_head.apply(opened, on_progress=progress)
    if json:
        put_json({**proposal.to_json(), "applied": apply and proposal.better})
    else:
        _put_proposal(proposal, library, applied=apply and proposal.better)


@app.command()
def export(
    library: LibraryFolder,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder.")],
    kinds: Annotated[
        list[str],
        typer.Option("--as", help="folders (one a person), csv, or xmp (sidecars); may be given several times."),
    ],
    copy: Annotated[bool, typer.Option("--copy", help="Folders hold copies instead of hard links.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Folders hold symbolic links.")] = False,
    names: Annotated[
        list[str] | None, typer.Option("--name", help="This person alone; may be given several times.")
    ] = None,
    said_only: Annotated[
        bool, typer.Option("--said-only", help="Leave out names that a stack gives and nobody confirmed.")
    ] = False,
    beside: Annotated[
        bool, typer.Option("--beside-photos", help="Write sidecars beside the photos instead of into OUT.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Write the people of a library for other programs. Photos themselves are never written.

    A hard link is the photo itself under another name: it takes no room, and what changes one changes the other.
    """
    if copy and link:
        raise typer.BadParameter("give one of --copy and --link")
    with Library.open(library) as opened, photo_progress("exporting") as progress:
        report = export_people(
            opened,
            out,
            kinds=kinds,
            links="copy" if copy else "symbolic" if link else "hard",
            names=names,
            confirmed_only=said_only,
            beside=beside,
            on_progress=progress,
        )
    if json:
        put_json(report.to_json())
        return
    put(f"people    {report.people:,} on {report.photos:,} photos")
    put(f"written   {report.files:,} files, {report.rows:,} rows, {report.sidecars:,} sidecars")
    put(f"skipped   {counted(report.skipped)}")
    put(f"folder    {report.folder}")


@app.command()
def stacks(
    library: LibraryFolder,
    stack: Annotated[int | None, typer.Argument(metavar="[STACK]", help="Show the faces of this one.")] = None,
    order: Annotated[Order, typer.Option(help="By which the stacks are sorted.")] = "size",
    offset: Annotated[int, typer.Option(min=0, help="Pass over so many.")] = 0,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 60,
    json: options.Json = False,
) -> None:
    """List a library's stacks, a line each; or the faces of one."""
    with Library.open(library) as opened:
        if stack is not None:
            found, members = opened.stack(stack)
            faces = [{**_face(opened, member.face), "confidence": member.confidence} for member in members]
            content: dict[str, Any] = {**found.to_json(), "faces": faces}
            lines = [f"{face['face']}  {_where(face)}  {_box(face)}  {face['confidence']:.2f}" for face in faces]
        else:
            listed = opened.stacks(order=order, offset=offset, limit=limit)
            rows = [{**one.to_json(), "cover": _face(opened, one.cover)} for one in listed]
            content = {"stacks": rows, "total": opened.stack_count()}
            lines = [_stack_line(one, row) for one, row in zip(listed, rows, strict=True)]
    if json:
        put_json(content)
        return
    for line in lines:
        put(line)


@app.command()
def name(
    library: LibraryFolder,
    stack: Annotated[int, typer.Argument(metavar="STACK", help="Its number, as people stacks lists it.")],
    who: Annotated[str, typer.Argument(metavar="NAME", help="The person's name.")],
    json: options.Json = False,
) -> None:
    """Name the person whose faces a stack holds."""
    with Library.open(library) as opened:
        given = opened.name_stack(stack, who)
    put_json_or_line(json, given.to_json(), _sentence(given))


@app.command()
def split(
    library: LibraryFolder,
    stack: Annotated[int, typer.Argument(metavar="STACK", help="Its number.")],
    faces: Annotated[list[int], typer.Argument(metavar="FACE…", help="Those of its faces that are somebody else's.")],
    json: options.Json = False,
) -> None:
    """Split off faces of a stack that are another person's; they get a stack of their own."""
    with Library.open(library) as opened:
        new = opened.split_stack(stack, faces)
    put_json_or_line(json, {"stack": stack, "new": new}, f"{len(faces):,} faces lie in stack {new}")


@app.command()
def merge(
    library: LibraryFolder,
    first: Annotated[int, typer.Argument(metavar="STACK", help="Takes in the other.")],
    second: Annotated[int, typer.Argument(metavar="STACK", help="Is taken in.")],
    json: options.Json = False,
) -> None:
    """Merge two stacks of one person."""
    with Library.open(library) as opened:
        given = opened.merge_stacks(first, second)
    put_json_or_line(json, given.to_json(), _sentence(given))


@app.command()
def questions(
    library: LibraryFolder,
    count: Annotated[int, typer.Option(min=1, help="At most so many.")] = 10,
    json: options.Json = False,
    verbose: options.Verbose = False,
) -> None:
    """List pairs of faces of which it helps most to know whether they are one person's, the most useful first."""
    with Library.open(library) as opened:
        recognizer = open_run(opened)
        from facetl.people.library_clusters import next_questions

        with photo_progress("features", unit="faces") as progress:
            asked = next_questions(opened, recognizer, count, on_progress=progress)
        rows: list[dict[str, Any]] = [
            {"first": _face(opened, one.first), "second": _face(opened, one.second), "probability": one.probability}
            for one in asked
        ]
    if json:
        put_json({"questions": rows})
        return
    for row in rows:
        first, second = row["first"], row["second"]
        put(f"{first['face']} {_where(first)}  {second['face']} {_where(second)}  {row['probability']:.0%}")


@app.command()
def answer(
    library: LibraryFolder,
    what: Annotated[
        Answer,
        typer.Argument(metavar="ANSWER", help="Of the faces: one person's, two people's, none, or nobody's to name."),
    ],
    faces: Annotated[list[int], typer.Argument(metavar="FACE…", help="Numbers of faces; different takes two.")],
    json: options.Json = False,
) -> None:
    """Mark faces as one person's, two people's, no faces, or of nobody you want to name."""
    if what == "different" and len(faces) != 2:
        raise typer.BadParameter(f"different takes two faces, got {len(faces)}.")
    with Library.open(library) as opened:
        if what == "different":
            given = opened.mark_different(faces[:1], faces[1:])
        else:
            marks = {"same": opened.mark_same, "not-a-face": opened.mark_not_a_face, "stranger": opened.mark_stranger}
            given = marks[what](faces)
    put_json_or_line(json, given.to_json(), _sentence(given))


@app.command()
def undo(library: LibraryFolder, json: options.Json = False) -> None:
    """Take back the last answer, then the one before it, and so on."""
    with Library.open(library) as opened:
        taken = opened.undo()
    if taken is None:
        put_json_or_line(json, {"undone": None}, "nothing to undo")
    else:
        put_json_or_line(json, {"undone": taken.to_json()}, f"undone: {_sentence(taken)}")


def _face(library: Library, face: int) -> dict[str, Any]:
    found = library.face(face)
    photo = library.photo(found.photo)
    return {
        "face": face,
        "path": None if photo.path is None else str(photo.path),
        "box": [round(edge, 1) for edge in found.face.box],
    }


def _where(face: dict[str, Any]) -> str:
    return face["path"] or "(replaced)"


def _below(absent: Mapping[str, int]) -> str:
    """Return how many photos lie below folders that are not there."""
    if not absent:
        return ""
    return f", {sum(absent.values()):,} of them below folders that are not there ({', '.join(absent)})"


def _box(face: dict[str, Any]) -> str:
    return ",".join(f"{edge:.0f}" for edge in face["box"])


def _stack_line(stack: Stack, row: dict[str, Any]) -> str:
    who = stack.name or (f"{stack.suggestion}?" if stack.suggestion else "-")
    return (
        f"{stack.id}  {stack.size} faces  {stack.confidence:.2f}  {who}  {_where(row['cover'])}  {_box(row['cover'])}"
    )


def _sentence(given: LibraryAnswer) -> str:
    faces = len(given.left) + len(given.right)
    if given.kind == "rename":
        return f"{given.old} is called {given.name}"
    return f"{given.kind}{f' {given.name}' if given.name else ''}, {faces:,} faces"


def _put_proposal(proposal: Proposal, library: Path, *, applied: bool) -> None:
    measured, changes = proposal.measured, proposal.changes
    put(proposal.headline)
    put(f"learnt    from {proposal.faces:,} faces of {proposal.people:,} people, {proposal.held_out:,} held out")
    put(f"found     {measured.found_before:.1%} → {measured.found_after:.1%}")
    put(f"AUC       {measured.auc_before:.4f} → {measured.auc_after:.4f}, {measured.gain:+.4f} ± {measured.stderr:.4f}")
    error = f"± {measured.unseen_stderr:.4f}" if measured.unseen_stderr else "(too few to tell an error)"
    put(f"          of people not trained on {measured.unseen_gain:+.4f} {error}")
    if changes is None:
        return
    became = f"{changes.joined:,} joined, {changes.split:,} split"
    put(f"stacks    {changes.stacks_before:,} → {changes.stacks_after:,}: {became}")
    put(f"faces     {changes.moved:,} move, {changes.named:,} get a name suggested")
    put(f"run       {proposal.run}" + (" in use" if applied else ""))
    if not applied:
        notify(f"nothing is changed yet: {command('people', 'learn', library, '--apply')}")
