"""The benchmark of speed: images of other sizes lie where they lay, and the table says what was measured."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("SimpleITK")
import speed


@pytest.mark.parametrize("volume", [0.5, 2.0])
def test_an_image_on_other_voxels_lies_where_it_lay(tmp_path: Path, volume: float) -> None:
    """Each voxel holds its own place along the first axis of the world, so that any shift shows."""
    affine = np.array([[-1.0, 0.1, 0, 5], [0.1, 1.0, 0, 7], [0, 0, 1.2, -9], [0, 0, 0, 1]])
    shape = (30, 34, 28)
    world = np.einsum("ad,dijk->aijk", affine[:3, :3], np.indices(shape)) + affine[:3, 3].reshape(3, 1, 1, 1)
    nib.save(nib.Nifti1Image(world[0].astype(np.float32), affine), tmp_path / "x.nii.gz")
    found = nib.Nifti1Image.from_filename(speed.rescaled(tmp_path / "x.nii.gz", volume, tmp_path / "scaled"))
    assert found.affine is not None
    assert np.prod(found.shape) == pytest.approx(volume * np.prod(shape), rel=0.1)
    places = np.indices(found.shape).astype(float)
    own = np.einsum("ad,dijk->aijk", found.affine[:3, :3], places) + found.affine[:3, 3].reshape(3, 1, 1, 1)
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(found.get_fdata()[inside], own[0][inside], atol=1e-3)


def test_the_table_compares_medians() -> None:
    ours = [speed.Run(t, 2 * t, 1.9, {"read": 1.0, "couple": t - 4, "total": t - 3}) for t in (10.0, 11.0, 30.0)]
    theirs = [speed.Run(66.0, 120.0, 0.5, {})]
    grown = {"1 thread": speed.Run(20.0, 20.0, 1.8, {})}
    text = speed.table({"default": ours, "greedy": theirs}, grown, speed.Machine(100.0, 9.0), (200.0, 4.0))
    assert "| uresnet | 11.0 (10.0, 30.0) | 6.0 × | 22.0 | 1.90 |" in text
    assert "| greedy | 66.0 (66.0, 66.0) | 1.0 × | 120.0 | 0.50 |" in text
    assert "| couple | 7.0 |" in text and "| start of the process, imports, writing | 3.0 |" in text
    assert "| 1 thread | 20.0 | 1.80 |" in text
    assert "would take 2.00 s" in text and ": 50 % of what is possible" in text
