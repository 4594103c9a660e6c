"""The slices that a reader of a page scrolls through: pictures and outlines of every slice of a plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import MASSES, LabelScheme
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.pictures import data_uri, grey
from uresnet.report.slices import PLANES, Plane, View, cut, cut_labels, grey_window, place_of, plane_grid


@dataclass(frozen=True)
class ShownPlane:
    """One plane as the page's template and script need it.

    ``pictures`` (data URIs) and ``outlines`` (SVG path data by FreeSurfer id) are lists over the slices, by the name of
    the image they belong to; ``first`` is the slice that is shown first.
    """

    name: str
    edges: dict[str, str]
    width: int
    height: int
    positions: list[str]
    pictures: dict[str, list[str]]
    outlines: dict[str, list[dict[int, str]]]
    first: int

    @property
    def data(self) -> dict[str, Any]:
        """What the script takes the other slices from."""
        box = f"0 0 {self.width * SUBPIXELS} {self.height * SUBPIXELS}"
        return {"positions": self.positions, "pictures": self.pictures, "outlines": self.outlines, "box": box}


def shown_planes(
    images: Mapping[str, tuple[Image, View]],
    segmentations: Mapping[str, LabelMap | None],
    scheme: LabelScheme | None,
    view: View,
) -> list[ShownPlane]:
    """Every plane of a view. ``images`` are drawn in views of their own of the same size; ``segmentations``, where
    there are any, are outlined in ``view``. The slice that is shown first is the one with most of a mass, in any of
    them; where there is none, it is the middle one."""
    windows = {name: grey_window(image) for name, (image, _) in images.items()}
    maps = {name: labels for name, labels in segmentations.items() if labels is not None and scheme is not None}
    planes = []
    for plane in PLANES:
        grid = plane_grid(plane, view)
        pictures = {
            name: [data_uri(grey(picture, windows[name])) for picture in cut(image, plane_grid(plane, own_view))]
            for name, (image, own_view) in images.items()
        }
        slices = {name: cut_labels(labels, grid) for name, labels in maps.items()}
        outlines = {
            name: [structure_paths(picture, scheme) for picture in cuts]
            for name, cuts in slices.items()
            if scheme is not None
        }
        planes.append(_shown(plane, grid, pictures, outlines, _first(grid.shape[2], slices)))
    return planes


def begins_at_mass(*volumes: Mapping[int, float]) -> str:
    """A sentence for readers, where the slices shown first go through a mass; ``volumes`` by FreeSurfer id."""
    if not any(found.get(mass) for found in volumes for mass in MASSES):
        return ""
    return "The slices shown first go through the mass: see whether its outline is right. "


def one_scale(planes: list[ShownPlane]) -> str:
    """Style: columns as wide as their pictures are in millimetres, so that three planes side by side have one scale."""
    columns = " ".join(f"{plane.width}fr" for plane in planes)
    narrow = "@media (max-width:40rem){.panels{grid-template-columns:1fr}}"
    return f".row,.panels{{grid-template-columns:{columns}}}{narrow}"


def _shown(
    plane: Plane,
    grid: Grid,
    pictures: dict[str, list[str]],
    outlines: dict[str, list[dict[int, str]]],
    first: int,
) -> ShownPlane:
    return ShownPlane(
        name=plane.name,
        edges=dict(zip(("left", "right", "top", "bottom"), plane.edges, strict=True)),
        width=grid.shape[0],
        height=grid.shape[1],
        positions=[place_of(plane, grid, n) for n in range(grid.shape[2])],
        pictures=pictures,
        outlines=outlines,
        first=first,
    )


def _first(count: int, slices: Mapping[str, np.ndarray]) -> int:
    """The slice of ``count`` with most of a mass, or the middle one."""
    seen = [max((int(np.isin(cuts[n], MASSES).sum()) for cuts in slices.values()), default=0) for n in range(count)]
    return int(np.argmax(seen)) if any(seen) else count // 2
