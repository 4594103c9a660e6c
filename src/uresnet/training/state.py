"""The state of a training on disk, from which it can be resumed.

It is a safetensors file, written beside its place, flushed to the disk and renamed: the process may be killed or the
disk may fill up at any moment, and the last good file remains.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from uresnet.config import Config, to_dict
from uresnet.core.files import written_whole
from uresnet.errors import UserError

_MEAN = "mean/"

STATE = "last.resume.safetensors"
"""The file in a run's folder from which a training is resumed."""

NOT_COMPARED = ("data", "training.max_minutes", "training.validate_every_minutes", "training.checkpoint_every_minutes")
"""Settings that may change when a training is resumed; any other would make it a different training."""


@dataclass
class Progress:
    """Where a training stands: what resuming needs beside the weights and the optimiser's state."""

    step: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best: float = -1.0
    processes: int = 1


@dataclass(frozen=True)
class Networks:
    """The network that is trained and, if weights are averaged, the one that holds their mean."""

    learning: nn.Module
    mean: nn.Module | None = None


def write_state(
    path: Path, networks: Networks, optimiser: torch.optim.Optimizer, progress: Progress, config: Config
) -> Path:
    """Write everything that a training needs to continue as if it had not been stopped."""
    tensors = dict(networks.learning.state_dict())
    if networks.mean is not None:
        tensors |= {f"{_MEAN}{key}": value for key, value in networks.mean.state_dict().items()}
    for key, parameter in networks.learning.named_parameters():
        for moment, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{moment}/{key}"] = value
    metadata = {"config": json.dumps(to_dict(config)), "progress": json.dumps(vars(progress))}
    return write_tensors(path, tensors, metadata)


def read_state(path: Path, networks: Networks, optimiser: torch.optim.Optimizer, config: Config) -> Progress:
    """Set networks and optimiser to a written state, and return its progress.

    Raises :class:`UserError` for a file that is not a state, or is that of another network or configuration.
    """
    tensors, metadata = read_tensors(path)
    try:
        before, stored = json.loads(metadata["config"]), json.loads(metadata["progress"])
        progress = Progress(**{field.name: stored[field.name] for field in fields(Progress)})
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not the state of a training; resume from a last.resume.safetensors.") from error
    try:
        networks.learning.load_state_dict({key: value for key, value in tensors.items() if "/" not in key})
        if networks.mean is not None:
            mean = {key.removeprefix(_MEAN): value for key, value in tensors.items() if key.startswith(_MEAN)}
            networks.mean.load_state_dict(mean)
    except RuntimeError as error:
        raise UserError(f"{path} is the state of another network; resume with the configuration it has.") from error
    for name, then, now in _differences(before, to_dict(config)):
        raise UserError(
            f"{path} was trained with {name} = {then}, the configuration says {now}; "
            "resume with the configuration it has, or start a new training in another folder."
        )
    for key, parameter in networks.learning.named_parameters():
        moments = {name.split("/")[0]: value for name, value in tensors.items() if name.endswith(f"/{key}")}
        moments.pop(_MEAN.rstrip("/"), None)
        if moments:
            optimiser.state[parameter] = {name: _as_laid_out(value, parameter) for name, value in moments.items()}
    return progress


def _as_laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """A copy in the parameter's order in memory, on which the last bits of sums depend."""
    if value.shape == parameter.shape:
        return torch.empty_like(parameter).copy_(value)
    # Counts of updates stay on the CPU.
    return value.to(parameter.device, copy=True) if value.ndim else value.clone()


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any, Any]]:
    """(key, then, now) of every setting that must not change but did; keys that one side lacks are not compared."""
    for key in sorted(before.keys() & now.keys()):
        name = f"{prefix}{key}"
        if isinstance(now[key], dict) and isinstance(before[key], dict):
            yield from _differences(before[key], now[key], f"{name}.")
        elif name not in NOT_COMPARED and before[key] != now[key]:
            yield name, before[key], now[key]


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write safetensors whole or not at all, flushed to the disk. Raises :class:`UserError` if it cannot."""
    content = save({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, metadata)
    with written_whole(path) as beside, beside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return path


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file. Raises :class:`UserError` when it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"Cannot read the checkpoint {path}; resume from another, or start a new training.") from error
