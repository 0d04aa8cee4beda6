"""Give damaged and forged files to every reader: it returns a value or raises a FacetlError, and does nothing else.

    python tests/fuzz/fuzz.py --inputs 1000000

An input is known by its reader and its number: `--only READER --first NUMBER --inputs 1` reads it again. A process of
its own reads them, so that a crash, 5 seconds of processor time and memory beyond its bound are found and counted
as well as an error of another kind, a file written or opened to write outside, a connection, or a process started.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parent)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from readers import READERS, Reader  # noqa: E402

SECONDS = 5  # of processor time for one input
_AT_ONCE = 4000  # inputs that one process reads
_PASSIVE = ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.exec", "pickle.find_class")


@dataclass
class Outcome:
    """What a reader did with its inputs.

    Attributes:
        inputs: how many were read; `values` gave one, `refused` raised a FacetlError.
        faults: what else happened → the numbers of the first inputs.
        peak: bytes of memory that a process took beyond what it had before the first input.
        seconds: in all.
    """

    inputs: int = 0
    values: int = 0
    refused: int = 0
    faults: dict[str, list[int]] = field(default_factory=dict)
    peak: int = 0
    seconds: float = 0.0

    def add_fault(self, what: str, number: int) -> None:
        known = self.faults.setdefault(what, [])
        if len(known) < 3:
            known.append(number)


def fuzz(reader: Reader, first: int, inputs: int, *, keep: Path | None = None) -> Outcome:
    """Read inputs from number `first` on, in processes that are forked from this one; `keep` takes those at fault."""
    outcome, started, end = Outcome(), time.monotonic(), first + inputs
    with tempfile.TemporaryDirectory(dir=_memory(), prefix="fuzz-") as folder:
        while first < end:
            first = _in_child(reader, Path(folder), first, min(end, first + _AT_ONCE), outcome, keep)
    outcome.seconds = time.monotonic() - started
    return outcome


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _in_child(reader: Reader, folder: Path, first: int, end: int, outcome: Outcome, keep: Path | None) -> int:
    """Let a child read some inputs; return the number of the next one."""
    room = folder / f"{first}"
    room.mkdir()
    now = mmap.mmap(-1, 8)  # the number of the input that is being read
    now[:] = struct.pack("<q", first)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            faulthandler.disable()
            with os.fdopen(writing, "w") as out:
                json.dump(asdict(_read_all(reader, room, range(first, end), now, keep)), out)
            status = 0
        except BaseException:  # noqa: BLE001 - a forked child must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as stream:
        answer = stream.read()
    status = os.waitpid(child, 0)[1]
    shutil.rmtree(room, ignore_errors=True)
    number = struct.unpack("<q", now[:])[0]
    if status == 0:
        _merge(outcome, Outcome(**json.loads(answer)))
        return end
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"{reader.name}: its process ended with {status} at input {number}")
    how = signal.Signals(os.WTERMSIG(status)).name
    outcome.inputs += number - first + 1
    outcome.refused += number - first
    outcome.add_fault(f"more than {SECONDS} s" if how == "SIGPROF" else f"process ended by {how}", number)
    return int(number) + 1


def _merge(outcome: Outcome, one: Outcome) -> None:
    outcome.inputs += one.inputs
    outcome.values += one.values
    outcome.refused += one.refused
    outcome.peak = max(outcome.peak, one.peak)
    for what, numbers in one.faults.items():
        for number in numbers:
            outcome.add_fault(what, number)


def _read_all(reader: Reader, room: Path, numbers: range, now: mmap.mmap, keep: Path | None) -> Outcome:
    from facetl.errors import FacetlError

    outcome = Outcome()
    os.environ["HOME"] = os.environ["FACETL_CACHE"] = str(room)
    samples = reader.samples(room)
    with suppress(FacetlError):
        reader.read(room, samples[0])  # what is imported late is no input's memory
    os.chdir(room)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    watch = _Watch(room)
    before = _resident()
    limit = _virtual() + reader.room
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for number in numbers:
        now[:] = struct.pack("<q", number)
        data = reader.mutate(random.Random(f"{reader.name} {number}"), samples)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        watch.on = True
        fault = ""
        try:
            reader.read(room, data)
            outcome.values += 1
        except FacetlError as error:
            outcome.refused += 1
            if not str(error).strip():
                fault = "an error without words"
        except BaseException as error:  # noqa: BLE001 - that is what is looked for
            fault = f"{type(error).__name__} at {_place(error)}: {str(error)[:80]!a}"
        watch.on = False
        signal.setitimer(signal.ITIMER_PROF, 0)
        outcome.inputs += 1
        fault = fault or watch.seen
        watch.seen = ""
        if fault:
            outcome.add_fault(fault.partition(": ")[0] if len(outcome.faults) > 60 else fault, number)
            if keep is not None:
                (keep / f"{reader.name}-{number}".replace(" ", "-")).write_bytes(data)
    outcome.peak = max(0, _peak() - before)
    return outcome


class _Watch:
    """Notes what a reader must not do: write outside its room, connect, start another program, load a pickle."""

    def __init__(self, room: Path) -> None:
        self.on, self.seen, self._room = False, "", str(room)
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in _PASSIVE:
            self.seen = f"{event} was called"
        elif event == "open" and isinstance(arguments[0], str | bytes):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                path = os.path.abspath(os.fsdecode(arguments[0]))
                if not path.startswith((self._room, "/dev/")):
                    self.seen = "a file was opened to write outside"


def _place(error: BaseException) -> str:
    """Return the last line of facetl's own in an error's trace."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "facetl" in frame.filename and "/tests/" not in frame.filename] or frames
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}"


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _virtual() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def shares(readers: Sequence[Reader], inputs: int) -> dict[str, int]:
    """Return how many of all inputs each reader gets."""
    whole = sum(reader.share for reader in readers)
    return {reader.name: max(1, round(inputs * reader.share / whole)) for reader in readers}


def main() -> int:
    """Run the command line; 1 where a fault was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000, help="in all, shared among the readers")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each reader")
    parser.add_argument("--only", action="append", choices=READERS, help="a reader; all by default")
    parser.add_argument("--keep", type=Path, help="folder for the inputs at fault")
    given = parser.parse_args()
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
        given.keep = given.keep.absolute()
    chosen = [READERS[name] for name in given.only or READERS]
    total = Counter[str]()
    for reader in sorted(chosen, key=lambda one: one.heavy):  # a process that started TensorFlow forks slowly
        outcome = fuzz(reader, given.first, shares(chosen, given.inputs)[reader.name], keep=given.keep)
        total += Counter(inputs=outcome.inputs, faults=sum(map(len, outcome.faults.values())))
        print(
            f"{reader.name:18} {outcome.inputs:9,} inputs  {outcome.values:9,} values  {outcome.refused:9,} refused  "
            f"{len(outcome.faults):3} faults  peak {outcome.peak / 2**20:6.0f} MiB  {outcome.seconds:6.0f} s",
            flush=True,
        )
        for what, numbers in sorted(outcome.faults.items()):
            print(f"    {what}  inputs {', '.join(map(str, numbers))}", flush=True)
    print(f"{'all':18} {total['inputs']:9,} inputs", flush=True)
    return int(total["faults"] > 0)


if __name__ == "__main__":
    sys.exit(main())
