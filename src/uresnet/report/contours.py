"""Outlines as SVG paths: of structures in a label picture, and of lines of equal value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from contourpy import contour_generator
from scipy import ndimage

from uresnet.core.labels import LabelScheme

SUBPIXELS = 10
"""Paths are in whole tenths of a pixel; a picture of w × h pixels has the view box 0 0 10w 10h."""

_SMOOTHING = 0.6  # pixels; smooths the steps of a label's edge and moves it by less than a quarter of a pixel


def structure_paths(labels: np.ndarray, scheme: LabelScheme) -> dict[int, str]:
    """The outline of every structure in a picture (rows, columns) of label values: path data by FreeSurfer id.

    Holes are paths of their own: fill with the even-odd rule.
    """
    boxes = ndimage.find_objects(labels.astype(np.int32), max_label=max(scheme.ids))
    paths = {}
    for structure in scheme.classes:
        box = boxes[structure.id - 1]
        if box is None:
            continue
        mask = np.pad((labels[box] == structure.id).astype(np.float32), 3)
        lines = _lines(ndimage.gaussian_filter(mask, _SMOOTHING), 0.5)
        corner = np.array([box[1].start - 3, box[0].start - 3])
        if path := path_data(line + corner for line in lines):
            paths[structure.id] = path
    return paths


def level_paths(values: np.ndarray, levels: Iterable[float]) -> str:
    """Lines of equal value in a picture (rows, columns), as one path; NaN interrupts them."""
    return path_data(line for level in levels for line in _lines(values, level))


def area_path(mask: np.ndarray) -> str:
    """The pixels of a mask (rows, columns), a rectangle per run of neighbours in a row: exact, however few."""
    edges = np.diff(np.pad(mask.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    corners = SUBPIXELS * np.stack([starts, rows, ends - starts], axis=1)
    return "".join(f"M{x} {y}h{width}v{SUBPIXELS}h-{width}z" for x, y, width in corners.tolist())


def path_data(lines: Iterable[np.ndarray]) -> str:
    """Lines of (n, 2) points (column, row; the first pixel's centre is 0) as SVG path data, moves and small steps."""
    parts = []
    for line in lines:
        points = np.rint((line + 0.5) * SUBPIXELS).astype(int)
        closed = len(points) > 3 and bool((points[0] == points[-1]).all())
        points = _thinned(points)
        if len(points) < 2:
            continue
        steps = np.diff(points, axis=0)
        text = " ".join(f"{x} {y}" for x, y in (steps[:-1] if closed else steps).tolist())
        parts.append(f"M{points[0, 0]} {points[0, 1]}l{text}{'z' if closed else ''}".replace(" -", "-"))
    return "".join(parts)


def _lines(values: np.ndarray, level: float) -> list[np.ndarray]:
    # "Separate": one (n, 2) array per line
    return [np.asarray(line) for line in contour_generator(z=values, line_type="Separate").lines(level)]


def _thinned(points: np.ndarray) -> np.ndarray:
    """Without points within a tenth of a pixel of the line between their neighbours."""
    for start in (1, 2):
        if len(points) < 5:
            break
        middle = np.arange(start, len(points) - 1, 2)
        before, after = points[middle - 1], points[middle + 1]
        along, aside = after - before, points[middle] - before
        length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
        off = np.abs(along[:, 0] * aside[:, 1] - along[:, 1] * aside[:, 0]) / length
        points = np.delete(points, middle[off <= 1.0], axis=0)
    return points
