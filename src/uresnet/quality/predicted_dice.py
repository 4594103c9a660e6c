"""How well the label of each structure is expected to agree with an expert's, predicted without one.

A network's probabilities say what Dice it expects of its own labels, and it expects too much. How much was measured on
people with manual labels whom the weights had not seen, as they are and degraded (``benchmarks/predicted_dice.py``,
which makes the numbers here again). A prediction is no measurement, and says nothing of a model that is not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log

from uresnet.core.labels import FREESURFER, mirrored_id
from uresnet.coupling import Expected
from uresnet.quality.verdict import DEFAULT_MODEL

_LEAST = 1e-3
"""No Dice is taken for certain."""


@dataclass(frozen=True)
class Calibration:
    """log-odds of the predicted Dice = ``slope`` × log-odds of the expected Dice + ``offsets`` of the structure, by
    FreeSurfer id, the left one's for both sides."""

    slope: float
    offsets: Mapping[int, float]

    def predict(self, structure: int, expected: float) -> float | None:
        """The Dice of a structure by its FreeSurfer id; None for a structure without offset."""
        offset = self.offsets.get(min(structure, mirrored_id(structure)))
        return None if offset is None else 1 / (1 + exp(-self.slope * log_odds(expected) - offset))


def log_odds(dice: float) -> float:
    """Of a Dice in [0, 1], not beyond those of 0.001 and 0.999."""
    inside = min(max(dice, _LEAST), 1 - _LEAST)
    return log(inside / (1 - inside))


_OF_DEFAULT = Calibration(
    slope=1.663,
    offsets={
        2: -2.862,
        3: -2.666,
        4: -3.589,
        5: -3.716,
        7: -2.894,
        8: -3.068,
        10: -3.405,
        11: -3.800,
        12: -3.594,
        13: -3.893,
        14: -3.752,
        15: -3.309,
        16: -3.384,
        17: -3.614,
        18: -3.928,
        24: -3.672,
        26: -3.922,
        28: -3.381,
    },
)

CALIBRATIONS: Mapping[str, Calibration] = {
    DEFAULT_MODEL: _OF_DEFAULT,
    # The weights that it was measured with: trained in the same way, on the people of "train" alone.
    "b116b312c22194a1962cdbd6a2a91fbe86fec10c1bac691c40c1f1530f3d907a": _OF_DEFAULT,
}
"""By the SHA-256 of the model's file, as the bounds of the verdict are."""


def predicted_dice(expected: Expected | None, sha256: str) -> dict[str, float] | None:
    """The predicted Dice of every structure that was found, by name, from what the network expects. None for a model
    that is not calibrated."""
    calibration = CALIBRATIONS.get(sha256)
    if calibration is None or expected is None:
        return None
    found = {structure: calibration.predict(structure, dice) for structure, dice in expected.items()}
    return {FREESURFER[structure].name: round(dice, 3) for structure, dice in found.items() if dice is not None}
