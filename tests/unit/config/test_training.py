"""Settings of a training that contradict each other are refused."""

from __future__ import annotations

from typing import Any

import pytest

from uresnet.config import config_from_dict
from uresnet.errors import UserError


def test_keys_of_pair_networks_do_not_go_with_a_segmenter() -> None:
    with pytest.raises(UserError, match="use blocks"):
        config_from_dict({"segmenter": {}, "losses": {"alpha": 0.2}})


@pytest.mark.parametrize(
    "tree",
    [
        {"segmenter": {}, "training": {"optimiser": "soap"}},
        {"training": {"optimiser": "muon"}},
        {"segmenter": {}, "training": {"stages": [{"downsampling": 2}]}},
    ],
)
def test_what_a_training_would_not_use_is_refused(tree: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="training"):
        config_from_dict(tree)


@pytest.mark.parametrize("wrong", [{"shape": [16, 16, 20]}, {"parts": 9}, {"knots": [3]}])
def test_blocks_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="blocks"):
        config_from_dict({"segmenter": {}, "blocks": wrong})
