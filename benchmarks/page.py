"""The people page on a made-up library of 20,000 faces, in headless Chromium; beside it, every face sent at once.

    python benchmarks/page.py [--faces 20000] [--stacks 900] [--rounds 5] [--keep FOLDER] [--chromium FILE]

Each view is opened `rounds` times with an empty browser cache. `settled` is when every picture in sight is there, from
the start of the navigation; `on key` is when a pressed key has ticked a tile, from the same start, the driver's own
time included. `a stack, by click` goes on from the stacks of the same browser, as a user does, and counts until the
later of that and the first paint. The limit beside it is one request of the smallest file. Memory is the proportional
share (PSS) of Chromium's processes and of the server's. Prints tables and one JSON line; says so and ends without
Chromium.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facetl.faces.detectors import Face
from facetl.people.library import Library
from facetl.people.store import photos as photos_module
from facetl.people.store.models import NewFace, NewPhoto, StackDraft
from facetl.people.web.server import Server

ON_A_PHOTO = 4
DRAWN = 150
SIZE = (640, 480)
# Set before anything else of a page runs: notes when all pictures in sight are there, and how long frames take.
WATCH = """
window.settled = null; window.frames = [];
let before = 0;
const look = now => {
  if (before) frames.push(now - before);
  before = now;
  if (settled === null && document.readyState === 'complete') {
    const seen = [...document.images].filter(one => one.checkVisibility() && one.getBoundingClientRect().width > 0
      && one.getBoundingClientRect().top < innerHeight && one.getBoundingClientRect().bottom > 0);
    if (seen.every(one => one.complete)) settled = performance.now();
  }
  requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=20_000)
    parser.add_argument("--stacks", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the made-up library, used again if it is there")
    parser.add_argument("--chromium", help="Chromium's program; found by its usual names")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def fill(folder: Path, photos: Path, faces: int, stacks: int, seed: int) -> None:
    """Make a library: photos of patterns, thumbnails as large as real ones, stacks of very unlike sizes.

    Patterns come again, in files that differ by what follows the picture: Chromium reads and decodes each.
    """
    rng = np.random.default_rng(seed)
    photos.mkdir(parents=True)
    pictures = [pattern(rng, SIZE, 4) for _ in range(DRAWN)]
    thumbs = [pattern(rng, (160, 160), 12) for _ in range(DRAWN)]
    with Library.open(folder, create=True) as library:
        ids: list[int] = []
        for number in range(-(-faces // ON_A_PHOTO)):
            data = pictures[number % DRAWN] + number.to_bytes(8, "big")
            path = photos / f"{number:05d}.jpg"
            path.write_bytes(data)
            sha = hashlib.sha256(data).hexdigest()
            taken = f"{2000 + number * 25 * ON_A_PHOTO // faces}-{1 + number % 12:02d}-{1 + number % 28:02d}T10:00:00"
            new = [face_of(sha, place) for place in range(ON_A_PHOTO)]
            for place, face in enumerate(new):
                thumb = library.thumb(face.key)
                thumb.parent.mkdir(parents=True, exist_ok=True)
                thumb.write_bytes(thumbs[(number * ON_A_PHOTO + place) % DRAWN] + bytes.fromhex(face.key))
            with library.database.write() as sql:
                photo = photos_module.put_photo(sql, NewPhoto(sha, *SIZE, taken))
                photos_module.put_paths(sql, photo, [path])
                ids += photos_module.put_faces(sql, photo, new)
        library.write_stacks(drafts(ids[:faces], stacks, rng))
        for stack in library.stacks(limit=60)[::2]:
            library.name_stack(stack.id, f"Person {stack.id}")


def face_of(sha: str, place: int) -> NewFace:
    """Return the face at a place of a photo."""
    left = 20 + place * 150
    key = hashlib.sha256(f"{sha} {place}".encode()).hexdigest()
    marks = np.array([[30, 40], [80, 40], [55, 70], [35, 95], [75, 95]], np.float32) + np.array([left, 120])
    face = Face((left, 120, left + 110, 250), marks.astype(np.float32), 0.99)
    return NewFace(key, face, size=110.0, sharpness=1.0, yaw=0.0, pitch=0.0, roll=0.0)


def pattern(rng: np.random.Generator, size: tuple[int, int], detail: float) -> bytes:
    """Return the JPEG of a smooth pattern with some noise."""
    width, height = size
    coarse = rng.integers(30, 225, (7, 7, 3)).astype(np.float32)
    image = cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)
    grain = cv2.resize(rng.normal(0, detail, (height // 2, width // 2)).astype(np.float32), size)
    return bytes(cv2.imencode(".jpg", np.clip(image + grain[..., None], 0, 255).astype(np.uint8))[1].tobytes())


def drafts(ids: list[int], stacks: int, rng: np.random.Generator) -> list[StackDraft]:
    """Deal faces out to stacks: some people are on every photo, most on few. No photo is twice on a stack."""
    weights = 1 / np.arange(1, stacks + 1) ** 0.85
    dealt: list[list[int]] = [[] for _ in range(stacks)]
    for start in range(0, len(ids), ON_A_PHOTO):
        photo = ids[start : start + ON_A_PHOTO]
        for face, stack in zip(
            photo, rng.choice(stacks, len(photo), replace=False, p=weights / weights.sum()), strict=True
        ):
            dealt[stack].append(face)
    found = []
    for faces in filter(None, dealt):
        sure = tuple(np.sort(rng.uniform(0.5, 1.0, len(faces)))[::-1].tolist())
        found.append(StackDraft(tuple(faces), sure, faces[0], float(np.mean(sure)), None))
    return found


def pss(root: int) -> float:
    """Return the memory of a process and all that it started, megabytes."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    own, size = {root}, 0
    while len(own) > size:
        size = len(own)
        own |= {child for child, parent in parents.items() if parent in own}
    total = 0
    for process in own:
        try:
            rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


class Views:
    """Opens views in fresh contexts, and says how long each took."""

    def __init__(self, browser: Any, address: str) -> None:
        self._browser = browser
        self._address = address
        self.base = address.split("/?")[0]

    def page(self) -> Any:
        context = self._browser.new_context(viewport={"width": 1400, "height": 900})
        context.add_init_script(WATCH)
        page = context.new_page()
        page.goto(self._address)
        return page

    def settled(self, page: Any) -> float:
        """Return when the pictures in sight were there, milliseconds from the start of the navigation."""
        return float(page.wait_for_function("() => window.settled").json_value())

    def open(self, path: str, *, key: bool) -> tuple[float, float | None]:
        """Return `settled` of a view, and how long it took until a key had ticked something, milliseconds."""
        page = self.page()
        # Chromium keeps what it has read: a view of its own must read its pictures anew.
        page.context.new_cdp_session(page).send("Network.setCacheDisabled", {"cacheDisabled": True})
        began = time.perf_counter()
        page.goto(self.base + path, wait_until="commit")
        page.wait_for_load_state("load")
        ticked = None
        if key:
            page.keyboard.press("ArrowRight")
            page.keyboard.press("Space")
            page.wait_for_function("() => document.querySelector('.ticked')")
            ticked = (time.perf_counter() - began) * 1000
        took = self.settled(page)
        page.context.close()
        return took, ticked

    def click(self, places: int) -> list[float]:
        """Return how long each of the first stacks took to open by a click, until its pictures were there, ms."""
        page, took = self.page(), []
        for place in range(places):
            page.goto(self.base + "/")
            self.settled(page)
            page.wait_for_timeout(200)
            page.locator("a.cover").nth(place).click()
            page.wait_for_url("**/stacks/*")
            painted = "() => performance.getEntriesByName('first-contentful-paint')[0]?.startTime"
            took.append(max(self.settled(page), float(page.wait_for_function(painted).json_value())))
        page.context.close()
        return took


def median(values: list[float]) -> float:
    return statistics.median(values)


def scroll(page: Any, items: str) -> tuple[int, float, float]:
    """Scroll to the end; return the tiles there are then, the seconds, and the share of frames of more than 50 ms."""
    page.evaluate("() => { window.frames.length = 0; }")
    began = time.perf_counter()
    while page.locator(".sentinel").count():
        page.mouse.wheel(0, 2500)
        page.wait_for_timeout(20)
    frames = page.evaluate("() => window.frames")
    return page.locator(items).count(), time.perf_counter() - began, float(np.mean(np.array(frames) > 50))


def everything(views: Views, faces: int, folder: Path) -> tuple[float, Any]:
    """Open a page with a tile for every face, none of them lazy, as the page does not; milliseconds, and the page."""
    page = views.page()
    with Library.open(folder) as library:
        keys = [face.key for face in library.faces(library.face_ids(None)[:faces].tolist())]
    tiles = "".join(f'<li><img src="/thumbs/{key}.jpg" width="120" height="120"></li>' for key in keys)
    page.route("**/everything", lambda route: route.fulfill(content_type="text/html", body=f"<ul>{tiles}</ul>"))
    page.set_default_timeout(0)
    page.goto(f"{views.base}/everything")
    return views.settled(page), page


def measure(options: argparse.Namespace, browser: Any, address: str, server: int, folder: Path) -> dict[str, Any]:
    views = Views(browser, address)
    with Library.open(folder) as library:
        stacks = library.stacks(limit=8)
        counts = library.counts()
        person = max(library.people(), key=lambda one: one.faces)
    biggest = stacks[0]
    print(
        f"{counts['faces']:,} faces on {counts['photos']:,} photos, {counts['stacks']:,} stacks, "
        f"the biggest of {biggest.size:,}"
    )
    paths = {
        "stacks": "/",
        "stacks, least certain": "/?order=uncertain",
        f"stack of {biggest.size:,}": f"/stacks/{biggest.id}",
        f"stack of {stacks[-1].size:,}": f"/stacks/{stacks[-1].id}",
        f"person, {person.photos:,} photos": f"/people/{person.id}",
        "people": "/people",
        "photos": "/photos",
        "a photo": "/photos/1",
        "unknown": "/unknown",
        "limit: one small file": "/static/icon.svg",
    }
    views.open("/", key=False)
    record: dict[str, Any] = {}
    print(f"{'view':<28}{'settled ms':>12}{'worst':>8}{'on key ms':>12}")
    for name, path in paths.items():
        keyed = path.startswith(("/?", "/stacks")) or path == "/"
        rounds = [views.open(path, key=keyed) for _ in range(options.rounds)]
        took, keys = [one for one, _ in rounds], [one for _, one in rounds if one is not None]
        record[name] = {"settled_ms": round(median(took), 1), "worst_ms": round(max(took), 1)}
        print(f"{name:<28}{median(took):>12.0f}{max(took):>8.0f}{f'{median(keys):.0f}' if keys else '':>12}")
    clicks = views.click(options.rounds)
    record["a stack, by click"] = {"settled_ms": round(median(clicks), 1), "worst_ms": round(max(clicks), 1)}
    print(f"{'a stack, by click':<28}{median(clicks):>12.0f}{max(clicks):>8.0f}")
    page = views.page()
    page.set_default_timeout(0)
    page.goto(f"{views.base}/stacks/{biggest.id}")
    tiles, seconds, slow = scroll(page, ".tile")
    page.goto(f"{views.base}/?named=all")
    stack_tiles, stack_seconds, stack_slow = scroll(page, ".tile")
    print(f"scrolled through {tiles:,} faces in {seconds:.1f} s, {slow:.1%} of frames over 50 ms")
    print(f"scrolled through {stack_tiles:,} stacks in {stack_seconds:.1f} s, {stack_slow:.1%} of frames over 50 ms")
    chromium, serving = pss(os.getpid()) - pss(server), pss(server)
    print(
        f"memory: Chromium with its driver {chromium:.0f} MB, server {serving:.0f} MB, "
        f"together {chromium + serving:.0f} MB"
    )
    page.context.close()
    naive, naive_page = everything(views, counts["faces"], folder)
    naive_memory = pss(os.getpid()) - pss(server)
    naive_page.context.close()
    ratio = naive / record["stacks"]["settled_ms"]
    print(f"every face at once: {naive:.0f} ms, {ratio:.0f} × as long as the stacks; Chromium {naive_memory:.0f} MB")
    return {
        "views": record,
        "scrolled": {"faces": tiles, "seconds": round(seconds, 2), "slow_frames": round(slow, 4)},
        "chromium_mb": round(chromium),
        "server_mb": round(serving),
        "everything_ms": round(naive),
        "everything_mb": round(naive_memory),
    }


def main() -> None:
    options = parse()
    if options.serve:
        with Library.open(options.serve) as library:
            server = Server(library)
            print(server.address, flush=True)
            server.run()
        return
    names = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
    chromium = options.chromium or next((found for name in names if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        print("page: needs Chromium and playwright (pip install playwright); nothing measured")
        return
    with tempfile.TemporaryDirectory() as temporary:
        room = options.keep or Path(temporary)
        folder = room / "library"
        if not folder.exists():
            began = time.perf_counter()
            fill(folder, room / "photos", options.faces, options.stacks, options.seed)
            print(f"library made in {time.perf_counter() - began:.0f} s")
        command = [sys.executable, __file__, "--serve", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
            assert server.stdout
            address = server.stdout.readline().strip()
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            record = measure(options, browser, address, server.pid, folder)
            browser.close()
            server.terminate()
    print(json.dumps({"benchmark": "page", "faces": options.faces, **record}))


if __name__ == "__main__":
    main()
