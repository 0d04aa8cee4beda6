"""Files that are there whole or as they were, whatever their names; a lock that names its holder."""

from __future__ import annotations

import errno
import io
import os
import stat
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from facetl.errors import CacheLockedError, RunError
from facetl.io.files import (
    WriterLock,
    atomic_file,
    atomic_folder,
    holder_of,
    stored_arrays,
    write_arrays,
    write_atomic,
)


def listed(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["a", "é" * 127, "x" * 255], ids=["short", "254 bytes", "255 bytes"])
def test_any_name_that_the_system_takes_can_be_written(tmp_path: Path, name: str) -> None:
    before = os.umask(0o277)
    try:
        write_atomic(tmp_path / name, b"first")
    finally:
        os.umask(before)
    write_atomic(tmp_path / name, b"second")
    assert (tmp_path / name).read_bytes() == b"second"
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert listed(tmp_path) == {name}


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"before", mode=0o640)

    def fail() -> None:
        with atomic_file(path) as stream:
            stream.write(b"after")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert path.read_bytes() == b"before"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert listed(tmp_path) == {"file"}


def test_a_folder_takes_its_name_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with suppress(KeyboardInterrupt), atomic_folder(folder) as partial:
        (partial / "torn").touch()
        raise KeyboardInterrupt
    assert listed(folder.parent) == set()
    with suppress(KeyboardInterrupt), atomic_folder(folder, keep=True) as partial:
        (partial / "kept").touch()
        raise KeyboardInterrupt
    assert listed(folder.parent) == {".folder.partial"}
    with atomic_folder(folder, mode=0o700) as partial:
        (partial / "last").touch()
        assert not folder.exists()
    assert (listed(folder.parent), listed(folder)) == ({"folder"}, {"kept", "last"})


def test_a_folder_that_is_there_is_replaced_only_where_that_is_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "before").touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(folder) as partial:
        (partial / "after").touch()
    assert (listed(tmp_path), listed(folder)) == ({"folder"}, {"before"})
    with atomic_folder(folder, replace=True) as partial:
        (partial / "after").touch()
        assert listed(folder) == {"before"}
    assert (listed(tmp_path), listed(folder)) == ({"folder"}, {"after"})


def test_file_and_folder_are_synced_in_this_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(source: str, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_atomic(tmp_path / "file", b"content")
    assert steps == ["file", "rename", "folder"]
    steps.clear()
    write_atomic(tmp_path / "file", b"content", sync="file")
    write_atomic(tmp_path / "file", b"content", sync="none")
    assert steps == ["file", "rename", "rename"]


def test_a_lock_names_its_holder_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / "writer.lock"
    holder_of(path).write_text("99999999\n")
    lock = WriterLock(path)
    lock.acquire()
    with pytest.raises(CacheLockedError, match=f"process {os.getpid()}"):
        WriterLock(path).acquire()
    lock.release()
    lock.release()
    assert not holder_of(path).exists()
    other = WriterLock(path)
    other.acquire()
    holder_of(path).unlink()
    with pytest.raises(CacheLockedError, match="process unknown"):
        lock.acquire()
    other.release()


def _forged(shape: str, dtype: str, content: bytes = b"") -> bytes:
    """Return a member of an .npz whose header says what is not there."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def test_arrays_come_back_and_one_that_is_missing_is_damage(tmp_path: Path) -> None:
    write_arrays(tmp_path / "a.npz", rows=np.arange(6.0).reshape(2, 3), names=np.array(["Zoë", "b"]))
    with stored_arrays(tmp_path / "a.npz", "the file", "Make it anew.") as stored:
        assert stored["rows"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
        assert stored["names"].tolist() == ["Zoë", "b"]
    with (
        pytest.raises(RunError, match=r"a\.npz: the file cannot be read \('other'\)\. Make it anew\."),
        stored_arrays(tmp_path / "a.npz", "the file", "Make it anew.") as stored,
    ):
        _ = stored["other"]
    with pytest.raises(FileNotFoundError), stored_arrays(tmp_path / "b.npz", "the file", "Make it anew."):
        pass


@pytest.mark.parametrize(
    "member",
    [
        b"no array",
        _forged("(1099511627776,)", "<U0"),  # a list of a million million texts
        _forged("(1, 1099511627776)", "<f8"),
        _forged("(1,", "<f8"),
        _forged("(1,)", "<U1", b"\xff\xff\xff\x7f"),  # no character
        _forged("(1,)", "|O", b"\x80\x04N."),
    ],
)
def test_forged_arrays_are_refused(tmp_path: Path, member: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("rows.npy", member)
    with pytest.raises(RunError, match="cannot be read"), stored_arrays(tmp_path / "a.npz", "it", "Make it anew."):
        pass


def test_arrays_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros(1 << 20))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.npy", content.getvalue())
    assert (tmp_path / "a.npz").stat().st_size < 1 << 15
    with (
        pytest.raises(RunError, match="larger than the file"),
        stored_arrays(tmp_path / "a.npz", "it", "Make it anew."),
    ):
        pass


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No space") as caught, atomic_file(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write does
    assert caught.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
