"""The paper's idea in one place: what a network predicts for two images becomes one map and a segmentation of each."""

from uresnet.coupling.contrast import Look
from uresnet.coupling.dispatch import (
    COUPLERS,
    Coupler,
    check_leaves_out,
    check_predicts_t1,
    check_refinable,
    couple,
    look,
    segment_conformed,
    segments_alone,
)
from uresnet.coupling.midspace import couple_midspace
from uresnet.coupling.pair import pair_transform
from uresnet.coupling.result import Coupling, Expected, Segmented, Structures

__all__ = [
    "COUPLERS",
    "Coupler",
    "Coupling",
    "Expected",
    "Look",
    "Segmented",
    "Structures",
    "check_leaves_out",
    "check_predicts_t1",
    "check_refinable",
    "couple",
    "couple_midspace",
    "look",
    "pair_transform",
    "segment_conformed",
    "segments_alone",
]
