"""The benchmark of abnormal tissue: a network that is right about everything gets full marks, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import abnormal as benchmark
from uresnet.config import ConformSpec, ModelConfig
from uresnet.core.labels import SCHEMES
from uresnet.model.checkpoint import Model, uresnet_card
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import class_shares, class_table

SHAPE = (8, 8, 8)


class Says(torch.nn.Module):
    """The identity, and the classes of these labels."""

    def __init__(self, labels: torch.Tensor, scheme: str) -> None:
        super().__init__()
        self.logits = 50 * class_shares(labels, class_table(SCHEMES[scheme]), SCHEMES[scheme].number_of_classes)

    def forward(self, moving: torch.Tensor, fixed: torch.Tensor) -> UResNetOutput:
        return UResNetOutput(torch.ones(1, 3, *SHAPE), torch.eye(3, 4)[None], self.logits)


def model(labels: torch.Tensor, scheme: str = "tissue3_abnormal") -> Model:
    card = uresnet_card("says", ModelConfig(scheme=scheme), ConformSpec())
    return Model(card, Says(labels, scheme), SCHEMES[scheme], ConformSpec(), "")


def brain() -> torch.Tensor:
    ids = torch.tensor([0, 2, 3, 4, 41, 42, 43, 17], dtype=torch.uint8)
    return ids[torch.randint(0, 8, (1, 1, *SHAPE), generator=torch.Generator().manual_seed(0))]


def test_who_is_right_gets_full_marks_outside_and_inside() -> None:
    healthy, image = brain(), torch.rand(1, 1, *SHAPE)
    painted = healthy.clone()
    painted[..., 3:5] = 25
    found = benchmark.scores(model(painted), (image, painted), (image, healthy), 5.0)
    assert found == pytest.approx([1, 1, 1, 128 * 0.125, 128 * 0.125])
    blind = benchmark.scores(model(healthy), (image, painted), (image, healthy), 5.0)
    assert blind == pytest.approx([1, 1, 0, 0, 128 * 0.125])
    # A network without the class is not judged by it; the identity says nothing at all of tissues.
    assert np.isnan(benchmark.scores(model(healthy, "tissue3"), (image, painted), (image, healthy), 5.0)[2])
    nothing = benchmark.scores(None, (image, painted), (image, healthy), 5.0)
    assert nothing[0] == pytest.approx(1) and np.isnan(nothing[1:4]).all()


def test_the_pairs_are_those_of_the_split_and_the_tissue_is_always_the_same() -> None:
    from small_training import blobs

    data = benchmark.Data(blobs(3), torch.zeros(256), 4.0)
    for case, is_painted in (("healthy", False), ("mass", True)):
        one, other = (benchmark.means(None, data, case) for _ in range(2))
        assert one[0] == other[0] and one[4] == other[4]
        assert (one[4] > 0) == is_painted
