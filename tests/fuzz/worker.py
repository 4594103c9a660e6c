"""A process that reads damaged files: one batch for every line that it is sent (:mod:`fuzz.campaign`)."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

from fuzz.readers import readers
from fuzz.trials import Outcome, Trials, limited_memory

ADDRESS_SPACE = 4 << 30
"""Bytes that the process may ask for beyond what it holds when everything is loaded."""

BEGUN = "."


def main() -> None:
    """``python -m fuzz.worker SEEDS WORK FAILURES``: lines of JSON in, lines of JSON out."""
    seeds, work, failures = map(Path, sys.argv[1:])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    noise = os.open(work.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(noise, 1)  # C libraries write to both
    os.dup2(noise, 2)
    known = readers()
    ready: dict[str, Trials] = {}
    with limited_memory(ADDRESS_SPACE):
        for line in sys.stdin:
            name, number, count = json.loads(line)
            try:
                trials = ready[name] = ready.get(name) or Trials(known[name], seeds, work)
            except AssertionError as error:
                print(
                    json.dumps(["undamaged", _short(str(error))]),
                    json.dumps("done"),
                    sep="\n",
                    file=answers,
                    flush=True,
                )
                continue
            answer = _Answers(trials, failures, f"{number}")
            trials.run(number, count, lambda outcome, to=answer: print(to.line(outcome), file=answers, flush=True))  # type: ignore[misc]
            print(json.dumps("done"), file=answers, flush=True)


class _Answers:
    """What is told of each read; a file whose reading failed is kept."""

    def __init__(self, trials: Trials, failures: Path, number: str) -> None:
        self.trials, self.failures, self.number, self.count = trials, failures, number, 0

    def line(self, outcome: Outcome | None) -> str:
        if outcome is None:
            return json.dumps(BEGUN)
        self.count += 1
        if not outcome.failed:
            return json.dumps([outcome.kind, ""])
        kept = keep(self.trials.target, self.failures, self.trials.reader.name, f"{self.number}-{self.count}")
        return json.dumps([outcome.kind, f"{kept.name}: {_short(outcome.detail)}"])


def keep(file: Path, failures: Path, reader: str, number: str) -> Path:
    """A copy of a file whose reading failed."""
    kept = failures / f"{re.sub('[^a-zA-Z0-9]+', '-', reader)}_{number}_{file.name}"
    failures.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, kept)
    return kept


def _short(detail: str) -> str:
    """The last line of a traceback, after the last line of the package in it."""
    lines = [line.strip() for line in detail.strip().splitlines()]
    ours = [line for line in lines if line.startswith("File") and "/uresnet/" in line]
    where = re.sub(r'File ".*/uresnet/(.*)", line (\d+), in (\w+)', r"\1:\2 \3", ours[-1]) + ": " if ours else ""
    return f"{where}{lines[-1][:200] if lines else ''}"


if __name__ == "__main__":
    main()
