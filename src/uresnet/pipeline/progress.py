"""The stages of a run, timed and reported in one place, and the warnings of a run as sentences. Loads no torch."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from uresnet.core.limits import return_freed_memory
from uresnet.errors import InputWarning

Progress = Callable[[str, float | None], None]
"""Receives the name of a stage with None when the stage starts, and with its seconds when it ends."""


def silent(stage: str, seconds: float | None) -> None:
    """The progress of a caller who does not watch."""


@dataclass
class Stages:
    """Times the stages of a run and reports each to ``progress``; ``seconds`` are by stage."""

    progress: Progress = silent
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.progress(name, None)
        start = time.perf_counter()
        return_freed_memory()
        yield
        spent = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
        self.progress(name, spent)


@contextmanager
def collected_warnings(into: list[str]) -> Iterator[None]:
    """Puts the sentences of our own warnings into a list, each once; other warnings pass through."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        yield
    for warning in caught:
        if not issubclass(warning.category, InputWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif str(warning.message) not in into:
            into.append(str(warning.message))
