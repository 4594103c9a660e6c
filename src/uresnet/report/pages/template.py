"""The page of a mean brain: what it looks like, beside the affine mean, and how the rounds came to an end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uresnet._version import __version__
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.html import render
from uresnet.report.pages.training import BOTTOM, HEIGHT, LEFT, WIDTH, chart
from uresnet.report.pictures import data_uri, grey
from uresnet.report.slices import PLANES, cut, cut_labels, grey_window, plane_grid, view_of


@dataclass(frozen=True)
class Round:
    """One round: how many ``images`` it had; how far, on average over the structures, the mean of all maps moved the
    mean of the round before, mm; what is left of that in the new mean; the ``sharpness`` of the new mean (gradient by
    intensity, per mm), before sharpening; the ``spread`` of the images about it, percent of a brain's brightness."""

    number: int
    images: int
    moved_mm: float
    left_mm: float
    sharpness: float
    spread: float


def template_page(
    name: str, rounds: Sequence[Round], pictures: tuple[Image, Image], labels: LabelMap, scheme: LabelScheme
) -> str:
    """The page, as HTML; ``pictures`` are the affine mean and the template, on one grid."""
    table = {
        "step": np.array([float(r.number) for r in rounds]),
        "moved": np.array([r.moved_mm for r in rounds]),
        "sharpness": np.array([r.sharpness for r in rounds]),
    }
    charts = [
        chart("Movement of the mean in each round, mm", table, ["moved"]),
        chart("Sharpness of the mean, per mm", table, ["sharpness"]),
    ]
    return render(
        "template.html.j2",
        title=f"Mean brain {name}",
        rounds=rounds,
        charts=charts,
        size={"width": WIDTH, "height": HEIGHT, "left": LEFT, "bottom": BOTTOM},
        rows=[_row(pictures, labels, scheme, plane) for plane in PLANES],
        classes=scheme.classes,
        subpixels=SUBPIXELS,
        version=__version__,
    )


def _row(pictures: tuple[Image, Image], labels: LabelMap, scheme: LabelScheme, plane: Any) -> list[dict[str, Any]]:
    """The middle slice of the affine mean, of the template, and of the template with its structures."""
    grid = plane_grid(plane, view_of(pictures[1]), slices=1)
    uris = [data_uri(grey(cut(image, grid)[0], grey_window(image))) for image in pictures]
    paths = structure_paths(cut_labels(labels, grid)[0], scheme)
    shown: tuple[tuple[str, str, dict[int, str]], ...] = (
        ("Affine mean", uris[0], {}),
        ("Template", uris[1], {}),
        ("Its structures", uris[1], paths),
    )
    return [
        {"title": title, "uri": uri, "paths": outline, "width": grid.shape[0], "height": grid.shape[1]}
        for title, uri, outline in shown
    ]
