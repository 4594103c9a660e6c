"""The rows of pictures that show a deformation: grid, growth, distance, and displacement along each axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from uresnet.report.contours import area_path, level_paths
from uresnet.report.deformation import GRID_MM, WarpSlice
from uresnet.report.pictures import DIVERGING, SEQUENTIAL, ColourScale, data_uri, grey, nice_limit

WAYS = (("to the right", "left–right"), ("to the front", "back–front"), ("upwards", "foot–head"))


@dataclass(frozen=True)
class Panel:
    """A row of pictures of one quantity, a picture per plane, with its scale."""

    title: str
    text: str
    pictures: list[dict[str, Any]]
    scale: dict[str, str] | None


def deformation_panels(slices: list[WarpSlice]) -> list[Panel]:
    grids = [_picture(one, data_uri(_dimmed(one)), "deformed grid") | {"grid": _grid_lines(one)} for one in slices]
    logs = np.concatenate([one.log_jacobian[one.inside & ~one.folded] for one in slices])
    growth = ColourScale(-nice_limit(logs, 0.2), nice_limit(logs, 0.2), DIVERGING)
    panels = [
        Panel(
            "Deformed grid",
            f"A grid of {GRID_MM:g} mm squares on the moving brain, as it lands on the fixed one.",
            grids,
            None,
        ),
        Panel(
            "Growth and shrinkage (log Jacobian)",
            "Red: this tissue is larger in the moving brain; blue: smaller. Yellow: folded, which no tissue does.",
            [
                _picture(one, _growth(one, growth), f"log Jacobian, {_folds(one)}") | {"folds": area_path(one.folded)}
                for one in slices
            ],
            _scale(growth, f"{np.exp(growth.low):.2g} × the volume", f"{np.exp(growth.high):.2g} ×"),
        ),
    ]
    return [*panels, *_displacements(slices)]


def _displacements(slices: list[WarpSlice]) -> list[Panel]:
    lengths = [np.linalg.norm(one.displacement, axis=0) for one in slices]
    inside = np.concatenate([length[one.inside] for length, one in zip(lengths, slices, strict=True)])
    along = np.concatenate([one.displacement[:, one.inside].ravel() for one in slices])
    far, both = ColourScale(0, nice_limit(inside, 1.0), SEQUENTIAL), nice_limit(along, 1.0)
    signed = ColourScale(-both, both, DIVERGING)
    panels = [
        Panel(
            "Distance moved",
            "How far tissue travels, whichever way, after the best rigid alignment.",
            [
                _picture(one, _coloured(length, one.inside, far), "distance moved")
                for length, one in zip(lengths, slices, strict=True)
            ],
            _scale(far, "0 mm", f"{far.high:g} mm"),
        )
    ]
    for axis, (towards, name) in enumerate(WAYS):
        pictures = [
            _picture(one, _coloured(one.displacement[axis], one.inside, signed), f"displacement {name}")
            for one in slices
        ]
        text = f"Red: the matching tissue of the moving brain lies further {towards}; blue: the opposite way."
        panels.append(Panel(f"Displacement {name}", text, pictures, _scale(signed, f"−{both:g} mm", f"+{both:g} mm")))
    return panels


def _picture(one: WarpSlice, uri: str, what: str) -> dict[str, Any]:
    rows, columns = one.inside.shape
    alt = f"{what}, {one.plane.name} slice"
    return {"uri": uri, "width": columns, "height": rows, "alt": alt, "grid": "", "folds": ""}


def _folds(one: WarpSlice) -> str:
    return "tissue folds where it is marked" if one.folded.any() else "no folds"


def _dimmed(one: WarpSlice) -> np.ndarray:
    lit = one.anatomy[one.inside]
    white = float(np.percentile(lit, 99.5)) if len(lit) else 1.0
    return (grey(one.anatomy, (0.0, white + 1e-6)) * 0.7).astype(np.uint8)


def _grid_lines(one: WarpSlice) -> str:
    """Where the coordinates along the picture's two sides pass multiples of the grid's spacing."""
    paths = []
    for axis in {0, 1, 2} - {one.plane.through}:
        values = one.position[axis]
        first = np.ceil(values.min() / GRID_MM) * GRID_MM
        paths.append(level_paths(values, np.arange(first, values.max(), GRID_MM)))
    return "".join(paths)


def _growth(one: WarpSlice, scale: ColourScale) -> str:
    # Folds are drawn over the picture, because its compression washes single pixels out.
    return data_uri(_painted(np.nan_to_num(one.log_jacobian), one.inside, scale), quality=90)


def _coloured(values: np.ndarray, inside: np.ndarray, scale: ColourScale) -> str:
    return data_uri(_painted(values, inside, scale), quality=90)


def _painted(values: np.ndarray, inside: np.ndarray, scale: ColourScale) -> np.ndarray:
    return np.where(inside[..., None], scale.paint(values), np.uint8(0)).astype(np.uint8)


def _scale(scale: ColourScale, low: str, high: str) -> dict[str, str]:
    bar = np.repeat(scale.paint(np.linspace(scale.low, scale.high, 200))[None], 8, axis=0)
    return {"uri": data_uri(bar, quality=95), "low": low, "high": high}
