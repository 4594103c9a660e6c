"""How a pair is coupled and an image segmented by networks of each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from uresnet.core.choices import Freedom
from uresnet.core.limits import freed_memory_kept
from uresnet.coupling.contrast import Look, look_at, predicts_t1
from uresnet.coupling.midspace import couple_midspace, segment_alone
from uresnet.coupling.mirrored import filling
from uresnet.coupling.pair import couple_pair, segment_as_pair
from uresnet.coupling.result import Coupling, Structures
from uresnet.coupling.translation import couple_centres
from uresnet.errors import UserError
from uresnet.model.checkpoint import CHRISTODOULIDIS, MIDSPACE, PAIR, TRANSLATION, Model
from uresnet.preprocess import Conformed
from uresnet.solver import REFINED_SETTINGS


@dataclass(frozen=True)
class Coupler:
    """How networks of one kind are used: ``couple`` a pair, ``segment`` one image.

    ``refine`` couples more accurately and takes longer; None where a kind has nothing to refine. ``matches_all``: the
    kind matches all that it sees, also abnormal tissue.
    """

    couple: Callable[..., Coupling]
    segment: Callable[..., Structures]
    refine: Callable[..., Coupling] | None = None
    matches_all: bool = True


COUPLERS: dict[str, Coupler] = {
    MIDSPACE: Coupler(
        couple_midspace, segment_alone, partial(couple_midspace, settings=REFINED_SETTINGS), matches_all=False
    ),
    PAIR: Coupler(couple_pair, segment_as_pair),
    CHRISTODOULIDIS: Coupler(couple_pair, segment_as_pair),
    TRANSLATION: Coupler(couple_centres, segment_as_pair),
}
"""By the ``kind`` on the model's card; the same kinds as ``checkpoint.NETWORKS``."""


def look(model: Model, *images: Conformed, whole: bool = False) -> tuple[Model, tuple[Look, ...]]:
    """Let the model for any contrast, if ``model`` has one beside it or is one, look at images before they are used.

    Returns the model that knows all of them, and what was seen, or nothing where nobody looked: a model made for
    T1-weighted images is kept where all are T1-weighted, without thick slices, and is asked too where they are not.
    ``whole`` evaluates T1-weighted images too. Otherwise a healthy brain is seen in place of what was drawn as
    abnormal, so that it decides nothing about what lies beside it.
    """
    general = _general(model)
    if general is None:
        return model, ()
    with freed_memory_kept():
        looks = tuple(look_at(general, image if whole else _without_drawn(general, image), whole) for image in images)
    if all(seen.contrast == "T1" and not seen.in_slices for seen in looks):
        return model, looks
    return (general if general is model else replace(general, specialist=model)), looks


def _without_drawn(general: Model, image: Conformed) -> Conformed:
    """The image with what lies opposite to it in place of what was drawn as abnormal."""
    if image.abnormal is None or not image.abnormal.any():
        return image
    assert general.scheme is not None
    tensor = image.tensor.to(general.device)
    with torch.inference_mode():
        probabilities = general.network(tensor)[1]
        fill = filling(tensor, image.abnormal.to(general.device), probabilities, general.scheme)
        return image if fill is None else replace(image, tensor=fill.of(tensor).cpu())


def check_predicts_t1(model: Model) -> None:
    """Raises :class:`UserError` for a model that predicts no T1-weighted image, and has none beside it that does."""
    if _general(model) is None:
        raise UserError(f"The model {model.name} predicts no T1-weighted image; leave --model or --synthesise out.")


def _general(model: Model) -> Model | None:
    """The model for any contrast that ``model`` has beside it, or is."""
    return model.general or (model if predicts_t1(model) else None)


def couple(
    model: Model,
    moving: Conformed,
    fixed: Conformed,
    freedom: Freedom = "joint",
    refine: bool = False,
    looks: Sequence[Look] = (),
) -> Coupling:
    """Run the network on a pair conformed to grids of one shape, with what :func:`look` saw in them.

    ``refine`` is more accurate and takes longer. Raises :class:`UserError` when the model cannot be refined.
    """
    if refine:
        check_refinable(model)
    coupler = COUPLERS[model.card.kind]
    chosen = coupler.refine if refine and coupler.refine else coupler.couple
    seen = {"looks": (looks[0], looks[1])} if looks else {}
    with torch.inference_mode():
        return chosen(model, moving, fixed, freedom, **seen)


def check_refinable(model: Model) -> None:
    """Raises :class:`UserError` for a model that predicts its deformation in a single pass."""
    if COUPLERS[model.card.kind].refine is None:
        raise UserError(f"The model {model.name} has nothing to refine; leave --refine out or choose another model.")


def check_leaves_out(model: Model) -> None:
    """Raises :class:`UserError` for a model that cannot leave abnormal tissue out."""
    if COUPLERS[model.card.kind].matches_all:
        raise UserError(
            f"The model {model.name} matches all that it sees; give no lesion masks with it, or choose another model."
        )


def segments_alone(model: Model) -> bool:
    """Whether the model segments each image of a pair without looking at the other: once is enough for many pairs."""
    return COUPLERS[model.card.kind].segment is segment_alone


def segment_conformed(model: Model, image: Conformed, looks: Sequence[Look] = ()) -> Structures:
    """Segment one image, with what :func:`look` saw in it. Raises ``ValueError`` for a network without segmentation."""
    if model.scheme is None:
        raise ValueError(f"{model.name} does not segment")
    with torch.inference_mode(), freed_memory_kept():
        return COUPLERS[model.card.kind].segment(model, image, *looks)
