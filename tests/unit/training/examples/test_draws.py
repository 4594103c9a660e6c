"""Random fields are as smooth as asked for."""

from __future__ import annotations

import pytest
import torch

from uresnet.training.examples.draws import smooth_field


def test_smooth_fields_have_the_size_and_smoothness_asked_for() -> None:
    field = smooth_field(4, (40, 36, 44), 12, torch.Generator().manual_seed(0))
    assert field.shape == (4, 40, 36, 44)
    assert field.std().item() == pytest.approx(1, abs=1e-3)
    # knots 12 apart: neighbours differ little
    for axis in (1, 2, 3):
        assert field.diff(dim=axis).abs().max() < 0.8
