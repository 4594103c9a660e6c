"""Scores as text: the paper's Table 1 in Markdown, and every number in CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from uresnet.core.labels import label_scheme
from uresnet.evaluation.scores import MERGED, SIDED, TISSUES, PairScores

ROUNDED = 5


def pairs_csv(scores: Sequence[PairScores]) -> str:
    """A row for every model and pair; an empty cell is what could not be measured."""
    tissues = [one.abbreviation for one in label_scheme(TISSUES).classes]
    header = ["model", "moving", "fixed", "dice_15", "dice_28", "hd95_mm", "surface_mm"]
    header += [f"segmentation_{name}" for name in tissues]
    header += ["folding_fraction", "sd_log_jacobian", "inverse_mm", "inverse_max_mm", "consistency_mm"]
    header += ["seconds", "peak_mib"]
    rows = []
    for one in scores:
        row: list[object] = [one.model, one.moving, one.fixed, one.mean("dice"), one.mean("dice", SIDED)]
        row += [one.mean("hd95_mm"), one.mean("mean_mm"), *(one.segmentation.get(name) for name in tissues)]
        row += [one.folding_fraction, one.sd_log_jacobian, one.inverse_mm, one.inverse_max_mm, one.consistency_mm]
        row += [one.seconds, None if one.peak_bytes is None else round(one.peak_bytes / 2**20)]
        rows.append(row)
    return _csv(header, rows)


def structures_csv(scores: Sequence[PairScores]) -> str:
    """A row for every model, pair and structure (``scheme`` says which set of structures it belongs to)."""
    header = ["model", "moving", "fixed", "scheme", "structure", "dice", "hd95_mm", "surface_mm"]
    rows = [
        [one.model, one.moving, one.fixed, s.scheme, s.structure, s.dice, s.hd95_mm, s.mean_mm]
        for one in scores
        for s in one.structures
    ]
    return _csv(header, rows)


def table1(scores: Sequence[PairScores], where: str, voxel_mm: Mapping[str, float] | None = None) -> str:
    """The paper's Table 1, and below it what else was measured: mean ± standard deviation over pairs, a column a model.

    ``where`` says on what was measured; ``voxel_mm`` how large the voxels are that each model sees, for a network at
    half the resolution is not to be compared with another at full without a word. The deviation is that of the sample
    (n - 1); a single pair has none.
    """
    models = list(dict.fromkeys(one.model for one in scores))
    by_model = {model: [one for one in scores if one.model == model] for model in models}

    def row(name: str, value: Callable[[PairScores], float | None], digits: int = 3, factor: float = 1.0) -> list[str]:
        return [name, *(_mean_std([value(one) for one in by_model[m]], digits, factor) for m in models)]

    dice = [
        row(one.abbreviation, lambda s, name=one.abbreviation: s.dice()[name])  # type: ignore[misc]
        for one in label_scheme(MERGED).classes
    ]
    dice.append(row("**mean of 15**", lambda s: s.mean("dice")))
    dice.append(row("mean of 28, sided", lambda s: s.mean("dice", SIDED)))
    segmented = [
        row(one.abbreviation, lambda s, name=one.abbreviation: s.segmentation.get(name))  # type: ignore[misc]
        for one in label_scheme(TISSUES).classes
    ]
    others = [
        row("HD95, mm", lambda s: s.mean("hd95_mm"), 2),
        row("mean surface distance, mm", lambda s: s.mean("mean_mm"), 2),
        row("folds, % of the brain", lambda s: s.folding_fraction, 3, 100),
        row("SD log Jacobian", lambda s: s.sd_log_jacobian),
        row("inverse error, mm", lambda s: s.inverse_mm),
        row("inverse consistency error, mm", lambda s: s.consistency_mm, 2),
        row("time, s", lambda s: s.seconds, 1),
        row("peak memory, MiB", lambda s: None if s.peak_bytes is None else s.peak_bytes / 2**20, 0),
    ]
    if voxel_mm:
        others.append(["voxels that it sees, mm", *(f"{voxel_mm[m]:g}" if m in voxel_mm else "–" for m in models)])
    pairs = max(len(found) for found in by_model.values())
    return "\n".join(
        [
            f"# Table 1: {where}",
            "",
            f"Mean ± standard deviation over {pairs} ordered pairs.",
            "",
            "## Registration: Dice of the warped true labels",
            "",
            *_markdown(["structure", *models], dice),
            "",
            "## Segmentation of the moving image: Dice",
            "",
            *_markdown(["structure", *models], segmented),
            "",
            "## What else was measured",
            "",
            *_markdown(["measure", *models], others),
            "",
            "Dice: labels are the arg-max of warped probabilities (one-hot, sided), merged afterwards. Surface",
            "distances are means over the 15 structures. Inverse error: there and back by the inverse that is",
            "written; inverse consistency: back by the registration of the swapped pair.",
            "",
        ]
    )


def _mean_std(values: Iterable[float | None], digits: int, factor: float) -> str:
    found = np.array([v * factor for v in values if v is not None and not math.isnan(v)])
    if not len(found):
        return "–"
    mean = f"{found.mean():.{digits}f}"
    return mean if len(found) == 1 else f"{mean} ± {found.std(ddof=1):.{digits}f}"


def _markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return out.getvalue()


def _cell(value: object) -> object:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return float(f"{value:.{ROUNDED}g}") if isinstance(value, float) else value
