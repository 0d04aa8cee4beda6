"""Damaged and forged files: every reader gives a value or a FacetlError. `make fuzz` reads a million of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fuzz import fuzz
from readers import READERS, Reader

from facetl.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and watched as Linux does it")


@pytest.mark.parametrize("name", [reader.name for reader in READERS.values() if not reader.heavy])
def test_damaged_files_give_a_value_or_an_error_of_facetl(name: str) -> None:
    reader = READERS[name]
    outcome = fuzz(reader, 10**9, max(8, int(reader.share)))
    assert not outcome.faults
    assert outcome.values
    assert outcome.peak < reader.room


def _made(read: object) -> Reader:
    return Reader("made up", 1, lambda room: [b"a b c"], read, room=1 << 26)  # type: ignore[arg-type]


def test_whatever_else_a_reader_does_is_found(tmp_path: Path) -> None:
    def write_outside(room: Path, data: bytes) -> None:
        (tmp_path / "outside").write_bytes(data)

    def start_a_program(room: Path, data: bytes) -> None:
        os.system("true")

    def fill_memory(room: Path, data: bytes) -> int:
        return len(bytes(1 << 28))

    def crash(room: Path, data: bytes) -> None:
        if data != b"a b c":
            os.abort()

    def refuse(room: Path, data: bytes) -> None:
        raise DataError("no")

    found = {}
    for read in (write_outside, start_a_program, fill_memory, crash, refuse):
        found[read.__name__] = [fault.partition(":")[0] for fault in fuzz(_made(read), 0, 2).faults]
    assert found == {
        "write_outside": ["a file was opened to write outside"],
        "start_a_program": ["os.system was called"],
        "fill_memory": ["MemoryError at test_fuzz.py"],
        "crash": ["process ended by SIGABRT"],
        "refuse": [],
    }
