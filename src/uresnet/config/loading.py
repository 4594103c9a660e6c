"""Configurations from YAML files and dictionaries, and back.

Every key is checked; an unknown key is an error that lists the known ones.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, Literal, TypeVar

from uresnet.config.cluster import ClusterConfig
from uresnet.config.conform import ConformSpec
from uresnet.config.model import ModelConfig, SegmenterConfig
from uresnet.config.training import Config
from uresnet.config.yaml_text import MOST_YAML, parse_yaml
from uresnet.core.choices import PACKAGED_CONFIGURATIONS
from uresnet.core.reading import read_text
from uresnet.errors import UserError, quoted

Built = TypeVar("Built")


def load_config(path: Path | str) -> Config:
    """Read a YAML file, or the packaged configuration of that name. Raises :class:`UserError` for a file or a value
    that does not fit, naming the key."""
    found = Path(path)
    if not found.suffix and not found.exists():
        if str(path) not in PACKAGED_CONFIGURATIONS:
            raise UserError(
                f"There is no configuration {quoted(path)}; choose from {', '.join(PACKAGED_CONFIGURATIONS)}, or give "
                "a YAML file."
            )
        found = PACKAGED_CONFIGURATIONS[str(path)]
    return config_from_dict(_tree(found), str(path))


def load_cluster(path: Path | str) -> ClusterConfig:
    """Read what to ask Slurm for. Raises as :func:`load_config`."""
    return _build(ClusterConfig, _tree(Path(path)), str(path), "")


def _tree(path: Path) -> Any:
    try:
        tree = parse_yaml(read_text(path, MOST_YAML))
    except OSError as error:
        raise UserError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except ValueError as error:
        raise UserError(f"{path} is not YAML that a configuration may hold: {quoted(str(error), 200)}.") from error
    return {} if tree is None else tree


def config_from_dict(tree: Any, where: str = "the configuration") -> Config:
    """Build a :class:`Config` from nested dictionaries, as YAML and JSON give them."""
    return _build(Config, tree, where, "")


def model_config_from_dict(tree: Any, where: str = "the configuration") -> ModelConfig:
    """Build a :class:`ModelConfig` alone, as checkpoints hold it."""
    return _build(ModelConfig, tree, where, "model")


def segmenter_config_from_dict(tree: Any, where: str = "the configuration") -> SegmenterConfig:
    """Build a :class:`SegmenterConfig`, as model files hold it."""
    return _build(SegmenterConfig, tree, where, "model")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain dictionaries and lists, for YAML or JSON."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def conform_spec_from_dict(tree: Any, where: str) -> ConformSpec:
    """Build a :class:`ConformSpec`, as model files and prepared data hold it."""
    return _build(ConformSpec, tree, where, "conform")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _build(kind: type[Built], tree: Any, where: str, key: str) -> Built:
    """An instance of the dataclass ``kind`` from the mapping ``tree``; ``where`` and ``key`` name it in errors."""
    if not isinstance(tree, dict):
        raise UserError(f"{where}: {key or 'the file'} must be a mapping of names to values.")
    hints = typing.get_type_hints(kind)  # the ranges of numbers are checked by the dataclasses themselves
    unknown = [name for name in tree if name not in hints]
    if unknown:
        raise UserError(f"{where}: unknown key '{quoted(_join(key, unknown[0]))}'; known are {', '.join(hints)}.")
    values = {name: _convert(hints[name], value, where, _join(key, name)) for name, value in tree.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(f"{where}: {quoted(str(error), 200)}.") from error


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    """``value`` as the type ``hint`` of a dataclass's field. Only whole numbers and text become floats."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast("type[Any]", hint), value, where, key)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(kind for kind in arguments if kind is not type(None)), value, where, key)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        if arguments[-1] is not Ellipsis and len(value) != len(arguments):
            raise UserError(f"{where}: {key} must be a list of {len(arguments)}, not of {len(value)}.")
        return tuple(_convert(arguments[0], item, where, f"{key}[{n}]") for n, item in enumerate(value))
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except (ValueError, OverflowError):
            pass
    if hint in (int, bool, str) and type(value) is hint:
        return value
    wanted = f"one of {', '.join(map(str, arguments))}" if origin is Literal else _type_name(hint)
    raise UserError(f"{where}: {key} must be {wanted}, not {quoted(repr(value))}.")


def _type_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, "a list")


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
