"""``uresnet cohort`` beside a shell loop over ``uresnet register``: the same images to one target, on the same cores.

    python benchmarks/cohort_speed.py TARGET IMAGES... --out OUT [--cores 2] [-- OPTIONS OF BOTH]

The loop runs ``uresnet register IMAGE TARGET --no-report`` for one image after the other, with as many threads as there
are cores; the cohort has a worker for each core. The loop is halved: one half runs before the cohort and one after it,
so that a computer that becomes busier or warmer treats both alike. Printed are the seconds of the clock and those of
the processor (of all processes together, which depend less on what else the computer does), and for both the ratio.
OUT is removed afterwards, unless ``--keep`` is given.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Spent:
    """Seconds of the clock and of the processor."""

    clock: float = 0.0
    processor: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.clock + other.clock, self.processor + other.processor)


def run(arguments: Sequence[object], cores: Sequence[int]) -> Spent:
    """What a ``uresnet`` command takes, with the processes that it starts."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "uresnet", *map(str, arguments), "--quiet"],
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.monotonic() - begun, processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--keep", action="store_true")
    own = sys.argv[1:]
    options = own[own.index("--") + 1 :] if "--" in own else []
    given = parser.parse_args(own[: own.index("--")] if "--" in own else own)
    cores = sorted(os.sched_getaffinity(0))[: given.cores]
    given.out.mkdir(parents=True)
    names = [f"image{number}" for number in range(len(given.images))]
    table = given.out / "images.tsv"
    rows = [f"{name}\t{image.absolute()}\n" for name, image in zip(names, given.images, strict=True)]
    table.write_text("id\timage\n" + "".join(rows), encoding="utf-8")

    def loop(part: slice) -> Spent:
        spent = Spent()
        for name, image in list(zip(names, given.images, strict=True))[part]:
            one = run(["register", image, given.target, "-o", given.out / name, "--no-report", *options], cores)
            print(f"register {name}: {one.clock:.1f} s, processor {one.processor:.1f} s", flush=True)
            spent += one
        return spent

    half = len(names) // 2
    looped = loop(slice(None, half))
    cohort = run(["cohort", table, "--to", given.target, "-o", given.out / "cohort", *options], cores)
    print(f"cohort: {cohort.clock:.1f} s, processor {cohort.processor:.1f} s", flush=True)
    looped += loop(slice(half, None))
    print(f"{len(names)} pairs on {len(cores)} cores, load {os.getloadavg()[0]:.1f}")
    for what, one, other in (
        ("clock", looped.clock, cohort.clock),
        ("processor", looped.processor, cohort.processor),
    ):
        print(f"{what}: loop {one:.1f} s, cohort {other:.1f} s, ratio {one / other:.2f}")
    if not given.keep:
        shutil.rmtree(given.out)


if __name__ == "__main__":
    main()
