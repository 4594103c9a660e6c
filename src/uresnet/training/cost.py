"""What a training would cost, measured on two updates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from uresnet.core.memory import peak_memory
from uresnet.training.loop import Trainer
from uresnet.training.memory import memory_explained


@dataclass(frozen=True)
class Cost:
    """What a training would need: ``seconds`` per update and ``memory`` (bytes) on the device, both measured. It learns
    from so many ``training_scans``, and from ``other_contrasts`` besides."""

    shape: tuple[int, ...]
    examples_per_update: int
    updates: int | None
    weights: int
    training_scans: int
    validation_scans: int
    seconds: float
    memory: int | None
    other_contrasts: int = 0


def measure_cost(trainer: Trainer[Any]) -> Cost:
    """Two updates, of which the second is timed; nothing is written."""
    with memory_explained(trainer.config):
        trainer.step()
        _wait_for(trainer.device)
        start = time.perf_counter()
        trainer.step()
        _wait_for(trainer.device)
    seconds = time.perf_counter() - start
    training, validation = trainer.scans
    others = trainer.context.extras.others
    return Cost(
        shape=trainer.shape,
        examples_per_update=trainer.examples_per_update,
        updates=trainer.updates,
        weights=sum(p.numel() for p in trainer.network.parameters()),
        training_scans=training,
        validation_scans=validation,
        seconds=seconds,
        memory=peak_memory(trainer.device),
        other_contrasts=0 if others is None else len(others.scans),
    )


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
