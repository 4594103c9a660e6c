"""A first run compiles beside what it does, where that helps, and leaves nothing running."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from uresnet.core import first_run


@pytest.fixture
def cold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cores, and an empty folder for what is compiled."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(first_run, "available_cores", lambda: 2)
    monkeypatch.setattr(first_run, "is_on_disk", lambda *_: False)
    monkeypatch.setattr(first_run, "_started", [])
    return tmp_path


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_it_compiles_in_the_order_of_use_and_ends_with_the_command(cold: Path) -> None:
    assert first_run.compile_beside()
    (beside,) = first_run._started
    wait_for(lambda: any(cold.rglob("*.nbc")))
    assert [file.name.split("-")[0] for file in cold.rglob("*.nbc")] == ["interpolation.affine_positions"]
    assert beside.stdin is not None
    beside.stdin.close()  # as the system does when the command ends, however it ends
    assert beside.wait(timeout=60) == 1


@pytest.mark.parametrize("why", ["on disk", "one core", "one thread"])
def test_where_it_would_not_help_nothing_is_started(why: str, cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if why == "on disk":
        monkeypatch.setattr(first_run, "is_on_disk", lambda *_: True)
    elif why == "one core":
        monkeypatch.setattr(first_run, "available_cores", lambda: 1)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert first_run.compile_beside() is (why != "on disk")
    assert first_run._started == []


def test_where_no_process_may_be_started_the_command_goes_on(cold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refused)
    assert first_run.compile_beside()
    assert first_run._started == []
