"""Work beside the main thread that an error, Ctrl-C or SIGTERM does not wait for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager


@contextmanager
def background_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of ``count`` threads, which are waited for when the block ends well.

    Where the block raises, what has not begun is left out, and nobody waits for what has: a thread may wait for a lock
    (of an import, of Numba's compiler) that the main thread held when the signal came.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()
