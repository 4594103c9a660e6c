"""Whether the reference is computed: slowly, without what is faster and gives almost the same numbers.

One switch for a whole computation. Who has a faster way asks :func:`is_exact` and, where it is, takes PyTorch's own
operations (:mod:`uresnet.core.ops`), all voxels and every digit. The reference is defined on the CPU in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from uresnet.errors import UserError

_exact: ContextVar[bool] = ContextVar("exact", default=False)


@contextmanager
def computed_exactly(wanted: bool = True) -> Iterator[None]:
    """While the block lasts, this thread, and those of :class:`uresnet.core.threads.Pool`, compute the reference."""
    token = _exact.set(wanted)
    try:
        yield
    finally:
        _exact.reset(token)


def is_exact() -> bool:
    """Whether the reference is computed."""
    return _exact.get()


def exact_device(device: str) -> str:
    """The device of the reference. Raises :class:`UserError` where the caller names another one."""
    if device not in ("auto", "cpu"):
        raise UserError(f"Exact results are computed on the CPU, not on {device[:50]}; leave the device out.")
    return "cpu"
