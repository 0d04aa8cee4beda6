"""`facetl` as a system without POSIX runs it: python without_posix.py < COMMANDS.

The commands come as a JSON list of lists of arguments, and run one after another until one fails.

What Windows lacks is taken away before facetl is imported. Only packages that have other code for each system, and
choose it by the system's name, are imported before.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import sys
import warnings
from typing import Any

import filelock
import platformdirs  # noqa: F401
import psutil  # noqa: F401

MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
OF_OS = (
    *("chown", "fchdir", "fchmod", "fchown", "fork", "forkpty", "geteuid", "getgid", "getloadavg", "getuid", "getpgid"),
    *(
        "killpg",
        "lchown",
        "mkfifo",
        "mknod",
        "posix_fadvise",
        "posix_fallocate",
        "pread",
        "preadv",
        "pwrite",
        "pwritev",
    ),
    *("sched_getaffinity", "sched_setaffinity", "sendfile", "setsid", "statvfs", "fstatvfs", "sysconf"),
    *("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_SYNC", "O_DSYNC", "SEEK_DATA", "SEEK_HOLE"),
)


class ExclusiveFile:
    """What filelock has for Windows, as far as facetl uses it: a file that cannot be opened twice."""

    def __init__(self, path: Any, *, mode: int, thread_local: bool) -> None:
        self.path, self.is_locked = path, False

    def acquire(self, timeout: float) -> None:
        try:
            os.close(os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError as error:
            raise filelock.Timeout(str(self.path)) from error
        self.is_locked = True

    def release(self) -> None:
        self.is_locked = False
        os.unlink(self.path)


def take_away() -> None:
    """Make this interpreter one that lacks what Windows lacks."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    for name in OF_OS:
        if hasattr(os, name):
            delattr(os, name)
    for name in ("SIGKILL", "SIGALRM", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            delattr(signal, name)
    opened = os.open

    def open_files_only(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd is unavailable on this system")
        descriptor = opened(path, flags, mode)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise PermissionError(13, "Permission denied", path)
        return descriptor

    os.open = open_files_only
    filelock.FileLock = ExclusiveFile  # type: ignore[misc, assignment]
    # shutil looked at what the system has when it was imported.
    shutil._use_fd_functions = False  # type: ignore[attr-defined]


if __name__ == "__main__":
    take_away()
    # Text that is opened without an encoding is not UTF-8 on Windows (run with -X warn_default_encoding).
    warnings.filterwarnings("error", category=EncodingWarning, module=r"facetl")
    from facetl.cli.app import main

    for arguments in json.load(sys.stdin):
        sys.argv = ["facetl", *arguments]
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                raise
