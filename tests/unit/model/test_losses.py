"""The losses of Eq. 4–7 against numbers found by hand and loops that are too slow to be wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from uresnet.core.ops import correlation_slopes
from uresnet.model import losses


def volume(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((1, 1, *shape), generator=torch.Generator().manual_seed(seed))


def naive_lcc(a: np.ndarray, b: np.ndarray, window: int, epsilon: float) -> float:
    """Squared correlation in the cube around every voxel, zeros beyond the border, float64, means subtracted first."""
    r = window // 2
    pa, pb = (np.pad(x.astype(np.float64), r) for x in (a, b))
    values = []
    for i, j, k in np.ndindex(*a.shape):
        u, v = (p[i : i + window, j : j + window, k : k + window] for p in (pa, pb))
        u, v = u - u.mean(), v - v.mean()
        values.append((u * v).mean() ** 2 / ((u * u).mean() * (v * v).mean() + epsilon))
    return float(np.mean(values))


def test_mean_squared_error_by_hand() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 3.0, 5.0])
    assert losses.mean_squared_error(a, b).item() == pytest.approx((4 + 1) / 4)


def test_voxels_of_weight_zero_do_not_count_in_the_squared_error() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([1.0, 0.0, 3.0, 5.0])
    weight = torch.tensor([1.0, 0.0, 0.5, 1.0])
    assert losses.mean_squared_error(a, b, weight).item() == pytest.approx(1 / 2.5)
    assert losses.mean_squared_error(a, b, torch.zeros(4)).item() == 0


@pytest.mark.parametrize("window", [3, 5])
def test_lcc_with_weights_equals_the_loop(window: int) -> None:
    a, b = volume(6, 7, 8), volume(6, 7, 8, seed=1)
    b = 0.6 * a + 0.4 * b
    weight = volume(6, 7, 8, seed=2).round()
    weight[..., :2] = 0  # whole windows that do not count
    r, total = window // 2, 0.0
    pa, pb = (np.pad(x[0, 0].double().numpy(), r) for x in (a, b))
    pw = np.pad(weight[0, 0].double().numpy(), r, constant_values=1)
    for i, j, k in np.ndindex(6, 7, 8):
        u, v, w = (p[i : i + window, j : j + window, k : k + window] for p in (pa, pb, pw))
        if weight[0, 0, i, j, k]:
            u, v = u - (w * u).sum() / w.sum(), v - (w * v).sum() / w.sum()
            covariance, first, second = ((w * x).sum() / w.sum() for x in (u * v, u * u, v * v))
            total += covariance**2 / (first * second + 1e-9)
    found = losses.local_cross_correlation(a, b, window, weight=weight).item()
    assert found == pytest.approx(total / float(weight.sum()), abs=1e-4)


def test_what_does_not_count_may_be_anything() -> None:
    a, b, other = volume(9, 9, 9), volume(9, 9, 9, seed=1), volume(9, 9, 9, seed=2)
    weight = torch.ones_like(a)
    weight[..., 3:6, 3:6, 3:6] = 0
    changed = torch.where(weight > 0, a, other)
    error, correlation = losses.mean_squared_error, losses.local_cross_correlation
    assert error(a, b, weight).item() == pytest.approx(error(changed, b, weight).item(), rel=1e-4)
    expected = correlation(a, b, 5, weight=weight).item()
    assert correlation(changed, b, 5, weight=weight).item() == pytest.approx(expected, rel=1e-4)
    # All voxels alike are no weights at all.
    ones = torch.ones_like(a)
    assert losses.mean_squared_error(a, b, ones).item() == pytest.approx(losses.mean_squared_error(a, b).item())
    plain = losses.local_cross_correlation(a, b, 5).item()
    assert losses.local_cross_correlation(a, b, 5, weight=ones).item() == pytest.approx(plain, rel=1e-5)


@pytest.mark.parametrize("window", [3, 5])
def test_lcc_equals_the_loop(window: int) -> None:
    a, b = volume(6, 7, 8), volume(6, 7, 8, seed=1)
    b = 0.6 * a + 0.4 * b
    expected = naive_lcc(a[0, 0].numpy(), b[0, 0].numpy(), window, 1e-9)
    assert 0.1 < expected < 0.99
    assert losses.local_cross_correlation(a, b, window).item() == pytest.approx(expected, abs=1e-5)


def test_lcc_of_an_image_with_itself_is_one() -> None:
    a = volume(9, 9, 9)
    assert losses.local_cross_correlation(a, a, 5).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("factor", [0.5, -1.0, 3.0])
def test_lcc_does_not_feel_contrast(factor: float) -> None:
    """A squared correlation: any factor, reversed contrast too. (An offset has an edge against the zero border.)"""
    a, b = volume(12, 12, 12), volume(12, 12, 12, seed=1)
    plain = losses.local_cross_correlation(a, b, 5).item()
    assert losses.local_cross_correlation(factor * a, b, 5).item() == pytest.approx(plain, abs=1e-5)


def test_lcc_by_hand() -> None:
    """One voxel in 27, window 3: every window holds one value and 26 zeros, on both sides."""
    a, b = torch.zeros(1, 1, 3, 3, 3), torch.zeros(1, 1, 3, 3, 3)
    a[..., 1, 1, 1], b[..., 1, 1, 1] = 0.07, 0.02
    share = 1 / 27 - 1 / 27**2
    expected = (0.07 * 0.02 * share) ** 2 / (0.07**2 * share * 0.02**2 * share + 1e-9)
    assert 0.6 < expected < 0.8  # epsilon matters here
    assert losses.local_cross_correlation(a, b, 3).item() == pytest.approx(expected, rel=1e-4)


def test_lcc_of_flat_images_is_zero_and_not_noise() -> None:
    flat = torch.full((1, 1, 12, 12, 12), 0.8)
    assert losses.local_cross_correlation(flat, flat, 5)[None].isfinite().all()
    noise = flat + 1e-4 * volume(12, 12, 12)
    inner = losses.local_cross_correlation(noise - 0.8, volume(12, 12, 12, seed=3) * 1e-4, 5)
    assert inner.item() < 1e-3


@pytest.mark.parametrize("offset", [0.0, 0.5, 0.9])
def test_lcc_with_a_large_offset_stays_exact(offset: float) -> None:
    """Bright and little contrast, 0.9 ± 0.05: where moments in float32 could cancel."""
    a = offset + 0.1 * volume(7, 7, 7)
    b = offset + 0.05 * volume(7, 7, 7) + 0.05 * volume(7, 7, 7, seed=2)
    expected = naive_lcc(a[0, 0].numpy(), b[0, 0].numpy(), 5, 1e-9)
    assert losses.local_cross_correlation(a, b, 5).item() == pytest.approx(expected, abs=2e-4)


def test_lcc_far_outside_the_range_stays_a_correlation() -> None:
    """1000 ± 100 is no conformed image, but must not explode: peers reach 4e4 there."""
    a, b = 1000 + 100 * volume(9, 9, 9), 1000 + 100 * volume(9, 9, 9, seed=1)
    expected = naive_lcc(a[0, 0].numpy(), b[0, 0].numpy(), 5, 1e-9)
    assert losses.local_cross_correlation(a, b, 5).item() == pytest.approx(expected, abs=0.01)


def test_lcc_in_half_precision_is_computed_in_float32() -> None:
    a, b = volume(8, 8, 8), volume(8, 8, 8, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = losses.local_cross_correlation(a, b, 5)
    assert inside.item() == losses.local_cross_correlation(a, b, 5).item()


def test_lcc_has_the_gradient_of_its_values() -> None:
    a, b = volume(5, 5, 5), volume(5, 5, 5, seed=1)
    a.requires_grad_()
    losses.local_cross_correlation(a, b, 3).backward()
    assert a.grad is not None
    step = 1e-2
    for where in [(0, 0, 2, 2, 2), (0, 0, 0, 4, 1)]:
        up, down = a.detach().clone(), a.detach().clone()
        up[where] += step
        down[where] -= step
        difference = losses.local_cross_correlation(up, b, 3) - losses.local_cross_correlation(down, b, 3)
        assert a.grad[where].item() == pytest.approx(difference.item() / (2 * step), rel=0.05, abs=1e-5)


def test_affine_distance_by_hand() -> None:
    affine = torch.eye(3, 4).repeat(2, 1, 1)
    affine[0, 0, 3], affine[0, 1, 1], affine[1, 2, 0] = 2.0, 0.5, -0.25
    assert losses.affine_distance(affine).item() == pytest.approx((2 + 0.5 + 0.25) / 2)
    assert losses.affine_distance(torch.eye(3, 4)[None]).item() == 0


def test_gradient_distance_by_hand() -> None:
    gradients = torch.ones(1, 3, 2, 2, 2)
    gradients[0, 0, 0, 0, 0], gradients[0, 2, 1, 1, 1] = 1.6, 0.2
    assert losses.gradient_distance(gradients).item() == pytest.approx((0.6 + 0.8) / 24)


def test_roughness_by_hand() -> None:
    """Gradients that grow by 0.1 a voxel along j change by 0.1 there and by nothing elsewhere."""
    gradients = torch.ones(1, 3, 3, 4, 5) + 0.1 * torch.arange(4.0).view(1, 1, 1, 4, 1)
    assert losses.roughness(gradients).item() == pytest.approx(0.01 / 3, rel=1e-4)
    assert losses.roughness(torch.full((1, 3, 3, 4, 5), 0.7)).item() == 0


def test_dice_of_boxes_by_hand() -> None:
    """8 voxels and 8 voxels that share 4: Dice 1/2. A second structure agrees fully: mean 3/4."""
    predicted, target = torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4)
    predicted[0, 0, :2, :2, :2], target[0, 0, 1:3, :2, :2] = 1, 1
    predicted[0, 1, 3], target[0, 1, 3] = 1, 1
    assert losses.dice_loss(predicted, target).item() == pytest.approx(1 - 0.75, abs=1e-5)


def test_dice_of_a_constant_probability() -> None:
    """p everywhere on N voxels of which M are the structure: 2pM / (pN + M)."""
    target = torch.zeros(1, 1, 4, 4, 4)
    target[..., :1] = 1  # 16 of 64
    predicted = torch.full_like(target, 0.3)
    assert losses.dice_loss(predicted, target).item() == pytest.approx(1 - 2 * 0.3 * 16 / (0.3 * 64 + 16), abs=1e-6)


def test_dice_of_a_structure_that_is_nowhere_is_perfect() -> None:
    empty = torch.zeros(1, 1, 3, 3, 3)
    assert losses.dice_loss(empty, empty).item() == 0
    assert losses.dice_loss(torch.ones_like(empty), empty).item() == pytest.approx(1, abs=1e-5)


def test_dice_is_a_mean_over_the_batch() -> None:
    one, none = torch.ones(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)
    both = losses.dice_loss(torch.cat([one, none]), torch.cat([one, one]))
    assert both.item() == pytest.approx(0.5, abs=1e-5)


def test_share_dice_by_hand_and_its_optimum() -> None:
    """p = (1/2, 1), t = (1/4, 1): 2 (1/8 + 1) / (1/4 + 1 + 1/16 + 1); where they agree the loss is 0 and is least."""
    p, t = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[[0.25, 1.0]]])
    assert losses.share_dice_loss(p, t).item() == pytest.approx(1 - 2.25 / (1.25 + 1.0625), abs=1e-4)
    free = t.clone().requires_grad_()
    loss = losses.share_dice_loss(free, t)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert free.grad.abs().max() < 1e-5
    free = t.clone().requires_grad_()
    losses.dice_loss(free, t).backward()
    assert free.grad.abs().max() > 0.1  # the plain one is not at rest there


def test_no_loss_is_negative_or_undefined() -> None:
    a, b = volume(6, 6, 6), volume(6, 6, 6, seed=4)
    for value in (
        losses.mean_squared_error(a, b),
        losses.local_cross_correlation(a, b, 3),
        1 - losses.local_cross_correlation(a, b, 3),
        losses.dice_loss(a, b),
    ):
        assert math.isfinite(value.item())
        assert value.item() >= 0


@pytest.mark.parametrize("window", [3, 5, 9])
def test_slopes_of_the_correlation_are_those_of_automatic_differentiation(window: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand((2, 1, 1, 14, 9, 11), generator=generator).unbind(0)
    counted = torch.rand((1, 1, 14, 9, 11), generator=generator) > 0.5
    free = a.clone().requires_grad_(), b.clone().requires_grad_()
    expected = torch.autograd.grad((losses.squared_correlation(*free, window, 1e-4) * counted).sum(), free)
    for found, wanted in zip(correlation_slopes(a, b, counted, window, 1e-4), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
