"""What is stored of a transform: exact to 0.004 mm where there is brain, coarser elsewhere, nowhere torn."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from brains import FIELDS_OF_VIEW, brain_on
from grids import turned
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.pipeline import save
from uresnet.pipeline.rounding import check_spacing, stored_image, stored_jacobian, stored_transform
from uresnet.transform import Affine, Composite, DisplacementField
from uresnet.transform_files import read_transform, write_itk_composite

LATTICE = turned(Grid.centred((70, 74, 68), (3.0, 3.2, 2.8), "LPS", (2.0, -3.0, 1.0)), (5.0, -8.0, 12.0))


def brain(view: str) -> LabelMap:
    grid = FIELDS_OF_VIEW[view]
    return LabelMap(torch.from_numpy((brain_on(grid) > 0).astype(np.uint8)), grid)


def transform() -> Composite:
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(3, *LATTICE.shape)), (0, 6, 6, 6))
    field = DisplacementField(torch.from_numpy(smooth / smooth.std() * 3).float(), LATTICE)
    return Composite([Affine(np.diag([1.05, 0.97, 1.0, 1.0])), field, Affine(np.diag([1.0, 1.1, 0.95, 1.0]))])


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("view", FIELDS_OF_VIEW)
def test_points_of_the_brain_stay_where_they_were(view: str, compact: bool) -> None:
    start, end, exact = brain(view), brain("RAS"), transform()
    stored = stored_transform(exact, start, end, compact=compact)
    inside = start.grid.points_to_world(np.argwhere(start.mask.numpy())[::7])
    assert np.linalg.norm(stored.apply(inside) - exact.apply(inside), axis=1).max() < 0.011  # scaled by the last affine
    anywhere = LATTICE.points_to_world(np.random.default_rng(1).uniform(0, 60, (2000, 3)))
    apart = np.linalg.norm(stored.apply(anywhere) - exact.apply(anywhere), axis=1)
    assert 0.05 < apart.max() < (1.0 if compact else 0.5) and np.median(apart) < 0.3


def test_what_is_stored_is_smaller(tmp_path: Path) -> None:
    exact = transform()
    stored = stored_transform(exact, brain("RAS"), brain("RAS"))
    compact = stored_transform(exact, brain("RAS"), brain("RAS"), compact=True)
    for name, kind in (("exact", exact), ("stored", stored), ("compact", compact)):
        write_itk_composite(kind, tmp_path / f"{name}.h5", exact=True)
    sizes = [(tmp_path / f"{name}.h5").stat().st_size for name in ("exact", "stored", "compact")]
    assert sizes[1] < 0.6 * sizes[0] and sizes[2] < 0.9 * sizes[1]
    points = np.array([[10.0, -20.0, 15.0], [-30.0, 5.0, 0.0]])
    for name, kind in (("stored", stored), ("compact", compact)):
        read = read_transform(tmp_path / f"{name}.h5")
        np.testing.assert_allclose(read.apply(points), kind.apply(points), atol=1e-5)


def test_a_large_transform_is_written_as_a_compact_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, large, compact = (tmp_path / f"{name}.h5" for name in ("usual", "large", "compact"))
    write = partial(save._write_transform, transform(), brain("RAS"), brain("LAS"))
    write(False, usual)
    write(True, compact)
    monkeypatch.setattr(save, "_LARGE", usual.stat().st_size - 1)
    write(False, large)
    monkeypatch.setattr(save, "_LARGE", usual.stat().st_size)
    write(False, usual)
    assert large.read_bytes()[4096:] == compact.read_bytes()[4096:]
    assert large.stat().st_size < 0.9 * usual.stat().st_size


def test_a_spacing_is_kept() -> None:
    stored = stored_transform(transform(), brain("RAS"), brain("LAS"), 4.0)
    np.testing.assert_allclose(stored.parts[1].grid.zooms, 4.0)  # type: ignore[attr-defined]
    points = brain("RAS").grid.points_to_world([23, 27, 22])[None]
    assert np.linalg.norm(stored.apply(points) - transform().apply(points)) < 0.3
    for wrong in (0.1, 9, "1"):
        with pytest.raises(UserError, match="f: field_spacing is"):
            check_spacing("f", wrong)  # type: ignore[arg-type]


def test_an_affine_is_left_alone() -> None:
    affine = Composite([Affine(np.diag([1.1, 1.0, 1.0, 1.0]))])
    assert stored_transform(affine, brain("RAS"), brain("LAS")).parts[0] is affine.parts[0]


def test_a_jacobian_keeps_its_sign(grid: Grid) -> None:
    values = torch.from_numpy(np.random.default_rng(2).normal(0, 0.5, grid.shape).astype(np.float32))
    mask = torch.zeros(grid.shape, dtype=torch.uint8)
    mask[2:6, 2:6, 2:6] = 1
    stored = stored_jacobian(Image(values, grid), LabelMap(mask, grid)).data
    assert bool((torch.sign(stored) == torch.sign(values)).all())
    inside = mask.bool()
    assert float((stored - values)[inside].abs().max()) <= 2**-10 and float((stored - values).abs().max()) <= 2**-5


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1000.0, -500.0), (1e-3, 0.0), (1e5, 3e5)])
def test_an_image_is_rounded_below_what_can_be_seen(grid: Grid, scale: float, shift: float) -> None:
    values = torch.from_numpy(np.random.default_rng(3).uniform(0, 1, grid.shape)).float() * scale + shift
    values[0, 0, 0] = scale * 1e4  # one hot voxel does not cost the others their digits
    stored = stored_image(Image(values, grid)).data
    assert float((stored - values).abs().max()) <= scale / 8192 + 1e-7 * scale * 1e4
    assert len(stored.unique()) < 9000


def test_whole_numbers_and_flat_images_are_kept(grid: Grid) -> None:
    for values in (
        torch.arange(float(np.prod(grid.shape))).reshape(grid.shape) * 17 - 1024,
        torch.full(grid.shape, 0.3),
    ):
        assert torch.equal(stored_image(Image(values, grid)).data, values)
