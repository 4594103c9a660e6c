"""The Dice that probabilities expect, against numbers worked out by hand and a sum over blocks in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from uresnet.measures.overlap import expected_dice


def test_a_block_has_in_common_what_is_both_chosen_and_probable() -> None:
    """Class 1 has eight voxels of the first block and two of the second, of which 0.9 and 0.5 are expected."""
    classes = torch.zeros(4, 2, 2, dtype=torch.uint8)
    classes[:2] = 1
    classes[2, 0] = 1
    probabilities = torch.tensor([[0.1, 0.5], [0.9, 0.5], [0.0, 0.0]]).view(3, 2, 1, 1)
    found = expected_dice(classes, probabilities)
    assert float(found[0]) == pytest.approx(2 * (8 * 0.9 + 2) / (10 + 8 * 1.4))
    assert found[1].isnan()  # no voxel is of class 2


def test_certain_labels_are_perfect_and_what_is_improbable_is_not_found() -> None:
    classes = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (6, 8, 4)).astype(np.uint8))
    blocks = classes.view(3, 2, 4, 2, 2, 2)
    shares = torch.stack([(blocks == c).float().mean(dim=(1, 3, 5)) for c in range(3)])
    torch.testing.assert_close(expected_dice(classes, shares), torch.ones(2, dtype=torch.float64))
    nothing = torch.zeros_like(shares)
    nothing[0] = 1
    assert expected_dice(classes, nothing).tolist() == [0, 0]


def test_less_certainty_is_a_lower_dice() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = 6 * torch.randn(5, 6, 5, 7, generator=generator)
    classes = logits.argmax(dim=0).to(torch.uint8).repeat_interleave(2, 0).repeat_interleave(2, 1)
    classes = classes.repeat_interleave(2, 2)
    rows = [expected_dice(classes, (logits / heat).softmax(dim=0)) for heat in (1, 2, 4)]
    assert bool((rows[0] > rows[1]).all()) and bool((rows[1] > rows[2]).all())
