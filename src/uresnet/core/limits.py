"""Limits of the system on memory: told before any work begins, and recognised when they are met."""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress

from uresnet.errors import UserError

LEAST_BYTES = 2_500_000_000
"""Address space that torch and the libraries of linear algebra take before the first image. With less they do not fail
but abort, or try for ever to get what they are refused."""

_WORDS = r"out of memory|can't allocate memory|cannot allocate memory|std::bad_alloc|failed to map segment"


def check_memory_limit() -> bool:
    """Whether this process may use only so much memory (``ulimit -v``, ``ulimit -d``).

    Raises :class:`UserError` where that is too little to begin with.
    """
    try:
        import resource
    except ImportError:  # Windows
        return False
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    if finite and min(finite) < LEAST_BYTES:
        raise UserError(
            f"This process may use only {min(finite) / 1e9:.1f} GB of memory, and needs {LEAST_BYTES / 1e9:.1f} GB to "
            "begin with; raise the limit (ulimit -v, ulimit -d)."
        )
    return bool(finite)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that memory ran out, in the words of Python, torch, CUDA or Numba."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, MemoryError) or re.search(_WORDS, str(known), re.IGNORECASE):
            return True
        known = known.__cause__ or known.__context__
    return False


def keep_freed_memory() -> None:
    """Asks the C library to reuse large blocks instead of returning each to the system, which has to clear them again.

    On a CPU this halves the time of a network whose feature maps are large. Elsewhere than on glibc nothing happens.
    """
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # M_… in malloc.h
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(top_pad, 2**26)
