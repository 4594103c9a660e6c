"""What changes over a training: the learning rate, and the stage."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uresnet.config import Stage, TrainingConfig


def learning_rate(config: TrainingConfig, fraction: float, step: int) -> float:
    """The rate at ``fraction`` of the training: halved at equal distances, or half a cosine; after a linear warm-up."""
    if config.schedule == "cosine":
        rate = config.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
    else:
        rate = config.learning_rate * 0.5 ** min(config.halvings, math.floor(fraction * (config.halvings + 1)))
    return rate * min(1.0, (step + 1) / (config.warmup_steps + 1))


def stage_at(stages: Sequence[Stage], fraction: float) -> Stage:
    """The stage that ``fraction`` of the training belongs to."""
    end = 0.0
    for stage in stages:
        end += stage.fraction
        if fraction < end - 1e-9:
            return stage
    return stages[-1]
