"""Work beside the main thread that an error, Ctrl-C or SIGTERM does not wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any


class Pool(ThreadPoolExecutor):
    """A pool of threads in which each task knows the context (:mod:`contextvars`) of the thread that submitted it."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        """As that of every executor."""
        return super().submit(copy_context().run, function, *arguments, **named)


@contextmanager
def background_threads(count: int) -> Iterator[Pool]:
    """A pool of ``count`` threads, which are waited for when the block ends well.

    Where the block raises, what has not begun is left out, and nobody waits for what has: a thread may wait for a lock
    (of an import, of Numba's compiler) that the main thread held when the signal came.
    """
    pool = Pool(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
