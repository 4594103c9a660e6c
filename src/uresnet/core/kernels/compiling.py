"""Compiles loops over voxels with Numba and runs them in several threads.

A kernel stands in one file with every kernel that it calls: Numba's cache on disk notices that a kernel's own file has
changed, but not that another has.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch

_PIECES = 4  # for each thread, so that no thread waits long for the last
_WORTHWHILE = 50_000  # voxels; with fewer, threads take longer to start than to work


def compiler(fastmath: set[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that compiles a kernel at its first call and keeps the result on disk.

    ``fastmath`` names the liberties that LLVM may take with sums (none: the same bits as the source says). It is given
    where the kernel stands, so that a change of it changes the kernel's file. A function whose name begins with an
    underscore is called by kernels only: it is kept as a part of them, and gets no way in for Python.
    """
    options: dict[str, Any] = {"nogil": True, "fastmath": fastmath, "no_cfunc_wrapper": True}

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        kernel: Callable[..., Any]
        if function.__name__.startswith("_"):
            inner: dict[str, Any] = {"no_cpython_wrapper": True}
            kernel = numba.njit(**inner, **options)(function)
            return kernel
        try:
            kernel = numba.njit(cache=True, **options)(function)
        except RuntimeError:  # neither this folder nor the user's cache can be written: compiled in every run
            kernel = numba.njit(**options)(function)
        return kernel

    return compiled


def in_parallel(kernel: Callable[..., Any], count: int, *arguments: Any, each: int = 1, pieces: int = _PIECES) -> None:
    """Run ``kernel(*arguments, start, stop)`` over ranges that cover ``count``, ``pieces`` for each thread.

    There are as many threads as PyTorch would use. ``each`` is the number of voxels in one of ``count``.
    """
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
