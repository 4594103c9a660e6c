"""Scores as text: the paper's Table 1 in Markdown, and every number in CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from uresnet.core.labels import label_scheme
from uresnet.evaluation.scores import MERGED, SIDED, TISSUES, PairScores

_SIGNIFICANT_DIGITS = 5

Columns = Sequence[Sequence[PairScores]]
"""The scores of all pairs, a sequence a model."""


def pairs_csv(scores: Sequence[PairScores]) -> str:
    """A row for every model and pair; cells are empty where nothing could be measured."""
    tissues = [structure.abbreviation for structure in label_scheme(TISSUES).classes]
    header = ["model", "moving", "fixed", "dice_15", "dice_28", "hd95_mm", "surface_mm"]
    header += [f"segmentation_{name}" for name in tissues]
    header += ["folding_fraction", "sd_log_jacobian", "inverse_mm", "inverse_max_mm", "consistency_mm"]
    header += ["seconds", "peak_mib"]
    rows = []
    for pair in scores:
        row: list[object] = [pair.model, pair.moving, pair.fixed, pair.mean("dice"), pair.mean("dice", SIDED)]
        row += [pair.mean("hd95_mm"), pair.mean("mean_mm"), *(pair.segmentation.get(name) for name in tissues)]
        row += [pair.folding_fraction, pair.sd_log_jacobian]
        row += [pair.inverse_mm, pair.inverse_max_mm, pair.consistency_mm]
        row += [pair.seconds, None if pair.peak_bytes is None else round(pair.peak_bytes / 2**20)]
        rows.append(row)
    return _csv(header, rows)


def structures_csv(scores: Sequence[PairScores]) -> str:
    """A row for every model, pair and structure (``scheme`` says which set of structures it belongs to)."""
    header = ["model", "moving", "fixed", "scheme", "structure", "dice", "hd95_mm", "surface_mm"]
    rows = [
        [pair.model, pair.moving, pair.fixed, score.scheme, score.structure, score.dice, score.hd95_mm, score.mean_mm]
        for pair in scores
        for score in pair.structures
    ]
    return _csv(header, rows)


def table1(scores: Sequence[PairScores], where: str, voxel_mm: Mapping[str, float] | None = None) -> str:
    """The paper's Table 1 and further measures, in Markdown: mean ± standard deviation over pairs, a column a model.

    ``where`` says on which data it was measured; ``voxel_mm`` is the width of the voxels that each model sees, which a
    comparison has to mention. The deviation is that of the sample (n - 1); a single pair has none.
    """
    models = list(dict.fromkeys(pair.model for pair in scores))
    of_model = {model: [pair for pair in scores if pair.model == model] for model in models}
    columns = list(of_model.values())
    others = _further_measures(columns)
    if voxel_mm:
        others.append(["voxels that it sees, mm", *(f"{voxel_mm[m]:g}" if m in voxel_mm else "–" for m in models)])
    return "\n".join(
        [
            f"# Table 1: {where}",
            "",
            f"Mean ± standard deviation over {max(map(len, columns))} ordered pairs.",
            "",
            "## Registration: Dice of the warped true labels",
            "",
            *_markdown(["structure", *models], _registration_dice(columns)),
            "",
            "## Segmentation of the moving image: Dice",
            "",
            *_markdown(["structure", *models], _segmentation_dice(columns)),
            "",
            "## What else was measured",
            "",
            *_markdown(["measure", *models], others),
            "",
            "Dice: labels are the arg-max of warped probabilities (one-hot, sided), merged afterwards. Surface",
            "distances are means over the 15 structures. Inverse error: distance of a point from itself after the",
            "transform and the inverse that is written; inverse consistency: after the transform and that of the",
            "swapped pair.",
            "",
        ]
    )


def _registration_dice(columns: Columns) -> list[list[str]]:
    names = [structure.abbreviation for structure in label_scheme(MERGED).classes]
    return [
        *(_row(name, columns, lambda pair, name=name: pair.dice()[name]) for name in names),  # type: ignore[misc]
        _row("**mean of 15**", columns, lambda pair: pair.mean("dice")),
        _row("mean of 28, sided", columns, lambda pair: pair.mean("dice", SIDED)),
    ]


def _segmentation_dice(columns: Columns) -> list[list[str]]:
    names = [structure.abbreviation for structure in label_scheme(TISSUES).classes]
    return [
        _row(name, columns, lambda pair, name=name: pair.segmentation.get(name))  # type: ignore[misc]
        for name in names
    ]


def _further_measures(columns: Columns) -> list[list[str]]:
    return [
        _row("HD95, mm", columns, lambda pair: pair.mean("hd95_mm"), 2),
        _row("mean surface distance, mm", columns, lambda pair: pair.mean("mean_mm"), 2),
        _row("folds, % of the brain", columns, lambda pair: 100 * pair.folding_fraction),
        _row("SD log Jacobian", columns, lambda pair: pair.sd_log_jacobian),
        _row("inverse error, mm", columns, lambda pair: pair.inverse_mm),
        _row("inverse consistency error, mm", columns, lambda pair: pair.consistency_mm, 2),
        _row("time, s", columns, lambda pair: pair.seconds, 1),
        _row("peak memory, MiB", columns, lambda pair: _mebibytes(pair.peak_bytes), 0),
    ]


def _row(name: str, columns: Columns, measure: Callable[[PairScores], float | None], digits: int = 3) -> list[str]:
    return [name, *(_mean_std([measure(pair) for pair in pairs], digits) for pairs in columns)]


def _mebibytes(count: int | None) -> float | None:
    return None if count is None else count / 2**20


def _mean_std(values: Iterable[float | None], digits: int) -> str:
    known = np.array([value for value in values if value is not None and not math.isnan(value)])
    if not len(known):
        return "–"
    mean = f"{known.mean():.{digits}f}"
    return mean if len(known) == 1 else f"{mean} ± {known.std(ddof=1):.{digits}f}"


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
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}") if isinstance(value, float) else value
