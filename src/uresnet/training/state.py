"""What a training leaves on disk: models that ``register`` takes, and the state from which it goes on.

Both are safetensors, written beside their place, forced to the disk, and moved there whole: a kill or a full disk at
any moment leaves the last good file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from uresnet.config import Config, ConformSpec, to_dict
from uresnet.core.files import written_whole
from uresnet.errors import UserError
from uresnet.model.catalogue import METADATA_KEY
from uresnet.model.checkpoint import uresnet_card
from uresnet.model.christodoulidis import PairNetwork

_MEAN = "mean/"

NOT_COMPARED = ("data", "training.max_minutes", "training.validate_every_minutes", "training.checkpoint_every_minutes")
"""What may differ between a training and its continuation; everything else would make it another training."""


@dataclass
class Progress:
    """Where a training stands; all that is needed, beside weights and moments, to go on."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best: float = -1.0
    processes: int = 1


@dataclass(frozen=True)
class Networks:
    """The network that learns and, where weights are averaged, the one that holds their mean."""

    learning: nn.Module
    mean: nn.Module | None = None


@dataclass(frozen=True)
class About:
    """What a model file says beside its weights: its name, how images were conformed, whose data, which licence."""

    name: str = "uresnet"
    conform: ConformSpec = field(default_factory=ConformSpec)
    licence: str = ""
    trained_on: str = ""


def write_model(path: Path, network: PairNetwork, about: About, figures: dict[str, Any], config: Config) -> Path:
    """Write a model file that ``register --model`` takes; ``config`` is kept beside the card.

    A training that ends on blocks of voxels makes a model that sees blocks of voxels.
    """
    side = config.training.stages[-1].downsampling
    card = uresnet_card(
        about.name,
        replace(network.config, affine_translation_scale=network.config.affine_translation_scale / side),
        replace(about.conform, blocks=side, multiple_of=side * about.conform.multiple_of),
        licence=about.licence,
        trained_on=about.trained_on,
        figures=figures,
    )
    metadata = {METADATA_KEY: card.to_json(), "config": json.dumps(to_dict(config))}
    return write_tensors(path, {k: v.float() for k, v in network.state_dict().items()}, metadata)


def write_state(
    path: Path, networks: Networks, optimiser: torch.optim.Optimizer, progress: Progress, config: Config
) -> Path:
    """Write everything that :func:`read_state` needs to go on as if there had been no stop."""
    tensors = dict(networks.learning.state_dict())
    if networks.mean is not None:
        tensors |= {f"{_MEAN}{key}": value for key, value in networks.mean.state_dict().items()}
    for key, parameter in networks.learning.named_parameters():
        for what, value in optimiser.state.get(parameter, {}).items():
            tensors[f"{what}/{key}"] = value
    metadata = {"config": json.dumps(to_dict(config)), "progress": json.dumps(vars(progress))}
    return write_tensors(path, tensors, metadata)


def read_state(path: Path, networks: Networks, optimiser: torch.optim.Optimizer, config: Config) -> Progress:
    """Set networks and optimiser to a written state; returns where it stood.

    Raises :class:`UserError` for a file that is none or is that of another configuration.
    """
    tensors, metadata = read_tensors(path)
    try:
        before, progress = json.loads(metadata["config"]), Progress(**json.loads(metadata["progress"]))
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} is not the state of a training; resume from a last.resume.safetensors.") from error
    try:
        networks.learning.load_state_dict({k: v for k, v in tensors.items() if "/" not in k})
        if networks.mean is not None:
            mean = {k.removeprefix(_MEAN): v for k, v in tensors.items() if k.startswith(_MEAN)}
            networks.mean.load_state_dict(mean)
    except RuntimeError as error:
        raise UserError(f"{path} is a checkpoint of another network; train with the configuration it has.") from error
    for name, then, now in differences(before, to_dict(config)):
        raise UserError(
            f"{path} was trained with {name} = {then}, the configuration says {now}; "
            "resume with the configuration it has, or train anew in another folder."
        )
    for key, parameter in networks.learning.named_parameters():
        found = {name.split("/")[0]: v for name, v in tensors.items() if name.endswith(f"/{key}")}
        found.pop(_MEAN.rstrip("/"), None)
        if found:
            optimiser.state[parameter] = {what: _as_laid_out(v, parameter) for what, v in found.items()}
    return progress


def _as_laid_out(value: Tensor, parameter: Tensor) -> Tensor:
    """In the parameter's order in memory, or at least in memory of its own: sums depend on order and alignment."""
    if value.shape == parameter.shape:
        return torch.empty_like(parameter).copy_(value)
    # Counts of updates stay where they are read.
    return value.to(parameter.device, copy=True) if value.ndim else value.clone()


def differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any, Any]]:
    """(key, then, now) wherever two configurations differ and must not; keys that one lacks are not compared."""
    for key in sorted(before.keys() & now.keys()):
        name = f"{prefix}{key}"
        if isinstance(now[key], dict) and isinstance(before[key], dict):
            yield from differences(before[key], now[key], f"{name}.")
        elif name not in NOT_COMPARED and before[key] != now[key]:
            yield name, before[key], now[key]


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    """Write safetensors whole or not at all. Raises :class:`UserError` when there is no room or no permission."""
    content = save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, metadata)
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
        raise UserError(f"Cannot read the checkpoint {path}; resume from another, or train anew.") from error
