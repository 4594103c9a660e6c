"""Features of images in closed form, and the distance that is built on them."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from uresnet.quality.distribution import PROFILE, REFERENCE, SHELLS_MM, Features, features_of

ZOOMS = np.array([1.0, 1.5, 2.0])


def ball(radius: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    """(depth below the surface in mm, mask) of a ball on an anisotropic grid."""
    axes = [(np.arange(round(2 * (radius + 6) / z)) + 0.5) * z - radius - 6 for z in ZOOMS]
    depth = radius - np.sqrt(sum(a**2 for a in np.meshgrid(*axes, indexing="ij")))
    return depth, depth > 0


def test_brightness_by_depth_is_what_was_put_in() -> None:
    depth, inside = ball()
    found = features_of(50 + 3 * depth, inside, ZOOMS, (113.0, 0.8, 0.75))
    low, middle, high = np.quantile(depth[inside], (0.05, 0.5, 0.95))
    ends = list(itertools.pairwise(SHELLS_MM))
    medians = [np.median(depth[inside & (depth > a) & (depth <= b)]) for a, b in ends]
    assert found.shells == pytest.approx((np.array(medians) - middle) / (high - low), abs=0.06)
    assert found.deep_over_rim == pytest.approx(
        (np.median(depth[(depth > 14) & (depth <= 24)]) - np.median(depth[(depth > 3) & (depth <= 10)])) / (high - low),
        abs=0.06,
    )
    assert found.brain_ml == pytest.approx(113)


def test_the_profile_of_a_uniform_histogram() -> None:
    _, inside = ball()
    values = np.zeros(inside.shape)
    values[inside] = np.random.default_rng(0).permutation(np.linspace(0, 1, int(inside.sum())))
    found = features_of(values, inside, ZOOMS, (113.0, 0.8, 0.75))
    # Quantiles of U(0, 1), less 0.5, over a span of 0.9.
    assert found.profile == pytest.approx((np.array(PROFILE) - 0.5) / 0.9, abs=1e-3)
    assert found.deep_over_rim == pytest.approx(0, abs=0.05)


def test_dark_inside_is_negative_and_scale_does_not_matter() -> None:
    depth, inside = ball()
    bright = features_of(50 + 3 * depth, inside, ZOOMS, (113.0, 0.8, 0.75))
    dark = features_of(500 - 30 * depth, inside, ZOOMS, (113.0, 0.8, 0.75))
    assert dark.deep_over_rim == pytest.approx(-bright.deep_over_rim, abs=1e-6)


def test_a_thin_brain_has_no_depth() -> None:
    slab = np.ones((30, 30, 3), bool)
    found = features_of(np.arange(slab.size, dtype=float).reshape(slab.shape), slab, np.ones(3), (3.0, 1.0, 0.1))
    assert found.deep_over_rim is None
    assert np.isnan(found.shells[-1])
    assert np.isfinite(found.distance)


def test_distance_counts_standard_deviations_a_third_for_each_group() -> None:
    mean, spread = np.array(REFERENCE).T
    usual = Features(mean[:3], mean[3:11], mean[11:], 0.2)
    assert usual.distance == 0
    assert replace(usual, shape=mean[:3] + 6 * spread[:3]).distance == pytest.approx(6 / np.sqrt(3))
    away = Features(mean[:3] + spread[:3], mean[3:11] - spread[3:11], mean[11:] + spread[11:], 0.2)
    assert away.distance == pytest.approx(1)
