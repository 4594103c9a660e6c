"""The device that a caller names, checked before any work: it would fail only in the middle."""

from __future__ import annotations

import re

from uresnet.errors import UserError


def check_device(name: str) -> None:
    """Raises :class:`UserError` for a device that does not exist or is not here. Loads torch."""
    check_device_name(name)
    import torch

    kind, _, number = name.partition(":")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(f"{name} is not here: {torch.cuda.device_count()} CUDA devices are visible; try --device cpu.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("mps is not available on this computer; try --device cpu.")


def check_device_name(name: str) -> None:
    """The same as far as it can be said without torch. "auto" is for the command to decide."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name) is None:
        raise UserError(f"There is no device {name[:50]}; choose auto, cpu, cuda, cuda:N or mps.")
