"""``make fuzz``: thousands of damaged files through every reader, in processes that may hang or die.

Batches have numbers; a batch makes the same files again, and what each ended in is in ``journal.jsonl``: an
interrupted campaign goes on where it stopped. Files whose reading failed are kept in ``failures``.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from pathlib import Path
from queue import Empty, SimpleQueue

from fuzz.readers import readers
from fuzz.report import table, write_page
from fuzz.seeds import write_seeds
from fuzz.trials import Trials
from fuzz.worker import BEGUN, keep

HANG = 20.0
"""Seconds after which a read counts as hanging."""

BATCH = 50

Batch = tuple[str, int, int]  # reader, number, how many files


class Worker:
    """A process and what it says of the batch it is at."""

    def __init__(self, number: int, folder: Path) -> None:
        self.folder, self.work = folder, folder / "work" / str(number)
        self.work.mkdir(parents=True, exist_ok=True)
        self.process: subprocess.Popen[str] | None = None

    def run(self, batch: Batch) -> tuple[Counter[str], list[str]]:
        """Outcomes of the batch by kind, and a line for every failure. A read that hangs or kills the process ends
        the batch, and is a failure of it."""
        counts: Counter[str] = Counter()
        failures: list[str] = []
        process = self._started()
        assert process.stdin is not None
        process.stdin.write(json.dumps(batch) + "\n")
        process.stdin.flush()
        for answer in self._answers(process):
            if answer == "done":
                return counts, failures
            if answer == BEGUN:
                continue
            kind, detail = answer[0], answer[1]
            counts[kind] += 1
            if detail:
                failures.append(f"{kind}: {detail}")
        how = "hang" if process.poll() is None else "crash"
        self.close()
        counts[how] += 1
        reader = readers()[batch[0]]
        target = Trials.place(reader, self.work) / reader.target
        kept = keep(target, self.folder / "failures", batch[0], f"{batch[1]}-{sum(counts.values())}")
        return counts, [*failures, f"{how}: {kept.name}: exit status {process.returncode}"]

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def _started(self) -> subprocess.Popen[str]:
        if self.process is None:
            arguments = [self.folder / "seeds", self.work, self.folder / "failures"]
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fuzz.worker", *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            os.set_blocking(self._out(self.process), False)
            self._text = b""
        return self.process

    @staticmethod
    def _out(process: subprocess.Popen[str]) -> int:
        assert process.stdout is not None
        return process.stdout.fileno()

    def _answers(self, process: subprocess.Popen[str]) -> Iterator[str | list[str]]:
        """Until "done", or until nothing has come for too long or the process is gone."""
        waited = selectors.DefaultSelector()
        waited.register(self._out(process), selectors.EVENT_READ)
        patience = HANG + 60  # the first answer waits until everything is loaded
        while waited.select(patience):
            new = os.read(self._out(process), 1 << 16)
            if not new:
                process.wait()
                return
            *lines, self._text = (self._text + new).split(b"\n")
            for line in lines:
                answer = json.loads(line)
                yield answer
                if answer == "done":
                    return
            patience = HANG


def batches(total: int, names: list[str], first: int) -> list[Batch]:
    """``total`` files in batches, the readers in turn."""
    found: list[Batch] = []
    left, number = total, first
    for position, name in enumerate(cycle(names)):
        if left <= 0:
            return found
        number = first + position // len(names)
        found.append((name, number, min(BATCH, left)))
        left -= BATCH
    return found


def main() -> None:
    """The campaign and its table; exit status 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000, help="damaged files in all")
    parser.add_argument("--seed", type=int, default=1, help="number of the first batch")
    parser.add_argument("--processes", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"))
    parser.add_argument("--only", default="", help="readers whose names hold these words, separated by commas")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args()
    words = options.only.split(",")
    names = [name for name in readers() if any(word in name for word in words)]
    folder = options.folder.resolve()
    shutil.rmtree(folder / "seeds", ignore_errors=True)
    write_seeds(folder / "seeds")
    journal = folder / "journal.jsonl"
    wanted = batches(options.files, names, options.seed)
    done = _read_journal(journal)
    started = time.monotonic()
    _run([batch for batch in wanted if batch not in done], options.processes, folder, journal)
    done = _read_journal(journal)
    results = [(batch, *done[batch]) for batch in wanted if batch in done]
    print(table(results))
    failures = [line for _, _, lines in results for line in lines]
    print(*failures, sep="\n")
    print(f"{time.monotonic() - started:.0f} s; files that failed are in {folder / 'failures'}")
    if options.page:
        write_page(options.page, results, options.seed)
    sys.exit(1 if failures else 0)


def _read_journal(journal: Path) -> dict[Batch, tuple[Counter[str], list[str]]]:
    found = {}
    for line in journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []:
        (name, number, count), counts, failures = json.loads(line)
        found[name, number, count] = (Counter(counts), failures)
    return found


def _run(todo: list[Batch], processes: int, folder: Path, journal: Path) -> None:
    queue: SimpleQueue[Batch] = SimpleQueue()
    for batch in todo:
        queue.put(batch)

    def work(number: int) -> None:
        worker = Worker(number, folder)
        try:
            while True:
                try:
                    batch = queue.get_nowait()
                except Empty:
                    return
                counts, failures = worker.run(batch)
                with journal.open("a", encoding="utf-8") as file:
                    file.write(json.dumps([batch, counts, failures]) + "\n")
        finally:
            worker.close()

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(work, range(processes)))


if __name__ == "__main__":
    main()
