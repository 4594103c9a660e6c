"""Smoothing against scipy, interpolation against polynomials."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from uresnet.solver.lattice import gaussian_smoothed, widened, with_midpoints


@pytest.mark.parametrize("shape", [(2, 9, 8, 7), (1, 3, 2, 1)])
@pytest.mark.parametrize("sigma", [0.8, 1.2, 2.0])
def test_smoothing_is_scipys(shape: tuple[int, ...], sigma: float) -> None:
    """The same truncated Gaussian along every axis; the edge continues."""
    x = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0))
    reach = max(1, round(2.5 * sigma))
    expected = ndimage.gaussian_filter(x.double().numpy(), sigma, mode="nearest", radius=reach, axes=(2, 3, 4))
    np.testing.assert_allclose(gaussian_smoothed(x, sigma), expected, atol=1e-6)


def test_middles_are_those_of_polynomials_of_fifth_degree() -> None:
    rng = np.random.default_rng(0)
    line = [np.polynomial.Polynomial(rng.normal(size=6), domain=(0, n - 1)) for n in (9, 8, 11)]

    def values(spacing: float) -> np.ndarray:
        i, j, k = (curve(np.arange(0, n - 0.5, spacing)) for curve, n in zip(line, (9, 8, 11), strict=True))
        return i[:, None, None] * j[:, None] * k

    found = with_midpoints(torch.from_numpy(values(1.0)).float()[None, None])[0, 0].numpy()
    expected = values(0.5)
    assert found.shape == expected.shape == (17, 15, 21)
    inner = (slice(4, -4),) * 3  # nearer to the ends they are repeated
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(found[::2, ::2, ::2], values(1.0).astype(np.float32))


@pytest.mark.parametrize("reach", [1, 3])
def test_a_mask_is_widened_by_cubes(reach: int) -> None:
    mask = torch.zeros(1, 1, 12, 10, 9)
    mask[0, 0, 0, 0, 0] = mask[0, 0, 6, 9, 4] = 1
    mask[0, 0, 6, 5, 4] = 1e-6
    expected = F.max_pool3d((mask > 0).float(), 2 * reach + 1, stride=1, padding=reach)
    torch.testing.assert_close(widened(mask, reach), expected, rtol=0, atol=0)
