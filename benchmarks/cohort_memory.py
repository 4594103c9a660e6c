"""The memory of a worker of ``uresnet cohort`` over many small pairs: flat, or rising?

    python benchmarks/cohort_memory.py [--pairs 1000] [--images 40] [--out OUT.tsv]

One worker process, as the engine of one computer starts it, registers synthetic brains of coarse voxels to each other
with a network of a few hundred weights; all code of a pair runs, and files are written. After each pair its resident
memory is noted. Printed are the median of every tenth of the run, and the rise by pair that a straight line through the
second half has.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import permutations
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from brains import write_tiny_model
from cohorts import options_for, write_images
from uresnet.cohort.jobs import Job
from uresnet.cohort.local import LocalWorkers
from uresnet.cohort.table import scan_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--images", type=int, default=40, help="at least as many as a worker keeps in memory")
    parser.add_argument("--out", type=Path, help="a table of all values")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        images = [scan_of(path) for path in write_images(folder, given.images)]
        pairs = list(permutations(images, 2))[: given.pairs]
        jobs = [Job(f"pair{number}", *pair) for number, pair in enumerate(pairs)]
        options = options_for(folder / "out", write_tiny_model(folder / "tiny.safetensors", deforms=True))
        options.folder.mkdir()
        engine = LocalWorkers(options, 1)
        held = []
        for outcome in engine.outcomes(jobs):
            assert outcome.state == "done", outcome.error
            held.append(psutil.Process(int(outcome.worker.rpartition(":")[2])).memory_info().rss / 1e6)
            if given.out is not None:
                lines = "".join(f"{number}\t{value:.1f}\n" for number, value in enumerate(held, start=1))
                given.out.write_text("pair\tmb\n" + lines, encoding="utf-8")
        engine.close()
    for number, part in enumerate(np.array_split(np.array(held), 10), start=1):
        print(f"{number * 10:3d} % of {len(held)} pairs: {np.median(part):.0f} MB")
    half = np.array(held[len(held) // 2 :])
    print(f"rise in the second half: {1000 * np.polyfit(np.arange(len(half)), half, 1)[0]:.1f} MB in 1,000 pairs")


if __name__ == "__main__":
    main()
