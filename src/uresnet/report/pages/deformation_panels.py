"""The rows of pictures that show a deformation: grid, growth, distance, and displacement along each axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uresnet.report.contours import area_path, level_paths
from uresnet.report.deformation import GRID_MM, WarpSlice, map_limits
from uresnet.report.pictures import DIVERGING, SEQUENTIAL, ColourScale, data_uri, grey

DIRECTIONS = (
    ("left–right", "to the right", "to the left"),
    ("back–front", "to the front", "to the back"),
    ("foot–head", "upwards", "downwards"),
)
"""Of each world axis: its name, and where the matching tissue lies when the displacement is positive or negative."""


@dataclass(frozen=True)
class Panel:
    """A row of pictures of one quantity, a picture per plane, with its scale."""

    title: str
    text: str
    pictures: list[dict[str, Any]]
    scale: dict[str, str] | None


def deformation_panels(slices: list[WarpSlice]) -> list[Panel]:
    """The panels of a deformation, from the middle slice of every plane."""
    limits = map_limits(slices)
    growth = ColourScale(-limits.log_jacobian, limits.log_jacobian, DIVERGING)
    distance = ColourScale(0, limits.distance, SEQUENTIAL)
    signed = ColourScale(-limits.displacement, limits.displacement, DIVERGING)
    panels = [
        Panel(
            "Deformed grid",
            f"A grid of {GRID_MM:g} mm squares on the moving image, warped onto the fixed image.",
            [_picture(s, data_uri(_dimmed(s)), "deformed grid") | {"grid": _grid_path(s)} for s in slices],
            None,
        ),
        Panel(
            "Growth and shrinkage (log Jacobian)",
            "Red: this tissue is larger in the moving brain; blue: smaller. Yellow: folded; tissue cannot fold.",
            [
                _picture(s, _coloured(np.nan_to_num(s.log_jacobian), s.inside, growth), f"log Jacobian, {_folds(s)}")
                # Folds are drawn over the picture, because its compression blurs single pixels.
                | {"folds": area_path(s.folded)}
                for s in slices
            ],
            _scale(growth, f"{np.exp(growth.low):.2g} × the volume", f"{np.exp(growth.high):.2g} ×"),
        ),
        Panel(
            "Length of the displacement",
            "How far tissue is displaced, in any direction, after the best rigid alignment.",
            [_picture(s, _coloured(s.distance, s.inside, distance), "length of the displacement") for s in slices],
            _scale(distance, "0 mm", f"{distance.high:g} mm"),
        ),
    ]
    for axis, (name, positive, negative) in enumerate(DIRECTIONS):
        what = f"displacement {name}"
        pictures = [_picture(s, _coloured(s.displacement[axis], s.inside, signed), what) for s in slices]
        text = f"Red: the matching tissue of the moving brain lies further {positive}; blue: {negative}."
        scale = _scale(signed, f"−{signed.high:g} mm", f"+{signed.high:g} mm")
        panels.append(Panel(f"Displacement {name}", text, pictures, scale))
    return panels


def _picture(warp_slice: WarpSlice, uri: str, what: str) -> dict[str, Any]:
    rows, columns = warp_slice.inside.shape
    alt = f"{what}, {warp_slice.plane.name} slice"
    return {"uri": uri, "width": columns, "height": rows, "alt": alt, "grid": "", "folds": ""}


def _folds(warp_slice: WarpSlice) -> str:
    return "tissue folds where it is marked" if warp_slice.folded.any() else "no folds"


def _dimmed(warp_slice: WarpSlice) -> np.ndarray:
    lit = warp_slice.anatomy[warp_slice.inside]
    white = float(np.percentile(lit, 99.5)) if len(lit) else 1.0
    return (grey(warp_slice.anatomy, (0.0, white + 1e-6)) * 0.7).astype(np.uint8)


def _grid_path(warp_slice: WarpSlice) -> str:
    return "".join(level_paths(values, levels) for values, levels in warp_slice.grid_lines())


def _coloured(values: np.ndarray, inside: np.ndarray, scale: ColourScale) -> str:
    painted = np.where(inside[..., None], scale.paint(values), np.uint8(0)).astype(np.uint8)
    return data_uri(painted, quality=90)


def _scale(scale: ColourScale, low: str, high: str) -> dict[str, str]:
    bar = np.repeat(scale.paint(np.linspace(scale.low, scale.high, 200))[None], 8, axis=0)
    return {"uri": data_uri(bar, quality=95), "low": low, "high": high}
