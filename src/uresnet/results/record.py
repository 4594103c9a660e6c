"""The record of a run: what ran on what, how long each stage took, what was assumed; made for ``run.json``."""

from __future__ import annotations

import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from uresnet import __version__
from uresnet.errors import InputWarning

Progress = Callable[[str, float | None], None]
"""Told the name of a stage when it starts, with None, and again when it ends, with its seconds."""


def silent(stage: str, seconds: float | None) -> None:
    """The progress of those who do not watch."""


@dataclass
class Stages:
    """Times the stages of a run and tells ``progress`` of each."""

    progress: Progress = silent
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.progress(name, None)
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)
        self.progress(name, spent)


@contextmanager
def collected_warnings(into: list[str]) -> Iterator[None]:
    """Puts the sentences of our own warnings into a list, each once; other people's warnings pass through."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", InputWarning)
        yield
    for one in caught:
        if issubclass(one.category, InputWarning):
            if str(one.message) not in into:
                into.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def environment() -> dict[str, Any]:
    """Versions of uresnet, of Python and of the packages that decide the numbers, and the machine."""
    packages = ("torch", "numpy", "scipy", "nibabel", "h5py", "safetensors", "deepbet")
    return {
        "uresnet": __version__,
        "python": platform.python_version(),
        **{name: found for name in packages if (found := _installed(name))},
        "platform": platform.platform(),
    }


def now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def to_json(record: dict[str, Any]) -> str:
    """The text of ``run.json``."""
    return json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
