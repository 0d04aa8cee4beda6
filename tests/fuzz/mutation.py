"""Valid files changed as disks, networks and forgers change them: bits, lengths, numbers, members, cuts and splices."""

from __future__ import annotations

import copy
import io
import json
import random
import re
import sqlite3
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

Mutate = Callable[[random.Random, Sequence[bytes]], bytes]

_LONGEST = 1 << 20
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NUMBERS = (b"0", b"-1", b"1e308", b"-1e308", b"1e-320", b"1e999", b"nan", b"inf", b"2147483648",
            b"18446744073709551616", b"9" * 30, b"9" * 5000, b"1" + b"0" * 400, b"0.0000001", b"", b"07",
            b"1_0", "٣".encode(), "²".encode())  # fmt: skip
_TOKENS = (b"\0", b"\n", b"\r", b"\r\n", b"\t", b",", b'"', b"'", b"<", b">", b"&", b"&#0;", b"]]>", b"<![CDATA[",
           b"<a/>",
           b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"[" * 3000, b'{"a":' * 3000, b"<a>" * 3000, b"null",
           b"true", b"NaN", b"-Infinity", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", "\u2028".encode(),
           "\u202e".encode(),
           "e\u0301".encode(), b"..", b"../../x", b"/etc/passwd", b"\\", b"A" * 300, b"x" * 140_000)  # fmt: skip
_LEAVES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 0.5, -0.5, 1e308, 1e-320, float("nan"), float("inf"),
    float("-inf"), "", "x", "0.5", "none", "mtcnn", "\0", "\ud800", "..", "/", "x" * 300, "9" * 5000, [], {}, [[]],
    [None], ["a"], [1, 2], {"a": 1}, {"": None}, [float("nan")], [0.5] * 4,
)  # fmt: skip
# Of a row, beside these texts.
_VALUES = (None, 0, -1, 2**40, 2**62, 1e308, "x", "", b"", "2020-99-99", "[1,2]", "{}", '{"a":1}', "[" * 5000)


def mutated(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Change the bytes of one of some files in 1 to 8 places; now and then the file is empty, or another's tail."""
    data = bytearray(rng.choice(samples))
    for _ in range(min(8, 1 + int(rng.expovariate(0.7)))):
        rng.choice(_CHANGES)(rng, data, samples)
    return bytes(data[:_LONGEST])


def _flip(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    if data:
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _bytes(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at : at + rng.randrange(1, 9)] = rng.randbytes(rng.randrange(0, 9))


def _length(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    size = rng.choice((1, 2, 4, 8))
    whole = 1 << 8 * size
    number = rng.choice((0, 1, whole - 1, whole // 2, whole // 2 - 1, len(data), len(data) + 1, rng.randrange(whole)))
    at = _place(rng, data)
    data[at : at + size] = (number % whole).to_bytes(size, rng.choice(("little", "big")))


def _cut(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = _place(rng, data)
    del data[at : rng.choice((len(data), at + 1, at + rng.randrange(1, 64)))]


def _repeat(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = _place(rng, data)
    part = data[at : at + rng.randrange(1, 200)]
    data[at:at] = part * rng.choice((1, 1, 2, 50))


def _splice(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    other = rng.choice(samples)
    data[_place(rng, data) :] = other[_place(rng, other) :]


def _token(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    at = _place(rng, data)
    data[at : at + rng.choice((0, 0, 1, 4))] = rng.choice(_TOKENS)


def _number(rng: random.Random, data: bytearray, samples: Sequence[bytes]) -> None:
    found = _NUMBER.search(data, _place(rng, data))
    if found:
        data[found.start() : found.end()] = rng.choice(_NUMBERS)


_CHANGES = (_flip, _flip, _bytes, _length, _length, _cut, _repeat, _splice, _token, _number, _number)


def _place(rng: random.Random, data: bytes | bytearray) -> int:
    """Return a place; that of a header as often as that of anything else."""
    return rng.randrange(min(len(data), rng.choice((64, 512, len(data) + 1))) or 1)


def mutated_json(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Change a file that is a JSON value, or one a line: a field is gone, of another kind or out of all bounds."""
    if rng.random() < 0.3:
        return mutated(rng, samples)
    lines = rng.choice(samples).splitlines() if rng.random() < 0.5 else None
    whole = rng.choice(samples)
    try:
        json.loads(whole)
        lines = [whole]
    except ValueError:
        lines = lines or whole.splitlines()
    at = rng.randrange(len(lines) or 1)
    try:
        holder: dict[str, Any] = {"": json.loads(lines[at])}
    except (ValueError, IndexError):
        return mutated(rng, samples)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change_value(rng, holder)
    lines[at] = json.dumps(holder[""]).encode()
    return b"\n".join(lines) + b"\n"


def _change_value(rng: random.Random, holder: dict[str, Any]) -> None:
    inside: Any = holder
    key: Any = ""
    while isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.85:
        inside = inside[key]
        key = rng.choice(list(inside)) if isinstance(inside, dict) else rng.randrange(len(inside))
    if rng.random() < 0.15 and inside is not holder:
        del inside[key]
    else:
        inside[key] = copy.deepcopy(rng.choice(_LEAVES))


def mutated_zip(inner: Mutate = mutated) -> Mutate:
    """Return a change of one member of a ZIP file, whose checksums are right again; now and then of its bytes."""

    def mutate(rng: random.Random, samples: Sequence[bytes]) -> bytes:
        if rng.random() < 0.4:
            return mutated(rng, samples)
        with zipfile.ZipFile(io.BytesIO(rng.choice(samples))) as before:
            members = {name: before.read(name) for name in before.namelist()}
        name = rng.choice(list(members))
        if rng.random() < 0.1:
            del members[name]
        else:
            members[name] = inner(rng, [members[name]] if rng.random() < 0.7 else list(members.values()))
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as after:
            for one, content in members.items():
                after.writestr(one, content)
        return out.getvalue()

    return mutate


def mutated_photo(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Change a photo; a PNG's checksums are right again in half of the cases, so that its readers go on."""
    data = mutated(rng, samples)
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or rng.random() < 0.5:
        return data
    out, at = bytearray(data[:8]), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        body = data[at + 4 : at + 8 + length]
        out += struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(out)


def mutated_sqlite(rng: random.Random, samples: Sequence[bytes]) -> bytes:
    """Change a value of a row, or a constraint's statement, through SQL; or the file's bytes."""
    sample = rng.choice(samples)
    if rng.random() < 0.4:
        return mutated(rng, [sample])
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        # The log's mark would keep a file in memory from being opened.
        connection.deserialize(sample[:18] + b"\1\1" + sample[20:])
        connection.execute("PRAGMA ignore_check_constraints = ON")
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for _ in range(rng.choice((1, 1, 2, 5))):
            table = rng.choice(tables)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            value = rng.choice((*_TOKENS, *_NUMBERS, *_VALUES))
            if isinstance(value, bytes) and rng.random() < 0.5:
                value = value.decode("latin-1")
            rows = connection.execute(f"SELECT {columns[0]} FROM {table}").fetchall()
            where = f"{columns[0]} = ?" if rng.random() < 0.5 else "? IS NOT NULL"
            change = f"UPDATE OR IGNORE {table} SET {rng.choice(columns)} = ? WHERE {where}"
            try:
                connection.execute(change, (value, rng.choice(rows or [(0,)])[0]))
                if rng.random() < 0.1:
                    connection.execute(f"DELETE FROM {rng.choice(tables)}")
                if rng.random() < 0.1:
                    connection.execute(f"PRAGMA user_version = {rng.randrange(-2, 9)}")
            except sqlite3.Error:
                continue
        changed = bytearray(connection.serialize())
        changed[18:20] = sample[18:20]
        return bytes(changed)
    finally:
        connection.close()
