"""The page of a training: its learning curves and a few validation pairs, from the files in the run's folder."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from uresnet._version import __version__
from uresnet.core.labels import SCHEMES, LabelClass, LabelScheme
from uresnet.core.training_files import SAMPLES, STEPS, VALIDATIONS
from uresnet.errors import UserError
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.html import render
from uresnet.report.pictures import data_uri
from uresnet.report.structures import groups

DICE_TITLE = "Dice on validation pairs"
CAPTIONS = {
    "moving": "Moving image, with the structures that the network found in it",
    "fixed": "Fixed image, with its true structures",
    "warped": "Warped image, with the true structures of the moving image, warped",
    "predicted": "Image, with the structures that the network found in it",
    "manual": "The same image, with its true structures",
    "shown": "A training example, with its true structures",
    "t1": "The T1-weighted image that belongs to it",
    "predicted_t1": "The T1-weighted image that the network predicts for it",
}
WIDTH, HEIGHT, LEFT, BOTTOM = 720, 280, 64, 28
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
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


@dataclass(frozen=True)
class SamplePicture:
    """Three planes of one image of a pair, and the outlines of its structures (SVG path data by FreeSurfer id)."""

    caption: str
    uri: str
    width: int
    height: int
    outlines: dict[int, str]


@dataclass(frozen=True)
class Samples:
    """The validation images and training examples that a run keeps to look at, after update ``step``."""

    step: int
    pairs: list[list[SamplePicture]]
    structures: list[LabelClass]


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
    structures = [name for name in validations if name.startswith("dice_")]
    if len(structures) >= len(COLOURS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a structure that no image has is NaN
            mean = np.nanmean([validations[name] for name in structures], axis=0)
        curves = validations | {"mean_of_segmentation_dice": mean}
        shown = [name for name in ("registration_dice", "mean_of_segmentation_dice") if name in curves]
        charts.append(chart(DICE_TITLE, curves, shown))
    elif "registration_dice" in validations:
        charts.append(chart(DICE_TITLE, validations, ["registration_dice", *structures]))
    elif structures:
        charts.append(chart("Dice on validation images", validations, structures))
    if "folding" in validations:
        charts.append(chart("Share of folded voxels", validations, ["folding"]))
    facts = _facts(steps, validations)
    size = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": BOTTOM}
    samples = read_samples(folder / SAMPLES)
    return render(
        "training.html.j2",
        title=f"Training {folder.resolve().name}",
        charts=charts,
        facts=facts,
        last_dice={name.removeprefix("dice_"): float(validations[name][-1]) for name in structures},
        size=size,
        samples=samples,
        has_pairs="registration_dice" in validations,
        groups=groups(samples.structures) if samples is not None else [],
        subpixels=SUBPIXELS,
        version=__version__,
    )


def read_samples(path: Path) -> Samples | None:
    """The pictures that a run keeps; None without a file of them that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        scheme, step = SCHEMES[str(arrays.pop("scheme"))], int(arrays.pop("step"))
    except (OSError, ValueError, KeyError, BadZipFile):
        return None
    numbers = sorted({int(name.split()[0]) for name in arrays})
    pairs = [
        [_sample_picture(arrays, f"{n} {name}", scheme) for name in CAPTIONS if f"{n} {name} image" in arrays]
        for n in numbers
    ]
    values = {int(i) for name, labels in arrays.items() if name.endswith("labels") for i in np.unique(labels)}
    return Samples(step, pairs, [structure for structure in scheme.classes if structure.id in values])


def _sample_picture(arrays: dict[str, np.ndarray], key: str, scheme: LabelScheme) -> SamplePicture:
    pixels, labels = arrays[f"{key} image"], arrays.get(f"{key} labels")
    outlines = {} if labels is None else structure_paths(labels, scheme)
    return SamplePicture(CAPTIONS[key.split()[1]], data_uri(pixels), pixels.shape[1], pixels.shape[0], outlines)


def read_table(path: Path) -> dict[str, np.ndarray]:
    """Columns of a CSV file by name, NaN where there is no number; empty for a missing file or one without rows."""
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
    if low == high:  # the axis starts at 0: most of what is drawn cannot be negative
        low, high = (0.0, 1.0) if low == 0 else (min(0.0, 2 * low), max(0.0, 2 * low))
    right = max(float(np.nanmax(x)), 1.0)

    def place(at: np.ndarray, value: np.ndarray) -> list[tuple[float, float]]:
        across = LEFT + at / right * (WIDTH - LEFT - 8)
        down = 8 + (high - value) / (high - low) * (HEIGHT - BOTTOM - 8)
        return list(zip(across.tolist(), down.tolist(), strict=True))

    curves = []
    for n, (name, at, y) in enumerate(series):
        kept = np.isfinite(y)
        if kept.any():
            points = [f"{a:.1f} {b:.1f}" for a, b in place(at[kept], y[kept])]
            path = "M" + "L".join(points) + ("h-8" if len(points) == 1 else "")  # a single point would not be visible
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
    for what in ("registration", "segmentation"):
        dice = validations.get(f"{what}_dice")
        if dice is not None and np.isfinite(dice).any():
            best = int(np.nanargmax(dice))
            facts[f"Best {what} Dice"] = f"{dice[best]:.3f}, after update {validations['step'][best]:.0f}"
    return facts


def _number(text: str | None) -> float:
    try:
        value = float(text or "nan")
    except ValueError:
        return float("nan")
    return value if isfinite(value) else float("nan")
