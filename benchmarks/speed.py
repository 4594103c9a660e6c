"""How long one registration takes, beside greedy and SyN, where the time goes, and how it grows.

    PYTHONPATH=tests python benchmarks/speed.py MOVING FIXED OUT [--methods default refine greedy] [--repeats 3]
        [--threads 2] [--page docs/performance.md]

MOVING and FIXED are T1-weighted brains without skull, in NIfTI. Every registration is a process of its own, from files
to files, without a page, on the first cores of the computer; the methods take turns, so that a computer that becomes
busier or warmer treats all alike. Then, once each: uresnet with one thread, and on voxels of half and of twice the
volume. What the computer can do at most is measured in the same run: products of matrices, and copies of memory.
OUT/speed.json keeps all figures, OUT/speed.md is the table, OUT/speed.svg the plot; ``--page`` writes the table
between the marks of a page of the documentation, and the plot into the folder ``images`` beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.utils.flop_counter import FlopCounterMode

from accuracy import METHODS, Method, missing, stamp
from pages import write_part
from uresnet.core.image import Image
from uresnet.io import read_image
from uresnet.model.checkpoint import load_model
from uresnet.model.segmenter import Segmenter
from uresnet.preprocess import conform

VOLUMES = (0.5, 1.0, 2.0)
"""How many voxels the images have, of those of the files."""


@dataclass(frozen=True)
class Run:
    """Seconds of the clock and of the processor, the largest memory in GB, and seconds of each stage if it tells."""

    clock: float
    processor: float
    memory: float
    stages: dict[str, float]


@dataclass(frozen=True)
class Machine:
    """The most that was seen: 10⁹ operations a second in float32, and 10⁹ bytes a second read and written."""

    operations: float
    bytes: float


def run(method: Method, pair: tuple[Path, Path], threads: int) -> Run:
    """One registration in a process of its own. ``RuntimeError`` when it fails."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    cores = sorted(os.sched_getaffinity(0))[:threads]
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryFile() as words:
        folder, begun = Path(name), time.perf_counter()
        process = subprocess.Popen(
            method.command(*pair, folder, threads),
            env=os.environ | dict.fromkeys(names, str(threads)),
            stdout=words,
            stderr=words,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        _, status, used = os.wait4(process.pid, 0)
        clock = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode or not all((folder / file).exists() for file in method.files):
            words.seek(0)
            raise RuntimeError(f"{method.title} failed: {words.read().decode(errors='replace')[-500:]}")
        record = folder / "result" / "run.json"
        stages = json.loads(record.read_text(encoding="utf-8"))["seconds"] if record.exists() else {}
    return Run(clock, used.ru_utime + used.ru_stime, _gigabytes(used), stages)


def _gigabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def race(methods: Sequence[str], pair: tuple[Path, Path], threads: int, repeats: int) -> dict[str, list[Run]]:
    """All methods in turn, ``repeats`` times."""
    found: dict[str, list[Run]] = {name: [] for name in methods}
    for _ in range(repeats):
        for name in methods:
            found[name].append(run(METHODS[name], pair, threads))
            print(f"{METHODS[name].title}: {found[name][-1].clock:.1f} s", flush=True)
    return found


def growth(pair: tuple[Path, Path], threads: int, folder: Path) -> dict[str, Run]:
    """uresnet on one thread, and on images with fewer and more voxels."""
    found = {"1 thread": run(METHODS["default"], pair, 1)} if threads > 1 else {}
    for volume in VOLUMES:
        scaled = pair if volume == 1 else tuple(rescaled(path, volume, folder / f"{volume}") for path in pair)
        found[f"{volume:g} × the voxels"] = run(METHODS["default"], (scaled[0], scaled[1]), threads)
    for name, one in found.items():
        print(f"uresnet, {name}: {one.clock:.1f} s", flush=True)
    return found


def rescaled(path: Path, volume: float, folder: Path) -> Path:
    """The image on voxels of another size, ``volume`` times as many."""
    image = nib.nifti1.Nifti1Image.from_filename(path)
    factor = volume ** (1 / 3)
    data = ndimage.zoom(
        np.asanyarray(image.dataobj).astype(np.float32), factor, order=1, grid_mode=True, mode="nearest"
    )
    affine = image.affine.copy()
    step = np.array(image.shape) / data.shape
    affine[:3, 3] = (image.affine @ [*(0.5 * (step - 1)), 1])[:3]
    affine[:3, :3] = image.affine[:3, :3] * step
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.nifti1.Nifti1Image(data, affine), folder / path.name)
    return folder / path.name


def machine(threads: int, size: int = 2048) -> Machine:
    """What products of large matrices and copies of large arrays reach."""
    torch.set_num_threads(threads)
    a, b = torch.rand(2, size, size)
    large = torch.rand(32 * size * size // 16)
    other = torch.empty_like(large)
    product = min(_seconds(lambda: a @ b) for _ in range(5))
    copy = min(_seconds(lambda: other.copy_(large)) for _ in range(5))
    return Machine(2e-9 * size**3 / product, 2e-9 * large.nbytes / copy)


def _seconds(work: object) -> float:
    begun = time.perf_counter()
    work()  # type: ignore[operator]
    return time.perf_counter() - begun


def network(path: Path, threads: int) -> tuple[float, float]:
    """10⁹ operations of the default network for one image, and the seconds that they take."""
    torch.set_num_threads(threads)
    model = load_model("default")
    assert isinstance(model.network, Segmenter)
    image: Image = read_image(path)
    tensor = conform(image, None, model.conform).tensor
    with torch.inference_mode():
        # The operations of oneDNN's own convolutions are not counted: for this once PyTorch computes them.
        with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
            model.network(tensor)
        seconds = min(_seconds(lambda: model.network(tensor)) for _ in range(2))
    return counter.get_total_flops() / 1e9, seconds


# -- what is told ------------------------------------------------------------------------------------------------------


def table(raced: dict[str, list[Run]], grown: dict[str, Run], limits: Machine, of_network: tuple[float, float]) -> str:
    """Everything in Markdown."""
    first = "greedy" if "greedy" in raced else next(iter(raced))
    slowest = statistics.median(one.clock for one in raced[first])
    lines = [
        f"| | seconds (from, to) | as fast as {METHODS[first].title} | processor, s | memory, GB |",
        "|---|---|---|---|---|",
    ]
    for name, runs in raced.items():
        clocks = sorted(one.clock for one in runs)
        middle = statistics.median(clocks)
        processor = statistics.median(one.processor for one in runs)
        lines.append(
            f"| {METHODS[name].title} | {middle:.1f} ({clocks[0]:.1f}, {clocks[-1]:.1f}) | {slowest / middle:.1f} × | "
            f"{processor:.1f} | {max(one.memory for one in runs):.2f} |"
        )
    lines += ["", *stage_table(raced.get("default", [])), "", "| uresnet | seconds | memory, GB |", "|---|---|---|"]
    lines += [f"| {name} | {one.clock:.1f} | {one.memory:.2f} |" for name, one in grown.items()]
    operations, seconds = of_network
    least = operations / limits.operations
    lines += [
        "",
        f"The network takes {seconds:.2f} s for one image. Its {operations:.0f} · 10⁹ operations would take {least:.2f}"
        f" s at {limits.operations:.0f} · 10⁹ a second, which this computer reaches in products of large matrices: "
        f"{100 * least / seconds:.0f} % of what is possible. Memory is copied at {limits.bytes:.0f} GB a second.",
    ]
    return "\n".join(lines)


def stage_table(runs: Sequence[Run]) -> list[str]:
    """The median of each stage, of its runs, and what lies outside of them: start, imports, writing, the end."""
    if not runs:
        return []
    names = [name for name in runs[0].stages if name != "total"]
    middle = {name: statistics.median(one.stages[name] for one in runs) for name in names}
    outside = statistics.median(one.clock - one.stages["total"] for one in runs)
    rows = [f"| {name} | {seconds:.1f} |" for name, seconds in middle.items()]
    return ["| stage | seconds |", "|---|---|", *rows, f"| start of the process, imports, writing | {outside:.1f} |"]


def plot(raced: dict[str, list[Run]], grown: dict[str, Run], path: Path) -> None:
    """Seconds of the methods, and how those of uresnet and its memory grow with the number of voxels."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    plt.rcParams["svg.hashsalt"] = "speed"
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    titles = [METHODS[name].title for name in raced]
    middles = [statistics.median(one.clock for one in runs) for runs in raced.values()]
    left.barh(titles[::-1], middles[::-1], color="#4477aa")
    left.bar_label(left.containers[0], fmt="%.0f s", padding=3)
    left.set_xlabel("seconds for one pair, from files to files")
    left.spines[["top", "right"]].set_visible(False)
    sizes = [grown[f"{volume:g} × the voxels"] for volume in VOLUMES]
    right.plot(VOLUMES, [one.clock for one in sizes], "o-", color="#4477aa")
    right.set(xlabel="voxels of the images, times those of the files", ylabel="seconds", ylim=(0, None))
    memory = right.twinx()
    memory.plot(VOLUMES, [one.memory for one in sizes], "s--", color="#cc6677")
    memory.set(ylabel="memory, GB (dashed)", ylim=(0, None))
    figure.savefig(path, metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write. 2 if it cannot begin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("moving", type=Path)
    parser.add_argument("fixed", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=["default", "refine", "greedy"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", type=Path)
    given = parser.parse_args(arguments)
    pair = (given.moving, given.fixed)
    wrong = [*missing(given.methods), *(f"{path} does not exist." for path in pair if not path.exists())]
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 2
    given.output.mkdir(parents=True, exist_ok=True)
    limits = machine(given.threads)
    raced = race(given.methods, pair, given.threads, given.repeats)
    grown = growth(pair, given.threads, given.output / "rescaled")
    of_network = network(given.fixed, given.threads)
    text = f"{table(raced, grown, limits, of_network)}\n\n{stamp()}"
    figures = {
        "methods": {name: [asdict(one) for one in runs] for name, runs in raced.items()},
        "growth": {name: asdict(one) for name, one in grown.items()},
        "machine": asdict(limits),
        "network": of_network,
    }
    (given.output / "speed.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (given.output / "speed.md").write_text(text, encoding="utf-8")
    plot(raced, grown, given.output / "speed.svg")
    print("", text, sep="\n")
    if given.page is not None:
        write_part(given.page, "speed", text.strip())
        shutil.copy(given.output / "speed.svg", given.page.parent / "images" / "speed.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
