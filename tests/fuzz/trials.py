"""One batch of damaged files through one reader, in this process; what each ended in.

A read has to end in a result that keeps its promises, or in a ``UserError`` of one short sentence. All else is a
failure: another exception, too long a message, memory above the bound, and damage that a checksum would have shown.
A reader that hangs or kills its process is seen by who started it (:mod:`fuzz.campaign`).
"""

from __future__ import annotations

import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from fuzz.mutations import Operation, mutated, mutations
from fuzz.readers import BrokenPromise, Reader, digest
from uresnet.errors import UserError

MOST_MEMORY = 512 << 20
"""Bytes that reading one damaged file, of at most 4 MB, may add to what the process holds."""

LONGEST_MESSAGE = 600
"""Characters of an error, its path left out."""


@dataclass(frozen=True)
class Outcome:
    """``kind`` is "read", "refused" or the word for a failure; ``detail`` is the sentence or the traceback."""

    kind: str
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the reader did what no reader may do."""
        return self.kind not in ("read", "refused")


class Trials:
    """Reads damaged copies of the seeds of one reader in a folder of its own."""

    def __init__(self, reader: Reader, seeds: Path, work: Path) -> None:
        self.reader = reader
        self.folder = self.place(reader, work)
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(seeds / reader.seeds, self.folder)
        self.target = self.folder / reader.target
        self.opened = self.folder / (reader.opened or reader.target)
        self.content = self.target.read_bytes()
        first = self.read()
        if first.kind != "read":
            raise AssertionError(f"{reader.name}: the file that is not damaged ended in {first}")
        self.undamaged = first.detail

    @staticmethod
    def place(reader: Reader, work: Path) -> Path:
        """The folder of a reader's damaged files."""
        return work / reader.name.replace(" ", "_").replace("/", "_")

    def run(self, number: int, count: int, report: Callable[[Outcome | None], None]) -> None:
        """The ``count`` mutations of seed ``number``. ``report`` gets None before each read, its outcome after it."""

        @seed(number)
        @settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(mutations(), st.booleans())
        def trial(operations: list[Operation], inside: bool) -> None:
            packed = self.write(operations, inside)
            report(None)
            outcome = self.read()
            believed = self.reader.checksum and not packed and outcome.kind == "read"
            if believed and outcome.detail != self.undamaged:
                outcome = Outcome("believed", "a damaged file gave another result than the undamaged one")
            report(outcome)

        trial()

    def write(self, operations: list[Operation], inside: bool) -> bool:
        """Damages the file; whether the damage is within its packing."""
        inside = inside and self.reader.packing is not None
        damaged = mutated(self.inner() if inside else self.content, operations)
        self.target.write_bytes(self.packed(damaged) if inside else damaged)
        return inside

    def inner(self) -> bytes:
        """The content within the packing of the undamaged file; all of it where there is no packing."""
        return self.reader.packing.unpack(self.content) if self.reader.packing else self.content

    def packed(self, content: bytes) -> bytes:
        """A whole file around an inner content."""
        return self.reader.packing.pack(self.content, content) if self.reader.packing else content

    def read(self) -> Outcome:
        """Reads the file as it now is."""
        before = _resident("VmRSS")
        _forget_peak()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                outcome = Outcome("read", digest(self.reader.read(self.opened)))
        except UserError as error:
            outcome = _judged_message(str(error), self.folder)
        except BrokenPromise as error:
            outcome = Outcome("promise", str(error))
        except MemoryError:
            outcome = Outcome("memory", traceback.format_exc())
        except Exception:
            outcome = Outcome("exception", traceback.format_exc())
        used = _resident("VmHWM") - before
        if used > MOST_MEMORY and not outcome.failed:
            outcome = Outcome("memory", f"{used / 2**20:.0f} MiB for a file of {self.target.stat().st_size} bytes")
        return outcome


@contextmanager
def limited_memory(extra: int) -> Iterator[None]:
    """The address space of this process may grow by ``extra`` bytes and no more."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_resident("VmSize") + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _judged_message(message: str, folder: Path) -> Outcome:
    shown = message.replace(str(folder), "")
    if len(shown) > LONGEST_MESSAGE:
        return Outcome("message", f"{len(shown)} characters: {shown[:300]}")
    if not shown.isprintable():
        return Outcome("message", f"characters that are not printed: {shown[:300]!r}")
    return Outcome("refused", shown)


def _resident(name: str) -> int:
    """Bytes, from Linux's account of this process; 0 where there is none."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def _forget_peak() -> None:
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="ascii")
