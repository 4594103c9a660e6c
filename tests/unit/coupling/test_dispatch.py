"""One entry for each kind of network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import mirror_images
from uresnet.core.grid import Grid
from uresnet.coupling import COUPLERS, check_refinable, dispatch
from uresnet.coupling.contrast import Look
from uresnet.errors import UserError
from uresnet.model.catalogue import BRAIN
from uresnet.model.checkpoint import NETWORKS, Model, load_model
from uresnet.preprocess import Conformed


def test_every_kind_of_network_for_pairs_can_be_coupled() -> None:
    assert set(COUPLERS) == set(NETWORKS) - {BRAIN}


def test_what_cannot_be_refined_is_said(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="nothing to refine"):
        check_refinable(load_model(tiny_model))


def test_what_was_drawn_decides_nothing_about_what_lies_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy, drawn = mirror_images.image(np.eye(4)), mirror_images.ball((20, 30, 24), 6)
    sick = healthy.clone()
    sick[0, 0][drawn] = 1.0
    network = mirror_images.Shown(mirror_images.probabilities(np.eye(4)))
    model = replace(load_model("translation"), scheme=mirror_images.SCHEME, network=network)
    looked_at = list[torch.Tensor]()

    def noted(model: Model, image: Conformed, whole: bool) -> Look:
        looked_at.append(image.tensor)
        return Look("T1", mirror_images.SCHEME, None)

    monkeypatch.setattr(dispatch, "look_at", noted)
    monkeypatch.setattr(dispatch, "predicts_t1", lambda model: True)
    image = Conformed(sick, Grid.centred(mirror_images.SHAPE, (1, 1, 1), "RAS", (0, 0, 0)), sick[0, 0] > 0)
    dispatch.look(model, image)
    assert looked_at.pop() is sick and not network.images
    dispatch.look(model, replace(image, abnormal=drawn))
    assert float((looked_at.pop() - healthy).abs()[0, 0][drawn].max()) < 0.06
    dispatch.look(model, replace(image, abnormal=torch.zeros_like(drawn)))  # a mask smaller than a voxel of 1 mm
    assert looked_at.pop() is sick
    # The predicted T1-weighted image shows what there is.
    dispatch.look(model, replace(image, abnormal=drawn), whole=True)
    assert looked_at.pop() is sick
