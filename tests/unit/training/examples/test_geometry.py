"""Mirrored images and labels."""

from __future__ import annotations

import pytest
import torch

from uresnet.training.examples.geometry import mirror

SHAPE = (24, 20, 28)


def test_mirroring_exchanges_sides_and_ids() -> None:
    """Left hippocampus at one end of the left–right axis becomes right hippocampus at the other."""
    image, labels = torch.zeros(1, 1, *SHAPE), torch.zeros(1, 1, *SHAPE, dtype=torch.uint8)
    image[0, 0, 2, 3, 4], labels[0, 0, 2, 3, 4] = 0.7, 17
    labels[0, 0, 11, 8, 9] = 16  # brain stem: no side
    mirrored, ids = mirror(image, labels)
    assert mirrored[0, 0, SHAPE[0] - 1 - 2, 3, 4] == pytest.approx(0.7)
    assert ids[0, 0, SHAPE[0] - 1 - 2, 3, 4] == 53
    assert ids[0, 0, SHAPE[0] - 1 - 11, 8, 9] == 16
    assert (ids > 0).sum() == 2
    back, ids_back = mirror(mirrored, ids)
    assert torch.equal(back, image)
    assert torch.equal(ids_back, labels)
