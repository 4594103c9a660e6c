"""Several processes that train one network together, started by ``torchrun``; one process is the smallest case."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn


@dataclass(frozen=True)
class Team:
    """This process is number ``rank`` of ``size``. The first one reports and writes; all hold the same weights."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that reports and writes."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; a parameter without one counts as zero."""
        if self.size == 1:
            return
        trained = [p for p in parameters if p.requires_grad]
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in trained])
        distributed.all_reduce(flat)
        flat /= self.size
        for p, part in zip(trained, torch.split(flat, [p.numel() for p in trained]), strict=True):
            p.grad = part.view(p.shape).to(p.dtype)

    def average(self, values: dict[str, Tensor]) -> dict[str, float]:
        """Means over the processes of scalars that all of them have under the same names."""
        if self.size == 1:
            return {name: float(value) for name, value in values.items()}
        stacked = torch.stack([value.detach().float() for value in values.values()])
        distributed.all_reduce(stacked)
        return dict(zip(values, (stacked / self.size).tolist(), strict=True))

    def agreed(self, *values: float) -> tuple[float, ...]:
        """The first process's values, in every process: clocks differ, decisions by the clock must not."""
        if self.size == 1:
            return values
        shared: list[tuple[float, ...]] = [values]
        distributed.broadcast_object_list(shared, src=0)
        return shared[0]

    def gathered(self, own: Sequence[Any]) -> list[Any]:
        """What all processes have, process by process, in every process."""
        if self.size == 1:
            return list(own)
        found: list[Any] = [None] * self.size
        distributed.all_gather_object(found, list(own))
        return [item for part in found for item in part]


def join_team(device: torch.device | str) -> Team:
    """Join the processes that ``torchrun`` started (gloo on CPUs, NCCL on GPUs); without it, a team of one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.device(device).type == "cuda" else "gloo")
    return Team(distributed.get_rank(), size)


def leave_team() -> None:
    """Leave the other processes, if there are any."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
