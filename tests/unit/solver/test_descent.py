"""The diffusion of the divergence, against its closed form for a wave; a mean that threads do not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.device import computing_threads
from uresnet.solver.descent import diffuse_divergence, mean_of


@pytest.mark.parametrize("axis", range(3))
def test_divergence_is_damped_as_its_wave_length_says_and_shear_is_left(axis: int) -> None:
    """sin(kx) along x loses the share 0.3 sin²k of itself by central differences, and nothing along another axis."""
    shape, k = (40, 32, 36), 0.7
    wave = torch.sin(k * identity_coordinates(shape)[0, axis])
    velocity = torch.zeros(1, 3, *shape)
    velocity[0, axis], velocity[0, (axis + 1) % 3] = wave, wave
    before = velocity.clone()
    diffuse_divergence(velocity)
    inner = (slice(None), *(slice(2, -2),) * 3)
    expected = before[0].clone()
    expected[axis] *= 1 - 0.3 * np.sin(k) ** 2
    torch.testing.assert_close(velocity[0][inner], expected[inner], atol=1e-5, rtol=0)


def test_a_mean_is_the_same_for_every_number_of_threads() -> None:
    """To the bit, which a mean over all of a tensor of this size is not."""
    x = torch.rand((1, 1, 46, 50, 42), generator=torch.Generator().manual_seed(0)) ** 8
    found = []
    for threads in (1, 2, 3, 5):
        with computing_threads(threads):
            found.append(float(mean_of(x)))
    assert len(set(found)) == 1 and found[0] == pytest.approx(float(x.double().mean()), rel=1e-6)
