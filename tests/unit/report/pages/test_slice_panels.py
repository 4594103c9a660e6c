"""Which slices a page shows first."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import SCHEMES
from uresnet.report.pages.slice_panels import begins_at_mass, shown_planes
from uresnet.report.slices import view_of


@pytest.mark.parametrize("mass", [None, 25, 57])
def test_the_slices_shown_first_go_through_a_mass(mass: int | None) -> None:
    """An image of 40 × 50 × 44 mm with a box of 8 mm low, behind and on the left; its middle is at (-12, -16, -14)."""
    grid = Grid.centred((40, 50, 44), (1, 1, 1), "RAS", (0, 0, 0))
    values, labels = np.ones(grid.shape, dtype=np.float32), np.full(grid.shape, 2, dtype=np.int16)
    if mass:
        labels[4:12, 5:13, 4:12] = mass
    image, ids = Image(torch.from_numpy(values), grid), LabelMap(torch.from_numpy(labels), grid)
    view = view_of(image)
    planes = shown_planes({"fixed": (image, view)}, {"fixed": ids}, SCHEMES["freesurfer35"], view)
    places = {plane.name: plane.positions[plane.first] for plane in planes}
    for name, axis, middle in (("axial", "IS", -14), ("coronal", "PA", -16), ("sagittal", "LR", -12)):
        amount, _, side = places[name].split()
        place = float(amount) * (-1 if side == axis[0] else 1)
        if mass:
            assert abs(place - middle) <= 4, places
        else:
            assert abs(place) <= 3, places


def test_a_reader_is_told_of_a_mass_in_either_image() -> None:
    assert begins_at_mass({2: 100.0, 25: 0.0, 57: 0.0}, {2: 90.0}) == ""
    assert begins_at_mass({2: 100.0}, {2: 90.0, 57: 5.0}).startswith("The slices shown first go through the mass")
