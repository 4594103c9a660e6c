"""How a configuration checks its own values: each number's range stands with its field, as part of its type."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Any


class BadValue(ValueError):
    """A value that does not fit. :mod:`uresnet.config.loading` turns it into a ``UserError`` that names the file."""


def require(condition: bool, sentence: str) -> None:
    """Raises :class:`BadValue` with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise BadValue(sentence)


@dataclass(frozen=True)
class Within:
    """The range of a number, its ends included; ``above`` leaves out the lower one."""

    low: float
    high: float
    above: bool = False

    def __contains__(self, value: float) -> bool:
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"{'above' if self.above else 'at least'} {self.low:g} and at most {self.high:g}"


_MOST = 1e9

Share = Annotated[float, Within(0, 1)]
"""A fraction or a probability."""

NotNegative = Annotated[float, Within(0, _MOST)]
"""A weight or a magnitude; 0 leaves something out."""

Positive = Annotated[float, Within(0, _MOST, above=True)]
"""A size, a factor or a time."""

Real = Annotated[float, Within(-_MOST, _MOST)]
"""Any number of a plausible size."""

Count = Annotated[int, Within(1, _MOST)]
"""How many, at least one."""

CountOrNone = Annotated[int, Within(0, _MOST)]
"""How many, perhaps none."""

Side = Annotated[int, Within(1, 4096)]
"""Voxels along an axis."""

Width = Annotated[int, Within(1, 4096)]
"""Features of a layer."""


def check_numbers(config: Any, name: str) -> None:
    """Raises :class:`BadValue` for a number in a field of the dataclass ``config`` that is not finite or not within the
    range of the field's type. ``name`` is where the configuration stands ("losses")."""
    hints = typing.get_type_hints(type(config), include_extras=True)
    for field in dataclasses.fields(config):
        _check(hints[field.name], getattr(config, field.name), f"{name}.{field.name}" if name else field.name)


def _check(hint: Any, value: Any, key: str) -> None:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return
    if origin in (types.UnionType, typing.Union):
        _check(next(kind for kind in arguments if kind is not type(None)), value, key)
    elif origin is tuple and isinstance(value, list | tuple):
        for number, item in enumerate(value):
            _check(arguments[0], item, f"{key}[{number}]")
    elif origin is Annotated or hint is float:
        bounds = hint.__metadata__[0] if origin is Annotated else None
        finite = isinstance(value, int | float) and math.isfinite(value)
        require(finite, f"{key} must be a finite number")
        require(bounds is None or value in bounds, f"{key} must be {bounds}, not {value:.6g}")
