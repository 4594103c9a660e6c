"""The words that a caller chooses from, on the command line and in Python.

They stand apart from the modules that act on them, so that ``uresnet --help`` lists them without loading torch.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from uresnet.errors import UserError

Freedom = Literal["joint", "affine", "rigid", "deformable"]
"""What a registration may change: an affine and a deformation together, or one part of them alone."""

BrainMethod = Literal["auto", "none"]
"""How the brain is found: "auto" strips a skull where there is one, "none" takes every voxel above zero."""

Interpolation = Literal["linear", "nearest", "label", "cubic"]
"""How a value between voxels is computed; "label" gives the label with the largest share of the voxel."""

FormatName = Literal["itk", "ants", "fsl", "freesurfer", "greedy", "nifti", "learn2reg"]
"""The programs whose transform files are read and written."""

Contrast = Literal["T1", "T2", "FLAIR", "unknown"]
"""Families of contrasts, T1 also after contrast agent; "unknown": the order of brightness is that of none of them."""

OutputName = Literal[
    "transform", "inverse", "warped", "jacobian", "segmentations", "tables", "volumes", "report", "mask", "stripped"
]
"""What a registration can write."""

ExtraName = Literal["mask", "stripped"]
"""What a segmentation writes when it is asked to: the brain mask, and the image without what lies outside of it."""

SegmentationExtra = Literal[ExtraName, "t1"]
"""The same of ``segment``, and the predicted T1-weighted image."""

LabelConvention = Literal["freesurfer", "neuromorphometrics"]
"""What the numbers in a label map mean."""

FailOn = Literal["look", "failed"]
"""The mildest verdict that ends a command with exit code 3."""

PACKAGED_CONFIGURATIONS = {
    path.stem: path for path in sorted((Path(__file__).parent.parent / "config" / "files").glob("*.yaml"))
}
"""Name → file of the configurations of trainings that come with uresnet."""


def check_choices(function: str, **given: tuple[Any, Any]) -> None:
    """Check arguments, each given as (value, type): a class, a union, a ``Literal`` or a sequence or tuple of these.

    Raises :class:`UserError` for a value of another type and for a word that is none of the choices; the sentence
    names the ``function``, the argument and what it takes.
    """
    for name, (value, kind) in given.items():
        if not _fits(value, kind):
            shown = (
                repr(value) if isinstance(value, str | int | float | bool | None) else f"of type {type(value).__name__}"
            )
            shown = shown if len(shown) <= 100 else f"{shown[:100]}…"
            raise UserError(f"{function}: {name} is {shown}; give {_in_words(kind)}.")


def _fits(value: Any, kind: Any) -> bool:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, choice) for choice in arguments)
    if origin is tuple:
        return (
            isinstance(value, tuple | list)
            and len(value) == len(arguments)
            and all(_fits(item, choice) for item, choice in zip(value, arguments, strict=True))
        )
    if origin is Sequence:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str | bytes)
            and all(_fits(item, arguments[0]) for item in value)
        )
    if kind is Callable:
        return callable(value)
    return isinstance(value, type(None) if kind is None else kind)


def _in_words(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join([", ".join(map(repr, arguments[:-1])), repr(arguments[-1])])
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_in_words(choice) for choice in arguments)
    if origin is tuple:
        return f"a pair of {_in_words(arguments[0])}"
    if origin is Sequence:
        return f"a list of {_in_words(arguments[0])}"
    named = {type(None): "None", bool: "True or False", str: "a str", Callable: "a function"}
    name = getattr(kind, "__name__", str(kind))
    return named.get(kind, f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")
