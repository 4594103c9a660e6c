"""The device and the number of threads that a caller names, checked before any work: a wrong one would fail only in the
middle."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from uresnet.errors import UserError, warn_about_input


def chosen_device(name: str) -> str:
    """The device that ``name`` means: "auto" is a CUDA GPU if there is one, else the CPU. Raises :class:`UserError` as
    :func:`check_device`. Loads torch."""
    check_device(name)
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


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
    """The same as far as it can be said without torch."""
    if re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", name) is None:
        raise UserError(f"There is no device {name[:50]}; choose auto, cpu, cuda, cuda:N or mps.")


def available_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def possible_threads(threads: int | None) -> int | None:
    """As many as were asked for, but no more than there are cores, which is warned about: threads that share a core
    wait for each other. None: as many as PyTorch takes."""
    cores = available_cores()
    if threads is None or threads <= cores:
        return threads
    warn_about_input(f"{threads} threads are more than there are cores; limited to {cores}.")
    return cores


@contextmanager
def computing_threads(threads: int | None) -> Iterator[None]:
    """Within it, PyTorch and our own loops use so many threads; None leaves them as they are. Loads torch."""
    if threads is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
