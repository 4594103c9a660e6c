"""uresnet, ANTs SyN and greedy on the same pairs, judged in the same way, in one table.

    python benchmarks/accuracy.py OASIS_MALF OUT [--methods default refine syn greedy] [--pairs 1101-1107] [--threads 2]
        [--freesurfer SUBJECTS] [--model FILE]

OASIS_MALF holds ``SCAN_T1.nii.gz`` and ``SCAN_labels.nii.gz`` (manual Neuromorphometrics labels). The ten pairs are the
five people of ``val`` in a ring, both ways. SUBJECTS holds folders of FreeSurfer, whose ``mri/norm.mgz`` and
``mri/aseg.mgz`` are registered in a ring both ways too: another scanner and other labels than those of the training.
``--model`` takes other weights for ``default`` and ``refine``; give each its own OUT.
Every registration is a process of its own, timed from its start until its files are written. SimpleITK warps the labels
by the exported transform, nearest-neighbour (greedy does so for its own transforms); Dice is the mean over the fifteen
structures of the paper's Table 1. Folds and SDlogJ are measured by uresnet on the exported files, over the fixed brain.
A row is added to OUT/accuracy.csv as soon as it is known, and a run that was stopped continues; OUT/accuracy.md is the
table. ANTs and greedy come with ``pip install 'uresnet[test]'``.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import SimpleITK as sitk
import torch

from uresnet.core.labels import label_scheme, neuromorphometrics_to_freesurfer
from uresnet.io import read_image
from uresnet.measures.overlap import dice_per_class
from uresnet.preprocess import extract_brain
from uresnet.transform import folding_fraction, jacobian_determinant, log_jacobian_std
from uresnet.transform_files import FileKind, read_chain

Labels = npt.NDArray[np.int32]

NEUROMORPHOMETRICS, FREESURFER = "Neuromorphometrics", "FreeSurfer"
VAL = ("1101", "1107", "1113", "1119", "1125")


def ring(scans: Sequence[str]) -> list[tuple[str, str]]:
    """Each scan with the next, then the same pairs the other way round."""
    there = [(scans[n], scans[(n + 1) % len(scans)]) for n in range(len(scans))]
    return list(dict.fromkeys([*there, *((fixed, moving) for moving, fixed in there)]))


PAIRS = ring(VAL)
SCHEME = label_scheme("table1")
MEASURES = ("dice", "folds", "sdlogj", "seconds")
STRUCTURES = tuple(structure.name for structure in SCHEME.classes)
COLUMNS = ("labels", "method", "moving", "fixed", *MEASURES, "threads", "version", *STRUCTURES)

SYN = """
import sys, ants
moving, fixed, prefix = sys.argv[1:4]
ants.registration(ants.image_read(fixed), ants.image_read(moving), 'SyN', outprefix=prefix, random_seed=1)
"""
GREEDY = """
import sys
from picsl_greedy import Greedy3D
for command in sys.argv[1:]:
    Greedy3D().execute(command)
"""


@dataclass(frozen=True)
class Method:
    """How a program registers.

    ``command`` gives the process's arguments for (moving, fixed, folder, threads). ``files`` are those of the transform
    that it writes, in the order in which they are applied to a fixed point. It needs ``package`` and its ``module``.
    """

    title: str
    package: str
    module: str
    command: Callable[[Path, Path, Path, int], list[str]]
    files: tuple[str, ...]


def uresnet(*options: str) -> Callable[[Path, Path, Path, int], list[str]]:
    """``uresnet register`` with options."""

    def command(moving: Path, fixed: Path, folder: Path, threads: int) -> list[str]:
        inputs = [sys.executable, "-m", "uresnet", "register", str(moving), str(fixed), "-o", str(folder / "result")]
        return [*inputs, "--no-report", "--threads", str(threads), *options]

    return command


def syn(moving: Path, fixed: Path, folder: Path, threads: int) -> list[str]:
    """antspyx's default SyN, its affine first."""
    return [sys.executable, "-c", SYN, str(moving), str(fixed), f"{folder}/"]


def greedy(moving: Path, fixed: Path, folder: Path, threads: int) -> list[str]:
    """Affine, then the deformation, as its documentation does."""
    both = f"-d 3 -threads {threads} -m NCC 2x2x2 -i {fixed} {moving}"
    affine = f"{both} -a -dof 12 -ia-image-centers -n 100x50x10 -o {folder}/affine.mat"
    return [
        sys.executable,
        "-c",
        GREEDY,
        affine,
        f"{both} -it {folder}/affine.mat -n 100x50x10 -o {folder}/warp.nii.gz",
    ]


OURS = ("result/transform.h5",)
WITH_DEFAULT = ("default", "refine")
METHODS = {
    "translation": Method("uresnet, translation", "uresnet", "uresnet", uresnet("--model", "translation"), OURS),
    "default": Method("uresnet", "uresnet", "uresnet", uresnet(), OURS),
    "refine": Method("uresnet --refine", "uresnet", "uresnet", uresnet("--refine"), OURS),
    "open": Method("uresnet --model open", "uresnet", "uresnet", uresnet("--model", "open"), OURS),
    "syn": Method("ANTs SyN (antspyx)", "antspyx", "ants", syn, ("1Warp.nii.gz", "0GenericAffine.mat")),
    "greedy": Method("greedy", "picsl-greedy", "picsl_greedy", greedy, ("warp.nii.gz", "affine.mat")),
}


def with_weights(method: Method, model: Path) -> Method:
    """The same method with the weights of a ``model`` file."""

    def command(moving: Path, fixed: Path, folder: Path, threads: int) -> list[str]:
        return [*method.command(moving, fixed, folder, threads), "--model", str(model)]

    return replace(method, command=command)


def missing(methods: Sequence[str]) -> list[str]:
    """A sentence for each method whose tool is not installed."""
    return [
        f"{METHODS[name].title} needs {METHODS[name].package}, which is not installed: pip install "
        f"{METHODS[name].package}, or choose other --methods."
        for name in methods
        if importlib.util.find_spec(METHODS[name].module) is None
    ]


def register(method: Method, moving: Path, fixed: Path, folder: Path, threads: int) -> float:
    """Run a method in a process of its own; seconds from its start to its files. ``RuntimeError`` when it fails."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")
    start = time.perf_counter()
    done = subprocess.run(
        method.command(moving, fixed, folder, threads),
        env=os.environ | dict.fromkeys(names, str(threads)),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    absent = [name for name in method.files if not (folder / name).exists()]
    if done.returncode or absent:
        reason = (done.stderr or done.stdout).strip()[-500:] or f"it did not write {absent}"
        raise RuntimeError(f"{method.title} failed on {moving.name} and {fixed.name}: {reason}")
    return seconds


def warped(method: Method, folder: Path, labels: Path, like: Path) -> Labels:
    """The moving ``labels`` warped to the grid of ``like`` by the exported transform, nearest-neighbour, (k, j, i)."""
    files = [folder / name for name in method.files]
    if method.module == "picsl_greedy":
        from picsl_greedy import Greedy3D

        out = folder / "labels.nii.gz"
        with (folder / "greedy.log").open("w") as log:
            Greedy3D().execute(f"-d 3 -rf {like} -ri NN -rm {labels} {out} -r {files[0]} {files[1]}", log, log)
        return _labels_of(sitk.ReadImage(str(out)))
    chain = sitk.CompositeTransform(3)
    for file in reversed(files):  # ITK applies the transform that was added last first
        chain.AddTransform(_itk(file))
    fixed, moving = sitk.ReadImage(str(like)), sitk.ReadImage(str(labels))
    return _labels_of(sitk.Resample(moving, fixed, chain, sitk.sitkNearestNeighbor, 0))


def _labels_of(image: sitk.Image) -> Labels:
    values: Labels = np.rint(sitk.GetArrayFromImage(image)).astype(np.int32)
    return values


def _itk(file: Path) -> sitk.Transform:
    if file.name.endswith(".nii.gz"):
        return sitk.DisplacementFieldTransform(sitk.ReadImage(str(file), sitk.sitkVectorFloat64))
    transform: sitk.Transform = sitk.ReadTransform(str(file))
    return transform


def merged(values: npt.NDArray[Any], protocol: str) -> torch.Tensor:
    """Labels as the classes of Table 1, 0 for everything else."""
    if protocol == NEUROMORPHOMETRICS:
        # Table 1 merges left and right, so that the side of the vermis does not matter.
        values = neuromorphometrics_to_freesurfer(values, np.array(True))
    return torch.from_numpy(SCHEME.to_classes(values))


def judge(
    method: Method, folder: Path, data: Path, moving: str, fixed: str, protocol: str = NEUROMORPHOMETRICS
) -> dict[str, float]:
    """Dice of every structure, their mean, folds and SDlogJ of what a method left in ``folder``."""
    like = data / f"{fixed}_labels.nii.gz"
    found = merged(warped(method, folder, data / f"{moving}_labels.nii.gz", like), protocol)
    truth = merged(sitk.GetArrayFromImage(sitk.ReadImage(str(like))).astype(np.int32), protocol)
    dice = dice_per_class(found, truth, SCHEME.number_of_classes)
    image = read_image(data / f"{fixed}_T1.nii.gz")
    brain = extract_brain(image)[0].mask
    kind = FileKind("greedy") if method.module == "picsl_greedy" else None  # its matrix does not say whose it is
    determinant = jacobian_determinant(read_chain([folder / name for name in method.files], kind), image.grid)
    return {
        "dice": float(dice.nanmean()),
        "folds": folding_fraction(determinant, brain),
        "sdlogj": log_jacobian_std(determinant, brain),
        **dict(zip(STRUCTURES, dice.tolist(), strict=True)),
    }


def table(rows: Sequence[dict[str, str]]) -> str:
    """The rows of ``accuracy.csv`` as one Markdown table, a line a method for each kind of labels."""
    lines = [
        "| | labels | pairs | Dice | lowest | folds | SDlogJ | seconds | threads | version |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for protocol, (name, method) in product((NEUROMORPHOMETRICS, FREESURFER), METHODS.items()):
        own = [row for row in rows if row["method"] == name and row["labels"] == protocol]
        for threads in sorted({row["threads"] for row in own}):
            alike = [row for row in own if row["threads"] == threads]
            dice, folds, spread, seconds = (np.array([float(row[key]) for row in alike]) for key in MEASURES)
            versions = ", ".join(sorted({row["version"] for row in alike}))
            lines.append(
                f"| {method.title} | {protocol} | {len(alike)} | {dice.mean():.3f} | {dice.min():.3f} | "
                f"{folds.mean():.1e} | {spread.mean():.2f} | {seconds.mean():.1f} | {threads} | {versions} |"
            )
    return "\n".join([*lines, "", *structure_table(rows)]) + "\n"


def structure_table(rows: Sequence[dict[str, str]]) -> list[str]:
    """Mean Dice of every structure, a column for each method and kind of labels."""
    kinds = [
        (protocol, name)
        for protocol, name in product((NEUROMORPHOMETRICS, FREESURFER), METHODS)
        if any((row["labels"], row["method"]) == (protocol, name) for row in rows)
    ]
    lines = [
        "| | " + " | ".join(f"{name}, {protocol}" for protocol, name in kinds) + " |",
        "|---|" + "---|" * len(kinds),
    ]
    for structure in STRUCTURES:
        means = [
            np.nanmean([float(row[structure]) for row in rows if (row["labels"], row["method"]) == kind])
            for kind in kinds
        ]
        lines.append(f"| {structure} | " + " | ".join(f"{mean:.3f}" for mean in means) + " |")
    return lines


def from_freesurfer(subjects: Path, folder: Path) -> list[str]:
    """Writes what FreeSurfer made of each subject as ``SCAN_T1.nii.gz`` and ``SCAN_labels.nii.gz``, as in OASIS_MALF,
    on the same grids; gives the names. The other tools read no MGZ."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(path.parts[-3] for path in subjects.glob("*/mri/aseg.mgz"))
    for name, (source, end) in product(names, (("norm", "T1"), ("aseg", "labels"))):
        image = nib.MGHImage.from_filename(subjects / name / "mri" / f"{source}.mgz")
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine), folder / f"{name}_{end}.nii.gz")
    return names


def stamp() -> str:
    """The machine and the source with which this was measured."""
    here = Path(__file__).parent
    commit = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return f"uresnet at {commit or 'an unknown commit'}; {platform.platform()}, {os.cpu_count()} CPU cores.\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Register, judge, write. 2 if it cannot begin, 1 if a registration failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=["default", "refine", "syn", "greedy"])
    parser.add_argument("--pairs", nargs="+", default=[f"{m}-{f}" for m, f in PAIRS], help="MOVING-FIXED …")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", type=Path, metavar="FILE", help="of weights, instead of the packaged ones")
    parser.add_argument("--freesurfer", type=Path, metavar="SUBJECTS", help="also FreeSurfer's subjects in this folder")
    chosen = parser.parse_args(arguments)
    pairs = [pair.partition("-")[::2] for pair in chosen.pairs]
    ends = ("T1", "labels")
    needed = [chosen.data / f"{scan}_{end}.nii.gz" for pair in pairs for scan in pair for end in ends]
    wrong = [
        *missing(chosen.methods),
        *(f"{file} does not exist." for file in dict.fromkeys(needed) if not file.exists()),
    ]
    if chosen.freesurfer is not None and len(list(chosen.freesurfer.glob("*/mri/aseg.mgz"))) < 2:
        wrong.append(f"{chosen.freesurfer} holds fewer than two subjects with mri/norm.mgz and mri/aseg.mgz.")
    if wrong:
        print(*wrong, sep="\n", file=sys.stderr)
        return 2
    chosen.output.mkdir(parents=True, exist_ok=True)
    everything = [(NEUROMORPHOMETRICS, chosen.data, pair) for pair in pairs]
    if chosen.freesurfer is not None:
        copies = chosen.output / "freesurfer"
        everything += [(FREESURFER, copies, pair) for pair in ring(from_freesurfer(chosen.freesurfer, copies))]
    methods = {name: METHODS[name] for name in chosen.methods}
    if chosen.model is not None:
        methods |= {name: with_weights(methods[name], chosen.model) for name in WITH_DEFAULT if name in methods}
    rows, failed = run(everything, chosen.output, methods, chosen.threads)
    text = f"# Accuracy\n\n{table(rows)}\n{stamp()}"
    (chosen.output / "accuracy.md").write_text(text, encoding="utf-8")
    print("", table(rows), sep="\n")
    return int(failed)


def run(
    pairs: Sequence[tuple[str, Path, tuple[str, str]]], output: Path, methods: Mapping[str, Method], threads: int
) -> tuple[list[dict[str, str]], bool]:
    """All rows of ``output``/accuracy.csv, those of an earlier run included, and whether a registration failed."""
    results, failed = output / "accuracy.csv", False
    rows: list[dict[str, str]] = []
    if results.exists():
        with results.open(newline="", encoding="utf-8") as file:
            rows = [{"labels": NEUROMORPHOMETRICS} | row for row in csv.DictReader(file)]
    with results.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        for (protocol, data, (moving, fixed)), (name, method) in product(pairs, methods.items()):
            key = {"labels": protocol, "method": name, "moving": moving, "fixed": fixed, "threads": str(threads)}
            if any(all(row[k] == v for k, v in key.items()) for row in rows):
                continue
            try:
                measured = register_and_judge(method, protocol, data, (moving, fixed), output, threads)
            except RuntimeError as error:
                print(error, file=sys.stderr, flush=True)
                failed = True
                continue
            numbers = {measure: f"{value:.6g}" for measure, value in measured.items()}
            rows.append(key | {"version": version(method.package)} | numbers)
            writer.writerow(rows[-1])
            file.flush()
            shown = "  ".join(f"{measure} {measured[measure]:.4g}" for measure in MEASURES)
            print(f"{moving} → {fixed}  {name:<12}{shown}", flush=True)
    return rows, failed


def register_and_judge(
    method: Method, protocol: str, data: Path, pair: tuple[str, str], output: Path, threads: int
) -> dict[str, float]:
    """Every measure of one pair, registered in a temporary folder within ``output``."""
    moving, fixed = pair
    with tempfile.TemporaryDirectory(dir=output) as name:
        folder = Path(name)
        seconds = register(method, data / f"{moving}_T1.nii.gz", data / f"{fixed}_T1.nii.gz", folder, threads)
        return judge(method, folder, data, moving, fixed, protocol) | {"seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
