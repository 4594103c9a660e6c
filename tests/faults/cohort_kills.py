"""Kill a cohort at random moments and continue it: ``python tests/faults/cohort_kills.py`` (part of ``make kills``).

A cohort of small brains runs with two worker processes. At a random moment the command, one of its workers, or all of
them are killed; then every folder must be whole and the manifest readable, and the same command goes on, until a run
comes to its end. The results must then be those of a run that nobody disturbed, to the byte. Prints a table; exit code
1 when anything was lost. The table in docs/reliability.md is what it printed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]

from brains import write_tiny_model
from cohorts import write_images, write_table
from uresnet.cohort.manifest import Manifest

KINDS = ("command, SIGKILL", "command, SIGTERM", "command, SIGINT", "a worker, SIGKILL", "all at once, SIGKILL")


@dataclass
class Count:
    """Of the kills of one kind."""

    kills: int = 0
    half: int = 0
    orphans: int = 0


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """``uresnet`` with ``arguments``, in a session of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    command = [sys.executable, "-m", "uresnet", *arguments]
    null = subprocess.DEVNULL
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore SIGINT
    return subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=null, stderr=null, preexec_fn=heeding
    )


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Its worker processes that run."""
    with suppress(psutil.NoSuchProcess):
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]
    return []


def strike(process: subprocess.Popen[bytes], kind: str, rng: random.Random) -> list[psutil.Process]:
    """Kill, and return the workers that were there."""
    workers = workers_of(process)
    if kind.startswith("a worker"):
        if workers:
            rng.choice(workers).kill()
        return []
    if kind.startswith("all"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.send_signal(getattr(signal, kind.split(", ")[1]))
    return workers


def what_is_half(out: Path) -> list[str]:
    """Folders that are not whole, and results that the manifest has and the disk has not."""
    wrong = []
    for folder in out.glob("[!.]*/"):
        try:
            listed = json.loads((folder / "run.json").read_text(encoding="utf-8"))["files"]
            if sorted(listed) != sorted(path.name for path in folder.iterdir()):
                wrong.append(f"{folder.name}: other files than it lists")
        except (OSError, ValueError, KeyError) as error:
            wrong.append(f"{folder.name}: {error}")
    done = [name for name, outcome in Manifest(out).outcomes().items() if outcome.state == "done"]
    return wrong + [f"{name}: in the manifest only" for name in done if not (out / name).is_dir()]


def results(out: Path) -> dict[str, bytes]:
    """All files of the pairs, without what tells times and places."""
    files = [path for path in out.glob("[!.]*/*") if path.suffix != ".json"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def main() -> None:
    """Kill until it is enough, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, counts, lost = random.Random(options.seed), {kind: Count() for kind in KINDS}, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = write_images(folder, options.pairs + 1)
        rows = [(f"p{n}", image, images[0]) for n, image in enumerate(images[1:])]
        table = write_table(folder / "pairs.tsv", "id moving fixed", *rows)
        model = write_tiny_model(folder / "tiny.safetensors", deforms=True)
        common = [str(table), "--model", str(model), "--brain", "none", "--workers", "2", "--quiet"]
        began = time.monotonic()
        assert start(["cohort", *common, "-o", str(folder / "undisturbed")]).wait() == 0
        seconds, expected = time.monotonic() - began, results(folder / "undisturbed")
        out = folder / "out"
        while sum(count.kills for count in counts.values()) < options.kills:
            kind, process = rng.choice(KINDS), start(["cohort", *common, "-o", str(out)])
            try:
                process.wait(rng.uniform(0.3, 0.9) * seconds)
            except subprocess.TimeoutExpired:
                workers, count = strike(process, kind, rng), counts[kind]
                count.kills += 1
                process.wait()
                count.orphans += len(psutil.wait_procs(workers, timeout=30)[1])
                wrong = what_is_half(out)
                total = sum(each.kills for each in counts.values())
                print(f"kill {total}: {kind}", file=sys.stderr, flush=True)
                for sentence in wrong:
                    print(f"LOST after {kind}: {sentence}", file=sys.stderr)
                count.half += len(wrong)
            if process.returncode == 0:
                same = results(out) == expected and not list(out.rglob(".uresnet*"))
                lost += not same
                shutil.rmtree(out)
        assert start(["cohort", *common, "-o", str(out)]).wait() == 0
        lost += results(out) != expected
        lost += len(list(out.rglob(".uresnet*")))
    print("| killed | times | half a result | workers left |\n|---|---|---|---|")
    for kind, count in counts.items():
        print(f"| {kind} | {count.kills} | {count.half} | {count.orphans} |")
        lost += count.half + count.orphans
    print(f"\nlost, left or different from an undisturbed run: {lost}" if lost else "\nnothing was lost")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
