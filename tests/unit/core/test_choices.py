"""Arguments are checked by what they may be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

import uresnet
from uresnet.core.choices import FormatName, check_choices
from uresnet.errors import UserError

GOOD: list[tuple[Any, Any]] = [
    ("joint", Literal["joint", "rigid"]),
    (None, str | Path | None),
    (Path("a"), str | Path),
    ((None, "a"), tuple[str | None, str | None]),
    (["ants"], Sequence[FormatName]),
    (print, Callable),
]
BAD: list[tuple[Any, Any, str]] = [
    ("afine", Literal["joint", "rigid"], "f: x is 'afine'; give 'joint' or 'rigid'."),
    (None, Literal["joint", "rigid"], "f: x is None; give 'joint' or 'rigid'."),
    (["joint"], Literal["joint", "rigid"], "f: x is of type list; give 'joint' or 'rigid'."),
    (1, bool, "f: x is 1; give True or False."),
    ("yes", bool, "f: x is 'yes'; give True or False."),
    (3, str | Path | None, "f: x is 3; give a str or a Path or None."),
    ("ants", Sequence[Literal["ants", "fsl"]], "f: x is 'ants'; give a list of 'ants' or 'fsl'."),
    (["ant"], Sequence[Literal["ants", "fsl"]], "f: x is of type list; give a list of 'ants' or 'fsl'."),
    ("ab", tuple[str, str], "f: x is 'ab'; give a pair of a str."),
    (3, Callable, "f: x is 3; give a function."),
]


@pytest.mark.parametrize(("value", "kind"), GOOD)
def test_what_fits_passes(value: object, kind: object) -> None:
    check_choices("f", x=(value, kind))


@pytest.mark.parametrize(("value", "kind", "sentence"), BAD)
def test_what_does_not_fit_is_named_with_the_choices(value: object, kind: object, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        check_choices("f", x=(value, kind))
    assert str(caught.value) == sentence


def test_messages_quote_little() -> None:
    with pytest.raises(UserError) as caught:
        check_choices("f", x=("a" * 100_000, bool))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "wrong",
    [
        {"transform": "afine"},
        {"transform": None},
        {"transform": "Joint"},
        {"brain": "none "},
        {"brain": True},
        {"refine": "no"},
        {"refine": 1},
        {"masks": "mask.nii"},
        {"masks": ("a.nii",)},
        {"masks": (1, None)},
        {"model": 3},
        {"device": "gpu"},
        {"device": "cuda:99"},
        {"device": None},
        {"progress": True},
    ],
    ids=repr,
)
def test_arguments_of_register_and_segment_are_checked_before_any_file(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    named = "device|is not here" if name == "device" else rf"uresnet\.register: {name}? is"
    with pytest.raises(UserError, match=named):
        uresnet.register("nowhere.nii", "nowhere.nii", **wrong)
    if name in ("brain", "model", "device", "progress"):
        with pytest.raises(UserError, match=named.replace("register", "segment")):
            uresnet.segment("nowhere.nii", **wrong)


@pytest.mark.parametrize("image", [3, None, ["a.nii"], b"a.nii"])
def test_images_are_files_or_images(image: Any) -> None:
    with pytest.raises(UserError, match=r"uresnet\.register: moving is of type .*give a path, an image of nibabel"):
        uresnet.register(image, "nowhere.nii")
    with pytest.raises(UserError, match=r"uresnet\.segment: image is"):
        uresnet.segment(image)
