"""The benchmark of the predicted Dice finds the calibration that made its table, and degrades as it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import predicted_dice as benchmark
from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.quality.predicted_dice import Calibration


def test_the_calibration_that_made_the_table_is_found() -> None:
    truth, draws, rows = Calibration(1.6, {10: -3.3, 11: -3.0, 16: -2.8}), np.random.default_rng(0), []
    for person in "abc":
        for structure in (10, 49, 11, 50, 16):
            for image in benchmark.CHANGES:
                expected = float(draws.uniform(0.85, 0.99))
                about = {"world": "OASIS", "person": person, "image": image, "passes": "1", "id": str(structure)}
                rows.append(
                    about | {"expected": f"{expected:.5f}", "true": f"{truth.predict(structure, expected):.5f}"}
                )
    table = benchmark.Table(rows)
    found = benchmark.fitted(table)
    assert found.slope == pytest.approx(1.6, abs=0.05)
    assert found.offsets == pytest.approx(dict(truth.offsets), abs=0.2)
    assert np.abs(benchmark.predicted(found, table) - table.numbers("true")).max() < 0.01
    lines = list(benchmark.summary(table, None))
    assert lines[1].startswith("each from the others, as it is") and lines[1].split()[7:10] == ["15", "1.000", "1.000"]


def test_images_are_degraded_within_the_brain_and_on_their_axes() -> None:
    grid = Grid.centred((13, 20, 18), (1, 1, 1), "PIR", (0, 0, 0))
    data = torch.zeros(grid.shape)
    data[3:10, 4:15, 4:14] = 50 + torch.rand(7, 11, 10, generator=torch.Generator().manual_seed(0))
    image = Image(data, grid)
    for name, change in benchmark.CHANGES.items():
        found = change(image)
        assert bool(torch.isfinite(found.data).all()) and bool((found.data >= 0).all())
        if found.grid is grid:
            assert torch.equal(found.data > 0, data > 0), name
    thick = benchmark.CHANGES["slices of 5 mm"](image)
    np.testing.assert_allclose(thick.grid.zooms, (1, 5, 1))  # the second axis runs from top to bottom
    assert float(thick.data.sum()) == pytest.approx(float(data.sum()) / 5, rel=1e-5)
