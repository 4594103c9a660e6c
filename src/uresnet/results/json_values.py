"""Dataclasses as JSON values and back, strict about types: the edge between the typed record and its file."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar

from uresnet.errors import quoted

Kind = TypeVar("Kind")


def json_text(value: Any) -> str:
    """The text of a JSON file of ours. Raises ``ValueError`` for numbers that JSON does not have."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_json_value(value: Any) -> Any:
    """A dataclass as dictionaries and lists. A field whose default is None is left out while it is None; a class with
    a method ``to_json_value`` decides for itself."""
    if hasattr(value, "to_json_value"):
        return value.to_json_value()
    if dataclasses.is_dataclass(value):
        named = ((field, getattr(value, field.name)) for field in dataclasses.fields(value))
        return {f.name: to_json_value(found) for f, found in named if found is not None or f.default is not None}
    if isinstance(value, Mapping):
        return {key: to_json_value(item) for key, item in value.items()}
    if isinstance(value, Enum):
        return value.value
    return [to_json_value(item) for item in value] if isinstance(value, tuple) else value


def from_json_value(kind: type[Kind], value: Any, where: str = "") -> Kind:
    """Build a dataclass of ``kind`` from what :func:`to_json_value` made of it.

    A class with a method ``from_json_value`` decides for itself. Names that the class does not know are ignored: a
    later version wrote them. ``where`` is the place of ``value`` in the file. Raises ``ValueError``, with the place,
    for a missing name or a value of another type.
    """
    own = getattr(kind, "from_json_value", None)
    if own is not None:
        return typing.cast(Kind, own(value, where))
    hints = _hints(typing.cast(Any, kind))
    values: dict[str, Any] = {}
    for field in dataclasses.fields(typing.cast(Any, kind)):
        place = f"{where}.{field.name}" if where else field.name
        if field.name in _mapping(value, where):
            values[field.name] = _convert(hints[field.name], value[field.name], place)
        elif field.default is dataclasses.MISSING:
            raise ValueError(f"{place} is missing")
    return kind(**values)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def number(tree: Any, name: str, where: str) -> float:
    """The number ``name`` of a mapping. Raises ``ValueError`` when there is none."""
    return float(_convert(float, _mapping(tree, where).get(name), f"{where}.{name}"))


def _convert(hint: Any, value: Any, where: str) -> Any:
    """One value to the type that the dataclass declares; only whole numbers become floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_json_value(typing.cast(type, hint), value, where)
    if origin is types.UnionType:
        return _convert_union(arguments, value, where)
    if origin is tuple and isinstance(value, list):
        hints = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(hints) == len(value):
            return tuple(_convert(h, v, f"{where}[{n}]") for n, (h, v) in enumerate(zip(hints, value, strict=True)))
    if origin is not None and issubclass(origin, Mapping):
        return {key: _convert(arguments[1], v, f"{where}.{key}") for key, v in _mapping(value, where).items()}
    if isinstance(hint, type) and issubclass(hint, Enum) and isinstance(value, str):
        return hint(value)
    if hint is float and type(value) in (int, float) and abs(value) <= sys.float_info.max:
        return float(value)
    if hint in (int, bool, str) and type(value) is hint:
        return value
    raise ValueError(f"{quoted(where)} is {quoted(repr(value))}")


def _convert_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """The first of several dataclasses whose names are all there, or another type beside None."""
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) == 1:
        return _convert(kinds[0], value, where)
    there = set(_mapping(value, where))
    fitting = (kind for kind in kinds if {f.name for f in dataclasses.fields(kind) if f.default is not None} <= there)
    kind = next(fitting, None)
    return None if kind is None else from_json_value(kind, value, where)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{quoted(where) or 'the file'} is not a mapping of names to values")
    return value
