"""Several processes train as one with a larger batch does; here two of them, over gloo."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from small_training import AUGMENTED, blobs, config, trainer, weights
from uresnet.errors import UserError
from uresnet.training.context import TrainingContext
from uresnet.training.pair_trainer import PairTrainer
from uresnet.training.parallel import Team, join_team
from uresnet.training.state import STATE, read_tensors


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="both processes come from one, so that torch is loaded once")
def test_two_processes_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        textwrap.dedent(f"""
        import dataclasses, os
        from pathlib import Path
        import torch._dynamo  # what an optimiser would load, in each process
        from small_training import AUGMENTED, blobs, config
        from uresnet.training.parallel import join_team, leave_team
        from uresnet.training.context import TrainingContext
        from uresnet.training.pair_trainer import PairTrainer
        rank = 0 if (child := os.fork()) else 1
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank))
        team = join_team("cpu")
        assert team.size == 2
        settings = dataclasses.replace(config(batch_size=1, accumulate=2, epochs=3, clip_norm=1.0), augment=AUGMENTED)
        said = []
        context = TrainingContext(Path({str(tmp_path / "two")!r}), said.append, team)
        trainer = PairTrainer(settings, blobs(4), blobs(3, 9), context)
        assert trainer.run()
        result = trainer.validate()
        if team.leads:
            print("quality", repr(result.quality), len(result.scores))
        assert bool(said) == team.leads
        leave_team()
        if child:
            assert os.waitpid(child, 0)[1] == 0
        """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    environment |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    process = subprocess.run(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert process.returncode == 0, process.stdout
    settings = replace(config(batch_size=2, accumulate=2, epochs=3, clip_norm=1.0), augment=AUGMENTED)
    alone = trainer(settings, tmp_path / "one", validation=3)
    alone.run()
    both, _ = read_tensors(tmp_path / "two" / STATE)
    assert alone.progress.step == 3
    for name, value in weights(alone).items():
        torch.testing.assert_close(both[name], value, rtol=0, atol=1e-4)
    result = alone.validate()
    assert result is not None
    quality, scores = next(line for line in process.stdout.splitlines() if line.startswith("quality")).split()[1:]
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
