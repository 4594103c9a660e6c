"""The axes of a training's curves."""

from __future__ import annotations

import numpy as np
import pytest

from uresnet.report.pages.training import chart


@pytest.mark.parametrize(
    ("values", "ends"), [([0.0, 0.0], ("0", "1")), ([0.5], ("0", "1")), ([-2.0, -2.0], ("-4", "0"))]
)
def test_a_flat_curve_is_drawn_from_nothing_on(values: list[float], ends: tuple[str, str]) -> None:
    """No share of folds below 0 is shown where there are none."""
    table = {"step": np.arange(1.0, len(values) + 1), "folding": np.array(values)}
    ticks = [text for _, text in chart("Folds", table, ["folding"]).y_ticks]
    assert (ticks[0], ticks[-1]) == ends


def test_a_curve_fills_its_axis() -> None:
    table = {"step": np.array([1.0, 2.0]), "dice": np.array([0.25, 0.75])}
    drawn = chart("Dice", table, ["dice"])
    assert [text for _, text in drawn.y_ticks][:: len(drawn.y_ticks) - 1] == ["0.25", "0.75"]
    assert drawn.curves[0].last == 0.75
