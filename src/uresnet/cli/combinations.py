"""Options that would have no effect together: whoever gives an option expects that it does something.

Permissions (``--overwrite``), limits (``--memory``, ``--cache-size``, ``--threads``) and hints that only some files
need (``--moving``, ``--fixed``) promise nothing, and are taken anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from uresnet.core.choices import BrainMethod, Freedom, OutputName
from uresnet.errors import UserError
from uresnet.model.catalogue import ModelFile

_OF_STRUCTURES: tuple[OutputName, ...] = ("segmentations", "tables", "volumes")


def refuse_idle(because: str, options: Mapping[str, bool]) -> None:
    """Raises :class:`UserError` for the ``options`` that are given, which have no effect ``because`` of another one
    (``"--segment-only, which registers nothing"``)."""
    given = [name for name, is_given in options.items() if is_given]
    if given:
        named, (have, them) = " and ".join(given), ("has", "it") if len(given) == 1 else ("have", "them")
        raise UserError(f"{named} {have} no effect with {because}; leave {them} out.")


def check_masked(brain: BrainMethod, *masks: object) -> None:
    """Raises :class:`UserError` for ``--brain none`` where a mask says what is brain in each image."""
    if all(masks):
        refuse_idle("brain masks, which say what is brain", {"--brain none": brain == "none"})


def check_registration(
    model: ModelFile,
    transform: Freedom | None,
    field_spacing: float | None,
    formats: Sequence[str],
    named: str | None,
    outputs: Sequence[OutputName],
) -> None:
    """Raises :class:`UserError` for options of a registration that this ``model``, or another option, leaves without
    effect. ``transform`` is None where none was chosen; ``named`` is the text of ``--outputs``, and ``outputs`` what
    is written."""
    spaced = {"--field-spacing": field_spacing is not None}
    if not {"transform", "inverse"} & {*outputs}:
        refuse_idle("--outputs that leave out transform and inverse", spaced)
    if "transform" not in outputs:
        refuse_idle(
            "--outputs that leave out transform", {"--export itk": "itk" in {name.strip().lower() for name in formats}}
        )
    if transform in ("affine", "rigid"):
        refuse_idle(f"--transform {transform}, which has no displacements", spaced)
    if named is not None and model.card is not None and not model.card.scheme:
        asked = {f"--outputs {name}": name in outputs for name in _OF_STRUCTURES}
        refuse_idle(f"the model {model.name}, which does not segment", asked)
    if model.card is not None and (transform is not None or field_spacing is not None):
        from uresnet.model.checkpoint import TRANSLATION  # here: it loads torch

        if model.card.kind == TRANSLATION:
            chosen = {"--transform": transform is not None, **spaced}
            refuse_idle(f"the model {model.name}, which brings centres of mass together and nothing else", chosen)


def check_refine(model: ModelFile) -> None:
    """Raises :class:`UserError` for a ``model`` that has nothing to refine. Loads torch."""
    from uresnet.coupling import check_refinable
    from uresnet.model.checkpoint import load_model

    check_refinable(load_model(model))
