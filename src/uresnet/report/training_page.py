"""The page of a training: its learning curves, drawn from the tables that the run leaves."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from uresnet import __version__
from uresnet.errors import UserError
from uresnet.report.html import render

STEPS, VALIDATIONS = "log.csv", "validation.csv"
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 280, 56, 28
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
SMOOTH = 300
"""Curves are drawn through at most this many points, each the mean of its neighbours."""
_NOT_TERMS = {"step", "epoch", "seconds", "rate", "downsampling"}


@dataclass(frozen=True)
class Curve:
    """One line of a chart: SVG path data, and its last value."""

    name: str
    colour: str
    path: str
    last: float


@dataclass(frozen=True)
class Chart:
    """Curves over the updates of a run; ``ticks`` are (position, text) along each axis."""

    title: str
    curves: list[Curve]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]


def training_page(folder: Path) -> str:
    """The page of a training run's folder, as HTML. Raises :class:`UserError` where there are no tables to draw."""
    steps, validations = read_table(folder / STEPS), read_table(folder / VALIDATIONS)
    if not steps and not validations:
        raise UserError(f"{folder} holds no {STEPS} of a training that has begun.")
    charts = []
    if steps:
        terms = [name for name in steps if name not in _NOT_TERMS]
        charts.append(chart("Loss and its terms", steps, terms))
        if "rate" in steps:
            charts.append(chart("Learning rate", steps, ["rate"]))
    dice = [name for name in validations if "dice" in name]
    if dice:
        charts.append(chart("Dice on brains it does not learn from", validations, dice))
    if "folding" in validations:
        charts.append(chart("Share of voxels that fold", validations, ["folding"]))
    facts = _facts(steps, validations)
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": BOTTOM}
    title = f"Training {folder.resolve().name}"
    return render("training.html.j2", title=title, charts=charts, facts=facts, size=size, version=__version__)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file by name, what is no number as NaN; empty for a missing file or one without rows."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or "step" not in rows[0]:
        return {}
    return {name: np.array([_number(row.get(name)) for row in rows]) for name in rows[0] if name}


def chart(title: str, table: dict[str, np.ndarray], names: Sequence[str]) -> Chart:
    """Columns of a table over its ``step``."""
    x = table["step"]
    series = [(name, *_thinned(x, table[name])) for name in names]
    values = np.concatenate([y for _, _, y in series]) if series else np.zeros(0)
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    right = max(float(np.nanmax(x)), 1.0)

    def place(at: np.ndarray, value: np.ndarray) -> list[tuple[float, float]]:
        across = LEFT + at / right * (WIDTH - LEFT - 8)
        down = 8 + (high - value) / (high - low) * (HEIGHT - BOTTOM - 8)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    curves = []
    for n, (name, at, y) in enumerate(series):
        kept = np.isfinite(y)
        if kept.any():
            path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in place(at[kept], y[kept]))
            curves.append(Curve(name.replace("_", " "), COLOURS[n % len(COLOURS)], path, float(y[kept][-1])))
    along = np.linspace(0, right, 5)
    up = np.linspace(low, high, 5)
    x_ticks = [(a, f"{v:.0f}") for (a, _), v in zip(place(along, np.full(5, low)), along, strict=True)]
    y_ticks = [(b, f"{v:.3g}") for (_, b), v in zip(place(np.zeros(5), up), up, strict=True)]
    return Chart(title, curves, x_ticks, y_ticks)


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= SMOOTH:
        return x, y
    parts = np.array_split(np.arange(len(x)), SMOOTH)
    with np.errstate(invalid="ignore"):
        return np.array([x[p].mean() for p in parts]), np.array([y[p].mean() for p in parts])


def _facts(steps: dict[str, np.ndarray], validations: dict[str, np.ndarray]) -> dict[str, str]:
    facts = {}
    if steps:
        facts["Updates"] = f"{np.nanmax(steps['step']):.0f}"
        if "epoch" in steps:
            facts["Epochs"] = f"{np.nanmax(steps['epoch']) + 1:.0f}"
    dice = validations.get("registration_dice")
    if dice is not None and np.isfinite(dice).any():
        best = int(np.nanargmax(dice))
        facts["Best registration Dice"] = f"{dice[best]:.3f}, after update {validations['step'][best]:.0f}"
    return facts


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return float("nan")
    return value if isfinite(value) else float("nan")
