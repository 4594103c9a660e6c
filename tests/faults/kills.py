"""Kill commands at random moments and look at what they leave: ``python tests/faults/kills.py`` (``make kills``).

Each trial starts a command on small brains, sends SIGKILL, SIGTERM or SIGINT at a random moment, and checks that every
result is whole or absent, that an earlier result is the old one or the new one, and that the same command then
succeeds. A training that was killed must end with the weights of one that was not. Prints a table, and writes it into
a page; exit code 1 when anything was lost.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parents[1] / "src")]

from brains import FIELDS_OF_VIEW, brain_on, write_nifti, write_tiny_model
from pages import write_part
from uresnet.core.exchange import recover
from uresnet.core.files import LOG
from uresnet.core.temporary import PREFIX
from uresnet.training.state import STATE

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
COLUMNS = (
    "command",
    "killed",
    "ended first",
    "nothing, or the old result",
    "half a result",
    "later run failed",
    "hidden files left",
)
LATE = 0.5  # of the trials end in the last third of the command, where it writes


@dataclass(frozen=True)
class Case:
    """A command line, what it writes, and what is checked: ``found`` returns the digest of a whole result, None where
    there is none, and raises ``AssertionError`` for half of one. ``prepare`` removes what earlier trials wrote. With
    the option ``resume`` the command continues what was stopped; without, it starts anew."""

    name: str
    arguments: list[str]
    found: Callable[[], str | None]
    prepare: Callable[[], None] = lambda: None
    resume: str = ""


def digest(files: list[Path]) -> str:
    """Of the contents."""
    total = hashlib.sha256()
    for path in files:
        total.update(path.read_bytes())
    return total.hexdigest()


def run(arguments: list[str], kill_after: float | None = None, number: int = signal.SIGKILL) -> tuple[int, float]:
    """Exit code and seconds of ``uresnet`` with ``arguments``, killed after so many seconds."""
    start = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1] / "src")}
    process = subprocess.Popen(
        [sys.executable, "-m", "uresnet", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore SIGINT
    )
    try:
        process.wait(kill_after)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        process.wait(120)
    return process.returncode, time.monotonic() - start


def folder_result(folder: Path) -> Callable[[], str | None]:
    """A folder of results: absent, or complete with its record, the files listed in it and no others.

    A folder that has a record is complete as it stands. One whose files were being replaced has none, and is what the
    next command that writes into it makes of it (``recover``).
    """

    def found() -> str | None:
        if not folder.exists():
            return None
        if not (folder / "run.json").exists():
            recover(folder)
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        names = sorted(record["files"])
        there = sorted(p.name for p in folder.iterdir() if p.name != LOG and not p.name.startswith(PREFIX))
        assert there == names, f"files missing, or files of two runs: {sorted(set(there) ^ set(names))}"
        return digest([folder / name for name in names if name.endswith((".h5", ".nii.gz", ".tsv"))])

    return found


def file_results(*files: Path) -> Callable[[], str | None]:
    """Files that are all there or all absent."""

    def found() -> str | None:
        there = [path for path in files if path.exists()]
        assert len(there) in (0, len(files)), f"only {[path.name for path in there]}"
        return digest(there) if there else None

    return found


def removed(*paths: Path) -> Callable[[], None]:
    def prepare() -> None:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)

    return prepare


def small_inputs(folder: Path) -> None:
    """Two brains at 4 mm, a model that registers and segments them, and prepared data to train on."""
    for name, grid, shift in (("moving", "RAS", (3.0, -2.0, 4.0)), ("fixed", "LAS", (0.0, 0.0, 0.0))):
        values = brain_on(FIELDS_OF_VIEW[grid], shift)
        write_nifti(values, FIELDS_OF_VIEW[grid], folder / f"{name}.nii.gz")
        labels = (values > 80).astype("int16") * 2 + ((values > 0) & (values <= 80)).astype("int16") * 3
        write_nifti(labels, FIELDS_OF_VIEW[grid], folder / f"{name}_labels.nii.gz")
    write_tiny_model(folder / "tiny.safetensors", deforms=True)
    rows = ["id\timage\tlabels\tsubject\tsplit"]
    for person, split in (("a", "train"), ("b", "train"), ("c", "val"), ("d", "val")):
        name = "moving" if person in "ac" else "fixed"
        rows.append(f"{person}\t{folder}/{name}.nii.gz\t{folder}/{name}_labels.nii.gz\t{person}\t{split}")
    (folder / "table.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def cases(folder: Path) -> list[Case]:
    """The commands; those that need an earlier result make it here."""
    moving, fixed, model = (str(folder / name) for name in ("moving.nii.gz", "fixed.nii.gz", "tiny.safetensors"))
    common = ["--model", model, "--brain", "none", "--quiet"]
    pair = [moving, fixed, *common]
    again, base = folder / "again", folder / "base"
    for out in (again, base):
        assert run(["register", *pair, "-o", str(out)])[0] == 0
    transform = str(base / "transform.h5")
    training = train_case(folder)
    series, prefix = folder / "warped.nii.gz", folder / "ants_"
    labels = folder / "dseg.nii.gz"
    assert run(["segment", fixed, *common, "-o", str(labels)])[0] == 0
    segmented = sorted(folder.glob("dseg*"))
    beside = [path for path in segmented if path.suffix not in (".html", ".json") and not path.name.endswith(LOG)]
    assert run(["convert", transform, "--to", "ants", "-o", str(prefix)])[0] == 0
    converted = sorted(folder.glob("ants_*"))
    new = folder / "new"
    return [
        Case("register, new folder", ["register", *pair, "-o", str(new)], folder_result(new), removed(new)),
        Case("register --overwrite", ["register", *pair, "-o", str(again), "--overwrite"], folder_result(again)),
        Case("segment", ["segment", fixed, *common, "-o", str(labels)], file_results(*beside), removed(*segmented)),
        Case(
            "apply",
            ["apply", transform, moving, "--like", fixed, "-o", str(series)],
            file_results(series),
            removed(series),
        ),
        Case(
            "convert",
            ["convert", transform, "--to", "ants", "-o", str(prefix)],
            file_results(*converted),
            removed(*converted),
        ),
        training,
    ]


TRAINING = """data: data
model: {channels: [2, 4]}
training:
  epochs: 6
  pairs_per_epoch: 4
  checkpoint_every_minutes: 0.001
  validate_every_minutes: 1000
"""


def train_case(folder: Path) -> Case:
    """A training of some seconds, which ``--resume`` continues; its weights are the result."""
    data, config, out = folder / "data", folder / "config.yaml", folder / "run"
    config.write_text(TRAINING, encoding="utf-8")
    table, model = str(folder / "table.tsv"), str(folder / "tiny.safetensors")
    conform = ["--conform", model, "--brain", "none", "--quiet"]
    assert run(["prepare", "pairs", table, "-o", str(data), *conform])[0] == 0
    start = ["train", str(config), "--data", str(data), "-o", str(out), "--quiet", "--no-report"]

    def weights() -> str | None:
        from safetensors.numpy import load_file

        path = out / "best.safetensors"
        if not path.exists():
            return None
        tensors = load_file(path)
        return hashlib.sha256(b"".join(tensors[name].tobytes() for name in sorted(tensors))).hexdigest()

    return Case("train, then train --resume", start, weights, removed(out), "--resume")


@dataclass
class Outcome:
    """Of the trials of one command."""

    trials: int = 0
    killed: int = 0
    old_or_none: int = 0
    whole: int = 0
    half: int = 0
    failed_again: int = 0
    left: int = 0


def try_case(case: Case, trials: int, rng: random.Random, folder: Path) -> Outcome:
    """Kill one command ``trials`` times."""
    case.prepare()
    code, seconds = run(case.arguments)
    assert code == 0, f"{case.name} ends with {code} undisturbed"
    expected, outcome = case.found(), Outcome()
    assert expected is not None
    for _ in range(trials):
        case.prepare()
        moment = rng.uniform(seconds * 2 / 3, seconds) if rng.random() < LATE else rng.uniform(0, seconds)
        code, _ = run(case.arguments, moment, rng.choice(SIGNALS))
        outcome.trials += 1
        outcome.killed += code != 0
        try:
            found = case.found()
            outcome.half += found not in (None, expected) and not case.resume
            outcome.whole += code == 0
            outcome.old_or_none += code != 0
        except (AssertionError, ValueError, OSError, KeyError) as error:
            print(f"LOST: {case.name}, {moment:.2f} s, exit code {code}: {error}", file=sys.stderr)
            outcome.half += 1
        for path in list(folder.rglob(f"{PREFIX}*")):
            outcome.left += path.exists()
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        stopped = bool(case.resume) and (folder / "run" / STATE).exists()
        again = [*case.arguments, case.resume] if stopped else case.arguments
        if again == case.arguments:
            case.prepare()
        if ((code != 0 or not case.resume) and run(again)[0] != 0) or case.found() != expected:
            outcome.failed_again += 1
    return outcome


def main() -> None:
    """Try all commands and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="kills in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose names hold these words")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args()
    rng, lost = random.Random(options.seed), 0
    lines = [f"| {' | '.join(COLUMNS)} |", f"|---|{'--:|' * (len(COLUMNS) - 1)}"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small_inputs(folder)
        commands = [case for case in cases(folder) if options.only in case.name]
        print("\n".join(lines))
        for case in commands:
            found = try_case(case, -(-options.trials // len(commands)), rng, folder)
            lost += found.half + found.failed_again
            ended = found.trials - found.killed
            cells = (found.killed, ended, found.old_or_none, found.half, found.failed_again, found.left)
            lines.append(f"| {case.name} | {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
    if options.page:
        write_part(options.page, "kills", "\n".join(lines))
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
