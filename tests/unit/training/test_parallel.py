"""Several processes train as one with a larger batch does; here two of them, over gloo."""

from __future__ import annotations

import faulthandler
import importlib
import os
import socket
import traceback
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from small_training import AUGMENTED, blobs, config, trainer, weights
from uresnet.errors import UserError
from uresnet.training.context import TrainingContext
from uresnet.training.events import Event
from uresnet.training.pair_trainer import PairTrainer
from uresnet.training.parallel import Team, join_team, leave_team
from uresnet.training.state import STATE, read_tensors


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start_member(rank: int, port: int, folder: Path) -> int:
    """One of two processes that train, as ``torchrun`` would start it: a copy of this process; its number."""
    child = os.fork()
    if child == 0:
        try:
            faulthandler.dump_traceback_later(300, exit=True)
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2")
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            torch.set_num_threads(1)  # threads of the first process do not live on in a copy
            train_as_member(folder)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def train_as_member(folder: Path) -> None:
    team = join_team("cpu")
    assert team.size == 2
    settings = replace(config(batch_size=1, accumulate=2, epochs=3, clip_norm=1.0), augment=AUGMENTED)
    said: list[Event] = []
    pair_trainer = PairTrainer(settings, blobs(4), blobs(3, 9), TrainingContext(folder / "two", said.append, team))
    assert pair_trainer.run()
    result = pair_trainer.validate()
    assert result is not None
    if team.leads:
        (folder / "quality").write_text(f"{result.quality!r} {len(result.scores)}")
    assert bool(said) == team.leads
    leave_team()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="both processes come from this one, which has loaded torch")
def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    importlib.import_module("torch._dynamo")  # each process's optimiser would take seconds to load it
    children = [start_member(rank, port, tmp_path) for port in [free_port()] for rank in range(2)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    settings = replace(config(batch_size=2, accumulate=2, epochs=3, clip_norm=1.0), augment=AUGMENTED)
    alone = trainer(settings, tmp_path / "one", validation=3)
    alone.run()
    both, _ = read_tensors(tmp_path / "two" / STATE)
    assert alone.progress.step == 3
    for name, value in weights(alone).items():
        torch.testing.assert_close(both[name], value, rtol=0, atol=1e-4)
    result = alone.validate()
    assert result is not None
    quality, scores = (tmp_path / "quality").read_text().split()
    assert int(scores) == len(result.scores) == 6
    assert float(quality) == pytest.approx(result.quality, abs=1e-3)


def test_alone_there_is_nothing_to_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    team = join_team("cpu")
    assert team == Team(0, 1)
    assert team.leads
    assert team.agreed(1.5, 2.0) == (1.5, 2.0)
    assert team.gathered([3, 4]) == [3, 4]
    assert team.average({"a": torch.tensor(2.0)}) == {"a": 2.0}


def test_a_state_of_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    trainer(config(), tmp_path).save_state()
    two = PairTrainer(config(), blobs(4), None, TrainingContext(tmp_path, team=Team(0, 2)))
    with pytest.raises(UserError, match="by 1 processes, now there are 2"):
        two.resume(tmp_path / STATE)
