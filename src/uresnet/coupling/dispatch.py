"""How a pair is coupled and an image segmented by networks of each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from uresnet.core.choices import Freedom
from uresnet.coupling.midspace import couple_midspace, segment_alone
from uresnet.coupling.pair import couple_pair, segment_as_pair
from uresnet.coupling.result import Coupling, Segmented
from uresnet.coupling.translation import couple_centres
from uresnet.errors import UserError
from uresnet.model.checkpoint import CHRISTODOULIDIS, MIDSPACE, PAIR, TRANSLATION, Model
from uresnet.preprocess import Conformed
from uresnet.solver import REFINED_SETTINGS


@dataclass(frozen=True)
class Coupler:
    """How networks of one kind are used: ``couple`` a pair, ``segment`` one image.

    ``refine`` couples more accurately and takes longer; None where a kind has nothing to refine.
    """

    couple: Callable[[Model, Conformed, Conformed, Freedom], Coupling]
    segment: Callable[[Model, Conformed], Segmented]
    refine: Callable[[Model, Conformed, Conformed, Freedom], Coupling] | None = None


COUPLERS: dict[str, Coupler] = {
    MIDSPACE: Coupler(couple_midspace, segment_alone, partial(couple_midspace, settings=REFINED_SETTINGS)),
    PAIR: Coupler(couple_pair, segment_as_pair),
    CHRISTODOULIDIS: Coupler(couple_pair, segment_as_pair),
    TRANSLATION: Coupler(couple_centres, segment_as_pair),
}
"""By the ``kind`` on the model's card; the same kinds as ``checkpoint.NETWORKS``."""


def couple(
    model: Model, moving: Conformed, fixed: Conformed, freedom: Freedom = "joint", refine: bool = False
) -> Coupling:
    """Run the network on a pair conformed to grids of one shape.

    ``refine`` is more accurate and takes longer. Raises :class:`UserError` when the model cannot be refined.
    """
    if refine:
        check_refinable(model)
    coupler = COUPLERS[model.card.kind]
    chosen = coupler.refine if refine and coupler.refine else coupler.couple
    with torch.inference_mode():
        return chosen(model, moving, fixed, freedom)


def check_refinable(model: Model) -> None:
    """Raises :class:`UserError` for a model that predicts its deformation in a single pass."""
    if COUPLERS[model.card.kind].refine is None:
        raise UserError(f"The model {model.name} has nothing to refine; leave --refine out or choose another model.")


def segments_alone(model: Model) -> bool:
    """Whether the model segments each image of a pair without looking at the other: once is enough for many pairs."""
    return COUPLERS[model.card.kind].segment is segment_alone


def segment_conformed(model: Model, image: Conformed) -> Segmented:
    """Segment one image. Raises ``ValueError`` for a network without segmentation."""
    if model.scheme is None:
        raise ValueError(f"{model.name} does not segment")
    with torch.inference_mode():
        return COUPLERS[model.card.kind].segment(model, image)
