"""How a network is judged while it trains."""

from __future__ import annotations

from uresnet.training.validation import Validation


def test_validations_are_shown_by_what_was_judged() -> None:
    of_segmenter = Validation((0.5, float("nan")), table1=(0.7, 0.8), step=3)
    assert str(of_segmenter) == "update 3: segmentation Dice 0.7500 in the structures of Table 1"
    of_pairs = Validation((0.5, 0.25), registration=0.6, folding=0.01, step=4)
    assert str(of_pairs) == "update 4: registration Dice 0.6000, segmentation 0.500 / 0.250, folds 1.00%"
