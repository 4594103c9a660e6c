"""Compiles loops over voxels with Numba and runs them in several threads.

A kernel stands in one file with every kernel that it calls: Numba's cache on disk notices that a kernel's own file has
changed, but not that another has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache
from numba.core.registry import cpu_target

_PIECES = 4  # for each thread, so that no thread waits long for the last
_WORTHWHILE = 50_000  # voxels; with fewer, threads take longer to start than to work
_PATIENCE_S = 30.0  # with another process that compiles the same: many times what a kernel takes


def compiler(fastmath: set[str]) -> Callable[[Callable[..., Any]], Any]:
    """A decorator that compiles a kernel at its first call and keeps the result on disk.

    ``fastmath`` names the liberties that LLVM may take with sums (none: the same bits as the source says). It is given
    where the kernel stands, so that a change of it changes the kernel's file. A function whose name begins with an
    underscore is called by kernels only: it is kept as a part of them, and gets no way in for Python.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "no_cfunc_wrapper": True}

    def compiled(function: Callable[..., Any]) -> Any:
        if function.__name__.startswith("_"):
            inner: dict[str, Any] = {"no_cpython_wrapper": True}
            return numba.njit(**inner, **options)(function)
        kernel = numba.njit(**options)(function)
        with suppress(RuntimeError):  # neither this folder nor the user's cache can be written: compiled in every run
            kernel._cache = _Cache(function)
        return kernel

    return compiled


_Untyped: Any = FunctionCache


class _Cache(_Untyped):  # type: ignore[misc]
    """Numba's cache on disk, where one process at a time compiles a kernel: the others wait for what it writes."""

    _lock: int | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is on disk, which another process may be about to write; None if this one has to compile it."""
        found = super().load_overload(sig, target_context)
        if found is None:
            self._wait()
            found = super().load_overload(sig, target_context)
            if found is not None:
                self._release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write what this process has compiled, which holds for this process alone where the disk is full."""
        with suppress(OSError):
            super().save_overload(sig, data)
        self._release()

    def has(self, sig: Any) -> bool:
        """Whether it is on disk for these types of arguments and this processor."""
        key = self._index_key(sig, cpu_target.target_context.codegen())
        return key in self._cache_file._load_index()

    def _wait(self) -> None:
        """Until no other process compiles the kernel; from then on this one does."""
        try:
            import fcntl
        except ImportError:  # Windows: every process compiles
            return
        until = time.monotonic() + _PATIENCE_S
        with suppress(OSError):  # a file system without locks
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR, 0o666)
            while time.monotonic() < until:
                with suppress(BlockingIOError):
                    fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                time.sleep(0.01)

    def _release(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock_path.unlink()
            os.close(self._lock)
            self._lock = None

    @property
    def _lock_path(self) -> Path:
        return Path(self.cache_path) / f"{Path(self._py_func.__code__.co_filename).stem}.{self._py_func.__name__}.lock"


def is_on_disk(kernel: Any, types: Any) -> bool:
    """Whether a kernel is kept on disk for arguments of these ``types`` and this processor, which takes much less than
    loading it; True also where nothing can be kept."""
    kept = getattr(kernel, "_cache", None)
    return not isinstance(kept, _Cache) or kept.has(types)


def in_parallel(kernel: Callable[..., Any], count: int, *arguments: Any, each: int = 1, pieces: int = _PIECES) -> None:
    """Run ``kernel(*arguments, start, stop)`` over ranges that cover ``count``, ``pieces`` for each thread.

    There are as many threads as PyTorch would use. ``each`` is the number of voxels in one of ``count``.
    """
    import torch  # here, since compiling alone needs no torch

    threads = torch.get_num_threads()
    if threads == 1 or count * each < _WORTHWHILE:
        kernel(*arguments, 0, count)
        return
    edges = np.linspace(0, count, min(count, pieces * threads) + 1).astype(int).tolist()
    running = [_pool(threads, os.getpid()).submit(kernel, *arguments, *edge) for edge in pairwise(edges)]
    for future in running:
        future.result()


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: every process has its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="uresnet")
