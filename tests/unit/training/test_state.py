"""The state of a training on disk: whole whatever happens, and refused where it does not belong."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path

import pytest

from small_training import LOSSES, assert_identical, config, trainer, weights
from uresnet.config import ModelConfig
from uresnet.errors import UserError
from uresnet.model.checkpoint import load_model
from uresnet.training.state import STATE


def test_a_state_of_another_network_is_refused(tmp_path: Path) -> None:
    trainer(config(), tmp_path).save_state()
    other = dataclasses.replace(config(), model=ModelConfig(channels=(4, 8)))
    with pytest.raises(UserError, match="another network"):
        trainer(other, tmp_path / "b").resume(tmp_path / STATE)


def test_a_state_of_another_configuration_is_refused_and_names_what_differs(tmp_path: Path) -> None:
    trainer(config(), tmp_path).save_state()
    other = dataclasses.replace(config(), losses=dataclasses.replace(LOSSES, alpha=0.0))
    with pytest.raises(UserError, match=r"losses\.alpha = 0\.1, the configuration says 0\.0"):
        trainer(other, tmp_path / "b").resume(tmp_path / STATE)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all"])
def test_a_damaged_state_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / STATE).write_bytes(content)
    with pytest.raises(UserError, match="Cannot read the checkpoint"):
        trainer(config(), tmp_path / "b").resume(tmp_path / STATE)


def test_a_model_is_no_state(tmp_path: Path) -> None:
    trainer(config(), tmp_path).save("best")
    with pytest.raises(UserError, match="not the state of a training"):
        trainer(config(), tmp_path / "b").resume(tmp_path / "best.safetensors")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
def test_a_kill_leaves_whole_files(tmp_path: Path) -> None:
    """Killed while it does nothing but write: whatever has a checkpoint's name can be read."""
    ready, started = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            small = trainer(config(), tmp_path)
            small.save_state()
            os.write(started, b"!")
            while True:
                small.save_state()
        finally:
            os._exit(1)
    os.close(started)
    assert os.read(ready, 1) == b"!"
    os.close(ready)
    os.kill(child, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    again = trainer(config(), tmp_path / "again")
    again.resume(tmp_path / STATE)
    assert_identical(weights(again), weights(trainer(config(), tmp_path / "fresh")))
    load_model(tmp_path / "last.safetensors")
