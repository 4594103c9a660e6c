"""A fixed grid, a moving grid and a transform between them; what is done with their files in several tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from spatial_cases import grid_of, known_affine, smooth_field
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform import Composite
from uresnet.transform_files import apply_transform

FIXED = grid_of("oblique")
MOVING = grid_of("PIR", shape=(24, 28, 22), zooms=(1.5, 1.7, 2.1), centre=(8.0, -10.0, 18.0))
TRANSFORM = Composite([smooth_field(FIXED), known_affine()])  # written to 1.6e-5 mm


def save(folder: Path, name: str, values: np.ndarray, grid: Grid = MOVING, **header: Any) -> Path:
    image = nib.Nifti1Image(values, grid.voxel_to_world, dtype=values.dtype)
    image.set_sform(grid.voxel_to_world, 1)
    image.set_qform(grid.voxel_to_world, 1)
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, folder / name)
    return folder / name


def applied(files: Path, name: str, **options: Any) -> nib.Nifti1Image:
    result = apply_transform(files / "t.h5", files / name, files / "fixed.nii.gz", **options)
    result.write(files / "out.nii.gz")
    return nib.Nifti1Image.from_filename(files / "out.nii.gz")


def sentence(function: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
