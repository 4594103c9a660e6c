"""The steps of one long stage, told to whoever watches them; nobody by default."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Watch = Callable[[int, int], None]
"""Receives how many steps are done, and how many there are."""

_watch: ContextVar[Watch | None] = ContextVar("watch", default=None)
_done: ContextVar[tuple[int, int]] = ContextVar("done", default=(0, 0))


@contextmanager
def watched_steps(watch: Watch) -> Iterator[None]:
    """While the block lasts, ``watch`` is told of each step that this thread takes."""
    token = _watch.set(watch)
    try:
        yield
    finally:
        _watch.reset(token)


def expect_steps(total: int) -> None:
    """So many steps follow."""
    _done.set((0, total))


def step_done() -> None:
    """One of them is done."""
    done, total = _done.get()
    _done.set((done + 1, total))
    watch = _watch.get()
    if watch is not None and done < total:
        watch(done + 1, total)
