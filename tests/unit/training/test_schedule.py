"""The learning rate in closed form."""

from __future__ import annotations

import math

import pytest

from uresnet.config import TrainingConfig
from uresnet.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("fraction", "rate"), [(0, 1e-3), (0.24, 1e-3), (0.26, 5e-4), (0.51, 2.5e-4), (0.76, 1.25e-4), (1, 1.25e-4)]
)
def test_halving_in_closed_form(fraction: float, rate: float) -> None:
    assert learning_rate(TrainingConfig(learning_rate=1e-3, halvings=3), fraction, 10**6) == pytest.approx(rate)


@pytest.mark.parametrize("fraction", [0, 0.25, 0.5, 0.9])
def test_cosine_in_closed_form(fraction: float) -> None:
    expected = 2e-3 * (1 + math.cos(math.pi * fraction)) / 2
    settings = TrainingConfig(learning_rate=2e-3, schedule="cosine")
    assert learning_rate(settings, fraction, 10**6) == pytest.approx(expected)
    assert learning_rate(settings, 1.0, 10**6) == pytest.approx(2e-5)


def test_warm_up_is_linear() -> None:
    settings = TrainingConfig(learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(settings, 0, step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])
