"""Limits of the system on memory: told before any work begins, and recognised when they are met."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

from uresnet.errors import UserError

LEAST_BYTES = 2_500_000_000
"""Address space that torch and the libraries of linear algebra take before the first image. With less they do not fail
but abort, or try for ever to get what they are refused."""

_OPTIONS = {"trim_threshold": -1, "top_pad": -2, "mmap_threshold": -3, "mmap_max": -4, "arena_max": -8}
"""M_… in glibc's malloc.h."""

_MOST_KEPT_BYTES = 900_000_000  # where a step ends; new memory costs a second or two for each GB

_LOCK = Lock()
_kept: list[bool] = []  # one for each block, or caller, that keeps what is freed

_WORDS = r"out of memory|can't allocate memory|cannot allocate memory|std::bad_alloc|failed to map segment"


def check_memory_limit() -> None:
    """Raises :class:`UserError` where this process may use too little memory (``ulimit -v``, ``-d``) to begin with."""
    limit = _memory_limit()
    if limit is not None and limit < LEAST_BYTES:
        raise UserError(
            f"This process may use only {limit / 1e9:.1f} GB of memory, and needs {LEAST_BYTES / 1e9:.1f} GB to "
            "begin with; raise the limit (ulimit -v, ulimit -d)."
        )


def _memory_limit() -> int | None:
    """Bytes of memory that this process may use; None for any number."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    finite = [limit for limit in limits if limit != resource.RLIM_INFINITY]
    return min(finite, default=None)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, says that memory ran out, in the words of Python, torch, CUDA or Numba."""
    known: BaseException | None = error
    while known is not None:
        if isinstance(known, MemoryError) or re.search(_WORDS, str(known), re.IGNORECASE):
            return True
        known = known.__cause__ or known.__context__
    return False


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """While this block runs, the C library reuses large blocks instead of returning each to the system, which has to
    clear them again; at the end of the outermost block all are returned, and at the end of an inner one if they are
    many (:func:`return_freed_memory`).

    On a CPU this halves the time of a network whose feature maps are large. Nothing happens elsewhere than on glibc, or
    where memory is limited: there OpenBLAS would try for ever to get what it is refused.
    """
    if _memory_limit() is not None:
        yield
        return
    keep_freed_memory()
    try:
        yield
    finally:
        with _LOCK:
            _kept.pop()
            if not _kept:
                _set(mmap_max=2**16)  # as it is by default; the threshold is what the library would have come to
                _set(mmap_threshold=2**25, trim_threshold=2**26, top_pad=2**17, arena_max=0)
        return_freed_memory()


def keep_freed_memory() -> None:
    """As :func:`freed_memory_kept`, until the process ends."""
    if _memory_limit() is not None:
        return
    with _LOCK:
        _kept.append(True)
        if len(_kept) == 1:
            # One heap for all threads: what one has freed is of use to the others.
            _set(arena_max=1, mmap_max=0, trim_threshold=2**31 - 1, top_pad=2**26)


class _Heap(ctypes.Structure):
    """``struct mallinfo2`` of glibc's malloc.h: ``fordblks``, the bytes that were freed, between the others."""

    _fields_ = (("before", ctypes.c_size_t * 8), ("freed", ctypes.c_size_t), ("after", ctypes.c_size_t))


def return_freed_memory(also_kept: bool = False) -> None:
    """Gives back to the system what was freed; where it is kept, only if ``also_kept``, or if it is more than 0.9 GB:
    what a next step needs may lie elsewhere, and both would be counted."""
    trim = _c_function("malloc_trim")
    if trim is not None and (also_kept or not _kept or _freed_bytes() > _MOST_KEPT_BYTES):
        trim(0)


def _freed_bytes() -> int:
    """What the C library keeps; 0 where it does not tell (before glibc 2.33)."""
    heap = _c_function("mallinfo2")
    if heap is None:
        return 0
    heap.restype = _Heap
    return int(heap().freed)


def _set(**options: int) -> None:
    mallopt = _c_function("mallopt")
    if mallopt is not None:
        for name, value in options.items():
            mallopt(_OPTIONS[name], value)


def _c_function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError, TypeError):
        return None
