"""The optimisation on sets so small that a CPU needs seconds: it learns, stops, goes on, and loses nothing."""

from __future__ import annotations

import dataclasses
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import AUGMENTED, LOSSES, assert_identical, blobs, config, trainer, weights
from uresnet.config import ModelConfig, Stage, TrainingConfig
from uresnet.errors import UserError
from uresnet.model.checkpoint import load_model
from uresnet.training import state as state_module
from uresnet.training.loop import STATE, Event, NotKept, StepDone, Validation, learning_rate
from uresnet.training.objective import at_resolution
from uresnet.training.state import read_tensors
from uresnet.training.trainer import Trainer


def test_the_loss_falls(tmp_path: Path) -> None:
    one = trainer(config(epochs=15, schedule="cosine"), tmp_path)
    before = one.validate()
    totals = []
    while one.fraction() < 1:
        totals.append(one.step()["total"])
    after = one.validate()
    assert before is not None
    assert after is not None
    assert len(totals) == 60
    assert np.mean(totals[-10:]) < np.mean(totals[:10]) - 0.3
    assert after.quality > before.quality + 0.1


@pytest.mark.parametrize("stop_after", [1, 5])
@pytest.mark.parametrize("more", [{}, {"optimiser": "soap", "averaging": 0.9}], ids=["adam", "soap"])
def test_resuming_gives_the_same_bits(tmp_path: Path, stop_after: int, more: dict) -> None:
    common = {"accumulate": 2, "epochs": 4, "clip_norm": 1.0, "schedule": "cosine"}
    settings = dataclasses.replace(config(**common, **more), augment=AUGMENTED)
    whole = trainer(settings, tmp_path / "whole")
    whole.run()
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps >= stop_after

    first = trainer(settings, tmp_path / "parts")
    assert not first.run(stop=stop)
    assert first.progress.step == stop_after
    second = trainer(settings, tmp_path / "parts")
    second.resume(tmp_path / "parts" / STATE)
    assert second.run()
    assert second.progress.step == whole.progress.step == 8
    assert_identical(weights(whole), weights(second))
    for one, other in zip(whole.judged.parameters(), second.judged.parameters(), strict=True):
        assert torch.equal(one, other)


def test_two_stages_train_on_coarser_voxels_first(tmp_path: Path) -> None:
    events: list[Event] = []
    settings = config(epochs=2, stages=(Stage(2, 0.5), Stage(1, 0.5)))
    one = Trainer(settings, blobs(4), None, tmp_path, events.append)
    one.surroundings = dataclasses.replace(one.surroundings, report_every=1)
    one.run()
    assert [e.downsampling for e in events if isinstance(e, StepDone)] == [2, 2, 2, 1, 1, 1, 1, 1]


def test_a_training_by_epochs_has_so_many_updates(tmp_path: Path) -> None:
    assert trainer(config(epochs=3, batch_size=2), tmp_path).updates == 6
    assert trainer(config(epochs=3, pairs_per_epoch=10, batch_size=2, accumulate=2), tmp_path).updates == 6
    one = trainer(config(epochs=1, pairs_per_epoch=3), tmp_path)
    assert one.run()
    assert one.progress.step == 3


def test_a_training_by_time_ends(tmp_path: Path) -> None:
    one = trainer(config(epochs=10**6, max_minutes=0.02), tmp_path)
    assert one.updates is None
    assert one.run()
    assert one.progress.seconds >= 1.2
    assert one.progress.step >= 1
    assert (tmp_path / "best.safetensors").exists()


def test_the_result_is_a_model(tmp_path: Path) -> None:
    events: list[Event] = []
    one = trainer(config(), tmp_path, events)
    one.run()
    model = load_model(tmp_path / "best.safetensors")
    assert model.scheme is not None
    assert model.scheme.name == "tissue3"
    found = [e for e in events if isinstance(e, Validation)]
    assert found[-1].is_best
    assert model.card.figures["registration Dice, 15 structures"] == round(found[-1].registration, 4)
    assert_identical(weights(one), {k: v.contiguous() for k, v in model.network.state_dict().items()})


def test_a_training_on_blocks_makes_a_model_that_sees_blocks(tmp_path: Path) -> None:
    one = trainer(config(epochs=1, stages=(Stage(2),)), tmp_path)
    with torch.no_grad():
        one.network.affine_head.dense.bias.fill_(0.3)
    one.save("best")
    model = load_model(tmp_path / "best.safetensors")
    assert (model.conform.blocks, model.conform.multiple_of) == (2, 8)
    pair = torch.rand(2, 1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained, loaded = at_resolution(one.network(*pair), 2), model.network(*pair)
    # The same translation, in voxels of the blocks; matrix and gradients have no unit.
    torch.testing.assert_close(loaded.affine, trained.affine)
    torch.testing.assert_close(loaded.spatial_gradients, trained.spatial_gradients)
    assert float(trained.affine[0, 0, 3]) == pytest.approx(0.3 * one.config.model.affine_translation_scale / 2)


def test_without_validation_the_last_is_the_result(tmp_path: Path) -> None:
    one = trainer(config(), tmp_path, validation=0)
    one.run()
    assert_identical(weights(one), load_model(tmp_path / "best.safetensors").network.state_dict())


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


def test_a_full_disk_keeps_the_last_good_checkpoint_and_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    one = trainer(config(epochs=1), tmp_path, events)
    one.step()
    one.save_state()
    good = weights(one)
    one.step()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(state_module.os, "fsync", full)
        one._keep(validate=False)
        with pytest.raises(UserError, match="No space left on device"):
            one.save_state()
    assert any(isinstance(e, NotKept) and "No space left" in str(e) for e in events)
    kept, _ = read_tensors(tmp_path / STATE)
    assert_identical(good, kept)
    assert sorted(p.name for p in tmp_path.iterdir()) == [STATE, "last.safetensors"]  # no half-written file
    assert one.run()


def test_a_kill_leaves_whole_files(tmp_path: Path) -> None:
    """Killed while it does nothing but write: whatever has a checkpoint's name can be read."""
    code = textwrap.dedent(f"""
        from pathlib import Path
        from small_training import config, trainer
        one = trainer(config(), Path({str(tmp_path)!r}))
        one.save_state(); print("ready", flush=True)
        while True: one.save_state()
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    again = trainer(config(), tmp_path / "again")
    again.resume(tmp_path / STATE)
    assert_identical(weights(again), weights(trainer(config(), tmp_path / "fresh")))
    load_model(tmp_path / "last.safetensors")


@pytest.mark.parametrize(
    ("fraction", "rate"), [(0, 1e-3), (0.24, 1e-3), (0.26, 5e-4), (0.51, 2.5e-4), (0.76, 1.25e-4), (1, 1.25e-4)]
)
def test_halving_in_closed_form(fraction: float, rate: float) -> None:
    assert learning_rate(TrainingConfig(learning_rate=1e-3, halvings=3), fraction, 10**6) == pytest.approx(rate)


@pytest.mark.parametrize("fraction", [0, 0.25, 0.5, 0.9])
def test_cosine_in_closed_form(fraction: float) -> None:
    expected = 2e-3 * (1 + math.cos(math.pi * fraction)) / 2
    settings = TrainingConfig(learning_rate=2e-3, schedule="cosine")
    assert learning_rate(settings, fraction, 10**6) == pytest.approx(expected)
    assert learning_rate(settings, 1.0, 10**6) == pytest.approx(2e-5)


def test_warm_up_is_linear() -> None:
    settings = TrainingConfig(learning_rate=1.0, warmup_steps=4)
    assert [learning_rate(settings, 0, step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


def test_heads_have_their_own_rates(tmp_path: Path) -> None:
    one = trainer(config(affine_rate=0.5, deformable_rate=0.0, learning_rate=1e-2), tmp_path)
    last = one.network.deformable_head.layers[-1].weight
    before = last.detach().clone()
    one.step()
    assert torch.equal(last, before)
    # Adam's first step is the rate itself, whatever the gradient's size
    moved = one.network.affine_head.dense.bias.detach().abs().max()
    assert moved.item() == pytest.approx(5e-3, rel=1e-3)


def test_the_same_seed_gives_the_same_training_and_another_does_not(tmp_path: Path) -> None:
    runs = []
    for seed in (3, 3, 4):
        one = trainer(dataclasses.replace(config(seed=seed), augment=AUGMENTED), tmp_path)
        for _ in range(3):
            one.step()
        runs.append(weights(one))
    assert_identical(runs[0], runs[1])
    assert any(not torch.equal(runs[0][name], runs[2][name]) for name in runs[0])


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Same pairs and same augmentation, however an update is cut into batches: losses are means."""
    results = []
    for batch_size, accumulate in ((4, 1), (1, 4), (2, 2)):
        settings = config(batch_size=batch_size, accumulate=accumulate)
        one = trainer(dataclasses.replace(settings, augment=AUGMENTED), tmp_path)
        results.append((one.step()["total"], weights(one)))
    for total, found in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-5)
        for name, value in found.items():
            torch.testing.assert_close(value, results[0][1][name], rtol=0, atol=2e-4)
