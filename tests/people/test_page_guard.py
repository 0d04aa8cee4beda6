"""Who is refused: wrong hosts, other origins, no token, paths out of the library, bodies without end."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
from albums import enter_photo
from served import Page, serving

from facetl.people.library import Library
from facetl.people.web.guard import HEADERS, MAX_BODY, MAX_UPLOAD

VIEWS = ("/", "/questions", "/people", "/people/1", "/photos", "/photos/1", "/unknown", "/tasks", "/learn", "/history")
SCRIPT = '<script>alert("x")</script>'


def raw(page: Page, head: str, body: Iterator[bytes] | None = None) -> tuple[int, str]:
    """Send a request as it stands, as far as the server takes it; return the status and the body of its answer."""
    with socket.create_connection(("127.0.0.1", page.server.port), timeout=60) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode())
        try:
            for part in body or ():
                connection.sendall(part)
        except OSError:
            pass
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, answer.read().decode(errors="replace")


def cookie(page: Page) -> str:
    return "; ".join(f"{name}={value}" for name, value in page.browser.cookies.items())


def test_only_loopback_is_listened_on(still_page: Page) -> None:
    assert [one.getsockname()[0] for one in [still_page.server._socket]] == ["127.0.0.1"]


def test_the_token_is_exchanged_for_a_cookie_and_leaves_the_address(still_page: Page) -> None:
    answer = httpx.get(still_page.server.address, trust_env=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie_text = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie_text
    assert re.search(r"SameSite=strict", cookie_text, re.IGNORECASE)
    assert still_page.server.address.split("token=")[1] not in cookie_text


@pytest.mark.parametrize("path", [*VIEWS, "/thumbs/" + "0" * 64 + ".jpg", "/tasks/state", "/photos/1/small.jpg?v=0"])
def test_nothing_is_shown_without_the_cookie(still_page: Page, path: str) -> None:
    for given in ({}, {"Cookie": f"facetl_{still_page.server.port}=guess"}, {"Cookie": "facetl=; ;;=\x01"}):
        answer = httpx.get(still_page.base + path, headers=given, trust_env=False)
        assert answer.status_code == 403
        assert "Ada" not in answer.text


@pytest.mark.parametrize("query", ["token=guess", "token=", "token=%C3%A4", "token=a&token=b", "?token=x"])
def test_a_wrong_token_is_refused(still_page: Page, query: str) -> None:
    answer = httpx.get(f"{still_page.base}/?{query}", trust_env=False)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


def test_a_second_token_beside_the_right_one_is_refused(still_page: Page) -> None:
    assert httpx.get(f"{still_page.server.address}&token=guess", trust_env=False).status_code == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}", ""]
)
def test_another_host_is_refused_even_with_cookie_and_token(still_page: Page, host: str) -> None:
    host = host.format(port=still_page.server.port)
    for path in ("/", "/static/page.js", still_page.server.address.removeprefix(still_page.base)):
        answer = still_page.get(path, headers={"Host": host})
        assert answer.status_code == 421
        assert "set-cookie" not in answer.headers


def test_two_hosts_are_refused(still_page: Page) -> None:
    own = f"127.0.0.1:{still_page.server.port}"
    status, _ = raw(still_page, f"GET / HTTP/1.1\nHost: {own}\nHost: evil.example\nCookie: {cookie(still_page)}\n\n")
    assert status in (400, 421)


@pytest.mark.parametrize(
    "origin", [None, "null", "http://evil.example", "https://{own}", "http://127.0.0.1:1", "http://localhost:{port}"]
)
def test_other_origins_change_nothing(still_page: Page, origin: str | None) -> None:
    own, before = f"127.0.0.1:{still_page.server.port}", still_page.html("/")
    headers = {} if origin is None else {"Origin": origin.format(own=own, port=still_page.server.port)}
    answer = still_page.browser.post("/answers/not-a-face", json={"faces": [1]}, headers=headers)
    assert answer.status_code == 403
    assert still_page.html("/") == before


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_see_nothing(still_page: Page, site: str) -> None:
    assert still_page.get("/", headers={"Sec-Fetch-Site": site}).status_code == 403
    assert still_page.get("/", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_every_answer_has_the_headers(page: Page, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "people", lambda: 1 / 0)
    got = {
        200: page.get("/"),
        404: page.get("/nothing"),
        403: httpx.get(page.base, trust_env=False),
        421: page.get("/", headers={"Host": "evil.example"}),
        500: page.get("/people", headers={"Accept": "text/html"}),
        303: page.get("/stacks/next?after=1"),
    }
    for status, answer in got.items():
        assert answer.status_code == status
        assert HEADERS.items() <= dict(answer.headers).items() | {(n, answer.headers.get(n)) for n in HEADERS}
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.count("data:") == policy.count("img-src 'self' data:;") == 1, "pictures alone come with the page"
    assert set(re.findall(r"'[^']+'|https?:\S*|\*|blob:", policy)) == {"'none'", "'self'"}


def test_every_asset_is_local_and_nothing_is_inline(page: Page) -> None:
    page.notify("/answers/name", {"faces": [1, 2], "name": "Ada"})

    class Finder(HTMLParser):
        addresses: list[str]
        inline: list[str]

        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            for name, value in attributes:
                picture = tag == "img" and name == "src" and (value or "").startswith("data:image/jpeg;base64,")
                if name in ("src", "href", "action", "srcset", "data-more", "data-load") and not picture:
                    self.addresses.append(value or "")
                if name == "style" or name.startswith("on"):
                    self.inline.append(f"{tag} {name}")
            if tag == "style" or (tag == "script" and "src" not in dict(attributes)):
                self.inline.append(tag)

    for path in VIEWS:
        finder = Finder()
        finder.addresses, finder.inline = [], []
        finder.feed(page.html(path))
        assert not finder.inline
        assert finder.addresses
        assert all(re.match(r"[/#](?!/)", address) for address in finder.addresses), finder.addresses
    for name in ("page.js", "page.css", "icon.svg"):
        text = page.get(f"/static/{name}").text.replace("http://www.w3.org/2000/svg", "")
        assert not re.findall(r"https?:|@import|//[a-z]+\.|innerHTML|eval\(", text)


def test_a_script_in_a_name_stays_text(page: Page, library: Library) -> None:
    stack = library.stacks()[0]
    page.notify("/answers/name", {"stacks": [stack.id], "name": SCRIPT})
    person = library.people()[0]
    photo = library.face(stack.cover).photo
    for path in (
        f"/stacks/{stack.id}",
        "/?named=yes",
        "/people",
        f"/people/{person.id}",
        f"/photos/{photo}",
        "/history",
        "/tasks",
    ):
        text = page.html(path)
        assert "&lt;script&gt;" in text
        assert "<script>alert" not in text
    answer = page.post("/people/names", {"beginning": "<scr"})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()[0]["name"] == SCRIPT


@pytest.mark.parametrize(
    "path",
    [
        "/thumbs/../../people.sqlite", "/thumbs/%2e%2e%2fpeople.sqlite", "/thumbs/..%2f..%2fpeople.sqlite.jpg",
        "/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2f..%2f__init__.py", "/static//etc/passwd",
        "/photos/..%2f1/small.jpg", "/photos/1/small.jpg/../../../people.sqlite", "/thumbs/%00.jpg", "/static/%00",
        "/thumbs/" + "g" * 64 + ".jpg", "/thumbs/" + "0" * 64 + ".jpg", "/faces/../people.sqlite",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_library(still_page: Page, path: str) -> None:
    own = f"Host: 127.0.0.1:{still_page.server.port}\nCookie: {cookie(still_page)}\n"
    status, text = raw(still_page, f"GET {path} HTTP/1.1\n{own}\n")
    assert status in (404, 405, 422)
    for secret in ("SQLite format", "root:", "def make_app", "Traceback", "/Family"):
        assert secret not in text


def test_what_lies_at_a_photos_path_is_shown_only_if_it_is_that_photo(
    page: Page, library: Library, tmp_path: Path
) -> None:
    photo = library.photo(1)
    address = f"/photos/1/large.jpg?v={photo.sha[:16]}"
    assert page.get(address).status_code == 200
    # The same picture with other bytes, another photo, a secret, a pipe, nothing.
    other = library.photo(2).paths[0].read_bytes()
    original = photo.paths[0]
    moved = tmp_path / "elsewhere"
    enter_photo(library, photo.sha, width=photo.width, height=photo.height, paths=[moved])
    page.site.pictures._kept.clear()
    hidden = original.rename(original.with_suffix(".hidden"))
    try:
        for content in (hidden.read_bytes() + b"\0", other, b"root:x:0:0", b""):
            moved.write_bytes(content)
            assert page.get(address).status_code == 404
        moved.unlink()
        import os

        os.mkfifo(moved)
        assert page.get(address).status_code == 404
        moved.unlink()
        moved.symlink_to(hidden)
        assert page.get(address).status_code == 200
    finally:
        hidden.rename(original)


def test_no_error_shows_a_trace(page: Page, library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "people", lambda: {}["secret thing"])
    wants = {"Accept": "text/html"}
    answers = {
        404: page.get("/stacks/999999", headers=wants),
        405: page.get("/answers/name", headers=wants),
        422: page.get("/stacks/one", headers=wants),
        500: page.get("/people", headers=wants),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert (answer.headers.get("connection") == "close") == (status == 500)
        for trace in ("Traceback", "File &#34;", ".py", "secret thing"):
            assert trace not in answer.text
    assert page.get("/people").json() == {"error": "An error of facetl's own (KeyError). Your answers are kept."}


@pytest.mark.parametrize("path", ["/answers/name", "/search/photo", "/people/names", "/nothing"])
def test_a_gigabyte_is_refused_before_it_is_read(still_page: Page, path: str) -> None:
    own = f"Host: 127.0.0.1:{still_page.server.port}\nOrigin: {still_page.base}\nCookie: {cookie(still_page)}\n"
    head = f"POST {path} HTTP/1.1\n{own}Content-Type: image/jpeg\nContent-Length: {1 << 30}\n\n"
    status, _ = raw(still_page, head)
    assert status == 413


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999999", "²"])
def test_an_odd_length_is_refused(still_page: Page, length: str) -> None:
    own = f"Host: 127.0.0.1:{still_page.server.port}\nOrigin: {still_page.base}\nCookie: {cookie(still_page)}\n"
    status, _ = raw(still_page, f"POST /search/photo HTTP/1.1\n{own}Content-Length: {length}\n\n")
    assert status in (400, 413)


def test_a_body_of_undeclared_length_ends_at_the_limit(still_page: Page) -> None:
    sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal sent
        part = b"x" * 1_000_000
        for _ in range(1074):
            sent += len(part)
            yield b"%x\r\n" % len(part) + part + b"\r\n"

    own = f"Host: 127.0.0.1:{still_page.server.port}\nOrigin: {still_page.base}\nCookie: {cookie(still_page)}\n"
    status, _ = raw(still_page, f"POST /answers/name HTTP/1.1\n{own}Transfer-Encoding: chunked\n\n", chunks())
    assert status == 413
    # What the sockets hold in between comes on top.
    assert sent < MAX_BODY + 64_000_000


def test_a_photo_may_be_larger_than_an_answer(still_page: Page) -> None:
    assert MAX_BODY < MAX_UPLOAD
    body = b"\xff\xd8\xff" + b"\0" * (2 * MAX_BODY)
    assert still_page.post("/search/photo", content=body, headers={"Content-Type": "image/jpeg"}).status_code == 415


def bomb() -> bytes:
    """Return a PNG of a few hundred bytes that claims 60,000 × 60,000 pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0" * 10_000)) + part(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (bomb(), "pixels"),
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "expected one of"),
        (b"GIF89a" + b"\0" * 50, "damaged"),
        (b"\xff\xd8\xff\xe0 cut", "ends too early"),
        (b"root:x:0:0:root", "expected one of"),
    ],
)
def test_only_whole_photos_are_searched_by(still_page: Page, content: bytes, says: str) -> None:
    answer = still_page.post("/search/photo", content=content, headers={"Content-Type": "image/png"})
    assert answer.status_code == 415
    assert says in answer.json()["error"]


@pytest.mark.parametrize("kind", ["text/html", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_other_types_are_not_looked_into(still_page: Page, kind: str) -> None:
    assert still_page.post("/search/photo", content=b"x", headers={"Content-Type": kind}).status_code == 415


def test_websockets_and_odd_methods_get_nothing(still_page: Page) -> None:
    upgrade = "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAA"
    own = f"Host: 127.0.0.1:{still_page.server.port}\nCookie: {cookie(still_page)}\n"
    status, text = raw(still_page, f"GET /ws HTTP/1.1\n{own}{upgrade}\n\n")
    assert status == 404, text
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"):
        assert still_page.browser.request(method, "/", headers={"Origin": still_page.base}).status_code == 405


def test_names_are_in_no_log(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    page.notify("/answers/name", {"faces": [1], "name": "Rosalind"})
    page.html("/people")
    page.get("/nothing?name=Rosalind")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


def test_a_slow_visitor_does_not_keep_others_waiting(still_page: Page) -> None:
    own = f"Host: 127.0.0.1:{still_page.server.port}\nOrigin: {still_page.base}\nCookie: {cookie(still_page)}\n"
    with socket.create_connection(("127.0.0.1", still_page.server.port)) as slow:
        slow.sendall(f"POST /answers/name HTTP/1.1\n{own}Content-Length: 100\n\n{{".replace("\n", "\r\n").encode())
        assert still_page.get("/").status_code == 200


def test_requests_from_many_threads_are_answered(still_page: Page) -> None:
    failed: list[int] = []

    def ask(path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", still_page.server.port, timeout=60)
        connection.request("GET", path, headers={"Cookie": cookie(still_page)})
        status = connection.getresponse().status
        if status != 200:
            failed.append(status)

    threads = [threading.Thread(target=ask, args=(path,)) for path in VIEWS[2:] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # There is nobody at /people/1 yet.
    assert failed == [404, 404]


def test_nothing_is_reported_to_anyone(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as collector:
        monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.getsockname()[1]}")
        for page in serving(library, None):
            assert page.get("/").status_code == 200
        collector.settimeout(0.2)
        with pytest.raises(TimeoutError):
            collector.accept()
