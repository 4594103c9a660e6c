"""The paper's idea in one place: what a network says of two images becomes one map and a segmentation of each."""

from uresnet.coupling.dispatch import (
    COUPLINGS,
    FREEDOMS,
    Coupler,
    Coupling,
    Freedom,
    Segmented,
    check_refinable,
    couple,
    pair_transform,
    segment_conformed,
)

__all__ = [
    "COUPLINGS",
    "FREEDOMS",
    "Coupler",
    "Coupling",
    "Freedom",
    "Segmented",
    "check_refinable",
    "couple",
    "pair_transform",
    "segment_conformed",
]
