"""The optimisation on sets so small that a CPU needs seconds: it learns, stops, goes on, and loses nothing."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import AUGMENTED, assert_identical, blobs, config, trainer, weights
from uresnet.config import Stage
from uresnet.errors import UserError
from uresnet.model.checkpoint import load_model
from uresnet.training.context import TrainingContext
from uresnet.training.events import CheckpointFailed, Event, StepDone
from uresnet.training.pair_trainer import PairTrainer
from uresnet.training.parallel import Team
from uresnet.training.state import STATE, read_tensors


def test_the_loss_falls(tmp_path: Path) -> None:
    small = trainer(config(epochs=15, schedule="cosine"), tmp_path)
    before = small.validate()
    totals = []
    while small.fraction() < 1:
        totals.append(small.step()["total"])
    after = small.validate()
    assert before is not None
    assert after is not None
    assert len(totals) == 60
    assert np.mean(totals[-10:]) < np.mean(totals[:10]) - 0.3
    assert after.quality > before.quality + 0.1


@pytest.mark.parametrize("more", [{}, {"optimiser": "soap", "averaging": 0.9}], ids=["adam", "soap"])
def test_resuming_gives_the_same_bits(tmp_path: Path, more: dict) -> None:
    common = {"accumulate": 2, "epochs": 4, "clip_norm": 1.0, "schedule": "cosine"}
    settings = dataclasses.replace(config(**common, **more), augment=AUGMENTED)
    whole = trainer(settings, tmp_path / "whole")
    whole.run()
    for stop_after in (1, 5):
        first = trainer(settings, tmp_path / "parts")
        stops = iter([False] * (stop_after - 1))
        assert not first.run(stop=lambda stops=stops: next(stops, True))  # type: ignore[misc]
        assert first.progress.step == stop_after
        second = trainer(settings, tmp_path / "parts")
        second.resume(tmp_path / "parts" / STATE)
        assert second.run()
        assert second.progress.step == whole.progress.step == 8
        assert_identical(weights(whole), weights(second))
        for expected, found in zip(whole.judged.parameters(), second.judged.parameters(), strict=True):
            assert torch.equal(expected, found)


def test_two_stages_train_on_coarser_voxels_first(tmp_path: Path) -> None:
    events: list[Event] = []
    settings = config(epochs=2, stages=(Stage(2, 0.5), Stage(1, 0.5)))
    small = PairTrainer(settings, blobs(4), None, TrainingContext(tmp_path, events.append, report_every=1))
    small.run()
    assert [e.downsampling for e in events if isinstance(e, StepDone)] == [2, 2, 2, 1, 1, 1, 1, 1]


def test_a_training_by_epochs_has_so_many_updates(tmp_path: Path) -> None:
    assert trainer(config(epochs=3, batch_size=2), tmp_path).updates == 6
    assert trainer(config(epochs=3, pairs_per_epoch=10, batch_size=2, accumulate=2), tmp_path).updates == 6
    small = trainer(config(epochs=1, pairs_per_epoch=3), tmp_path)
    assert small.run()
    assert small.progress.step == 3


def test_a_training_by_time_ends(tmp_path: Path) -> None:
    small = trainer(config(epochs=10**6, max_minutes=0.02), tmp_path)
    assert small.updates is None
    assert small.run()
    assert small.progress.seconds >= 1.2
    assert small.progress.step >= 1
    assert (tmp_path / "best.safetensors").exists()


def test_all_processes_of_a_training_by_time_follow_the_clock_of_the_first(tmp_path: Path) -> None:
    readings = iter([100.0, 100.9, 102.0])

    class AnotherClock(Team):
        def agreed(self, *values: float) -> tuple[float, ...]:
            return (next(readings), *values[1:])

    small = trainer(config(epochs=10**6, max_minutes=0.02), tmp_path, validation=0)
    small.team = AnotherClock()
    assert small.run()
    assert small.progress.step == 2 and small.progress.seconds == pytest.approx(2.0)


def test_without_validation_the_last_is_the_result(tmp_path: Path) -> None:
    small = trainer(config(), tmp_path, validation=0)
    small.run()
    assert_identical(weights(small), load_model(tmp_path / "best.safetensors").network.state_dict())


def test_a_full_disk_keeps_the_last_good_checkpoint_and_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    small = trainer(config(epochs=1), tmp_path, events)
    small.step()
    small.save_state()
    good = weights(small)
    small.step()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        small._save_or_report(small.save_state)
        with pytest.raises(UserError, match="No space left on device"):
            small.save_state()
    assert any(isinstance(e, CheckpointFailed) and "No space left" in str(e) for e in events)
    kept, _ = read_tensors(tmp_path / STATE)
    assert_identical(good, kept)
    assert sorted(p.name for p in tmp_path.iterdir()) == [STATE, "last.safetensors"]  # no half-written file
    assert small.run()


def test_the_same_seed_gives_the_same_training_and_another_does_not(tmp_path: Path) -> None:
    runs = []
    for seed in (3, 3, 4):
        small = trainer(dataclasses.replace(config(seed=seed), augment=AUGMENTED), tmp_path)
        for _ in range(3):
            small.step()
        runs.append(weights(small))
    assert_identical(runs[0], runs[1])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Same pairs and same augmentation, however an update is cut into batches: losses are means."""
    results = []
    for batch_size, accumulate in ((4, 1), (1, 4), (2, 2)):
        settings = config(batch_size=batch_size, accumulate=accumulate)
        small = trainer(dataclasses.replace(settings, augment=AUGMENTED), tmp_path)
        results.append((small.step()["total"], weights(small)))
    for total, found in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-5)
        for name, value in found.items():
            torch.testing.assert_close(value, results[0][1][name], rtol=0, atol=2e-4)
