"""Serves the page on a made-up library in a folder, which is filled when it is new; prints the address.

python tests/web/serve_made_up.py ROOM [--photos 30] [--people 5]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from made_up import Album, Oracle, fill

from facetl.people.library import Library
from facetl.people.web.server import Server


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("room", type=Path)
    parser.add_argument("--photos", type=int, default=30)
    parser.add_argument("--people", type=int, default=5)
    options = parser.parse_args()
    known = options.room / "album.json"
    fresh = not known.exists()
    with Library.open(options.room / "Family", create=fresh) as library:
        if fresh:
            album = fill(library, options.room / "photos", people=options.people, photos=options.photos)
            known.write_text(json.dumps([list(album.photos.items()), list(album.who.items())]))
        photos, who = json.loads(known.read_text())
        service = Oracle(library, Album(dict(photos), dict(who)))
        server = Server(library, service=service)
        print(server.address, flush=True)
        server.run()


if __name__ == "__main__":
    main()
