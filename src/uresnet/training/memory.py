"""What to change when a training does not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from uresnet.config import Config
from uresnet.errors import UserError


@contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Turns running out of memory into a :class:`UserError` that says which settings to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(config) from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "allocate memory" in str(error):
            raise _too_large(config) from error
        raise


def _too_large(config: Config) -> UserError:
    t, changes = config.training, []
    if t.batch_size > 1:
        changes.append(f"training.batch_size below {t.batch_size} (with training.accumulate as many times higher)")
    if t.precision == "fp32":
        changes.append("training.precision: bf16")
    if config.segmenter:
        changes.append("smaller blocks.shape")
    else:
        if config.losses.downsampling == 1:
            changes.append("losses.downsampling: 2")
        changes.append("a first stage on coarser voxels (training.stages with downsampling: 2)")
    return UserError(f"There is not enough memory for this training; try {', '.join(changes)}.")
