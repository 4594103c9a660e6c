"""Stages are timed and reported once; warnings become sentences."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import uresnet
from uresnet.errors import InputWarning
from uresnet.pipeline.progress import Stages, collected_warnings


def test_a_stage_is_reported_when_it_starts_and_when_it_ends() -> None:
    told: list[tuple[str, float | None]] = []
    stages = Stages(lambda name, seconds: told.append((name, seconds)))
    with stages("read"):
        assert told == [("read", None)]
    assert told[1][0] == "read" and told[1][1] is not None and told[1][1] >= 0
    with stages("read"):
        pass
    assert list(stages.seconds) == ["read"]
    assert stages.seconds["read"] == pytest.approx(sum(spent or 0 for _, spent in told), abs=2e-3)


def test_our_warnings_become_sentences_once_and_others_pass_through() -> None:
    sentences: list[str] = []
    with pytest.warns(UserWarning, match="not ours") as passed, collected_warnings(sentences):
        for _ in range(2):
            warnings.warn("the header was repaired.", InputWarning, stacklevel=1)
        warnings.warn("not ours", UserWarning, stacklevel=1)
    assert sentences == ["the header was repaired."]
    assert len(passed) == 1


def test_progress_loads_no_torch() -> None:
    code = "import sys, uresnet.pipeline.progress; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(uresnet.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, env=environment
    )
    assert done.stdout.strip() == "False"
