"""One entry for each kind of network."""

from __future__ import annotations

from pathlib import Path

import pytest

from uresnet.coupling import COUPLERS, check_refinable
from uresnet.errors import UserError
from uresnet.model.catalogue import BRAIN
from uresnet.model.checkpoint import NETWORKS, load_model


def test_every_kind_of_network_for_pairs_can_be_coupled() -> None:
    assert set(COUPLERS) == set(NETWORKS) - {BRAIN}


def test_what_cannot_be_refined_is_said(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="nothing to refine"):
        check_refinable(load_model(tiny_model))
