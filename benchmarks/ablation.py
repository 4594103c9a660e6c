"""What each part of the default model is worth: registrations with a part left out, on pairs with manual labels.

    python benchmarks/ablation.py OASIS_MALF OUT [--model FILE] [--pairs 1101-1107 1119-1125] [--threads 2]

Registers as ``uresnet register`` does, in this process, with one thing changed at a time; Dice is that of manual labels
warped nearest-neighbour, mean over the fifteen structures of Table 1, SDlogJ and folds are those of ``run.json``,
seconds those of the stage "couple" (network and solver). OUT/ablation.csv gets a row as soon as it is known and a run
that was stopped goes on; OUT/ablation.md is the table.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from uresnet.core.image import LabelMap
from uresnet.core.labels import left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.coupling import COUPLERS, couple_midspace
from uresnet.evaluation.scores import structure_scores
from uresnet.io import read_labels
from uresnet.model.checkpoint import MIDSPACE, Model, load_model
from uresnet.pipeline.register import register
from uresnet.solver import DEFAULT_SETTINGS, SolverSettings
from uresnet.transform import resample

PAIRS = ("1101-1107", "1119-1125")
COARSE, MIDDLE, FINE = DEFAULT_SETTINGS.levels
SETTINGS: dict[str, SolverSettings] = {
    "as it is": DEFAULT_SETTINGS,
    "structures alone, no intensities": replace(DEFAULT_SETTINGS, correlation=0.0),
    "intensities alone, no structures": replace(DEFAULT_SETTINGS, structures=0.0),
    "8 mm alone": replace(DEFAULT_SETTINGS, levels=(COARSE,), residual=None),
    "8 and 4 mm": replace(DEFAULT_SETTINGS, levels=(COARSE, MIDDLE), residual=None),
    "8, 4 and 2 mm": replace(DEFAULT_SETTINGS, residual=None),
    "2 and 1 mm": replace(DEFAULT_SETTINGS, levels=(FINE,)),
    "divergence smoothed like the rest": replace(
        DEFAULT_SETTINGS,
        levels=tuple(replace(level, divergence_steps=0) for level in DEFAULT_SETTINGS.levels),
        residual=replace(DEFAULT_SETTINGS.residual, divergence_steps=0) if DEFAULT_SETTINGS.residual else None,
    ),
}
FREEDOMS = {"affine of the structures' centroids alone": "affine", "rigid part of it alone": "rigid"}
DEFORMABLE = "deformation without the affine"
REFINE = "--refine"
ROWS = (*SETTINGS, *FREEDOMS, DEFORMABLE, REFINE)
MEASURES = ("dice", "sdlogj", "folds", "seconds")


@contextmanager
def solver_settings(chosen: SolverSettings) -> Iterator[None]:
    """The solver with other settings."""
    before = COUPLERS[MIDSPACE]
    COUPLERS[MIDSPACE] = replace(before, couple=partial(couple_midspace, settings=chosen))
    try:
        yield
    finally:
        COUPLERS[MIDSPACE] = before


def manual(path: Path) -> LabelMap:
    """Manual labels as FreeSurfer ids."""
    labels = read_labels(path)
    values = labels.data.numpy()
    ids = neuromorphometrics_to_freesurfer(values, left_of_midline(values, labels.grid.voxel_to_world), labels.name)
    return LabelMap(torch.from_numpy(ids), labels.grid, labels.path)


def measure(row: str, model: Model, data: Path, pair: str) -> dict[str, float]:
    """One registration."""
    moving, fixed = pair.split("-")
    images = [data / f"{subject}_T1.nii.gz" for subject in (moving, fixed)]
    with solver_settings(SETTINGS.get(row, DEFAULT_SETTINGS)):
        freedom = FREEDOMS.get(row, "deformable" if row == DEFORMABLE else "joint")
        done = register(*images, model=model, transform=freedom, refine=row == REFINE)  # type: ignore[arg-type]
    truth = manual(data / f"{fixed}_labels.nii.gz")
    warped = resample(done.transform, manual(data / f"{moving}_labels.nii.gz"), truth.grid, "nearest")
    scores = [score.dice for score in structure_scores(warped, truth) if score.scheme == "table1"]
    return {
        "dice": float(np.nanmean(scores)),
        "sdlogj": done.measures.sd_log_jacobian,
        "folds": done.measures.folding_fraction,
        "seconds": done.record.seconds["couple"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--pairs", nargs="+", default=PAIRS)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.set_grad_enabled(False)
    model = load_model(chosen.model)
    chosen.output.mkdir(parents=True, exist_ok=True)
    table = chosen.output / "ablation.csv"
    found: dict[tuple[str, str], dict[str, float]] = {}
    if table.exists():
        with table.open(newline="", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line["model"] == model.sha256[:12]:
                    found[line["row"], line["pair"]] = {name: float(line[name]) for name in MEASURES}
    for row in ROWS:
        for pair in chosen.pairs:
            if (row, pair) not in found:
                found[row, pair] = measure(row, model, chosen.data, pair)
                fresh = not table.exists()
                with table.open("a", newline="", encoding="utf-8") as file:
                    writer = csv.writer(file, lineterminator="\n")
                    if fresh:
                        writer.writerow(["model", "row", "pair", *MEASURES])
                    writer.writerow([model.sha256[:12], row, pair, *found[row, pair].values()])
            print(row, pair, found[row, pair], flush=True)
    lines = [
        f"Mean of {', '.join(chosen.pairs)}; model {model.name} {model.sha256[:12]}; {chosen.threads} threads.",
        "",
    ]
    lines += ["| | Dice | SDlogJ | folds | couple, s |", "|---|---|---|---|---|"]
    for row in ROWS:
        dice, deviation, folds, seconds = (
            float(np.mean([found[row, pair][name] for pair in chosen.pairs])) for name in MEASURES
        )
        lines.append(f"| {row} | {dice:.3f} | {deviation:.2f} | {folds:.1e} | {seconds:.1f} |")
    (chosen.output / "ablation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
