"""The training of the segmenter: that it learns, makes a model and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_training import STILL, assert_identical, blobs, cubes
from uresnet.config import BlockConfig, Config, ConformSpec, SegmenterConfig, TrainingConfig
from uresnet.core.labels import SCHEMES
from uresnet.core.training_files import VALIDATIONS
from uresnet.errors import UserError
from uresnet.model.checkpoint import MIDSPACE, load_model
from uresnet.report.pages.training import training_page
from uresnet.training.context import ModelDescription, TrainingContext
from uresnet.training.events import Event, StepDone
from uresnet.training.log import Logbook
from uresnet.training.segmenter_trainer import SCHEME, SegmenterTrainer
from uresnet.training.state import STATE
from uresnet.training.validation import Validation

SMALL = SegmenterConfig(channels=(8, 8), blocks=(1, 1), hidden=8)


def trainer(
    folder: Path, events: list[Event] | None = None, blocks: BlockConfig | None = None, **training: Any
) -> SegmenterTrainer:
    defaults: dict[str, Any] = {"epochs": 3, "learning_rate": 3e-3, "optimiser": "muon", "averaging": 0.9}
    quiet = {"validate_every_minutes": 1e9, "checkpoint_every_minutes": 1e9}
    changing = replace(STILL, rotation=10.0, noise=0.02, flip=0.5, elastic=1.0, ventricles=0.5)
    config = Config(
        segmenter=SMALL, blocks=blocks or changing, training=TrainingConfig(**{**defaults, **quiet, **training})
    )
    spec = ConformSpec(shape=(16, 16, 16), axis_codes=("R", "A", "S"))
    kept = [] if events is None else events
    context = TrainingContext(folder, kept.append, description=ModelDescription(conform=spec), report_every=1)
    return SegmenterTrainer(config, cubes(4), cubes(2, 9), context)


def test_it_learns_and_makes_a_model(tmp_path: Path) -> None:
    events: list[Event] = []
    small = trainer(tmp_path, events, replace(STILL, rotation=5.0, noise=0.02, parts=8), epochs=60, learning_rate=3e-2)
    assert small.run()
    after = [event for event in events if isinstance(event, Validation)][-1]
    there = [n for n, structure in enumerate(SCHEME.classes) if structure.id in (2, 3, 4)]
    assert np.mean([after.segmentation[n] for n in there]) > 0.6
    losses = [event.terms["total"] for event in events if isinstance(event, StepDone)]
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])
    model = load_model(tmp_path / "best.safetensors")
    assert model.card.kind == MIDSPACE and model.scheme == SCHEMES["freesurfer32"]
    assert model.card.figures["validation scans"] == 2
    image = cubes(1, 5).images.float() / 255
    with torch.no_grad():
        small.judged.eval()
        # 16 bits a weight.
        same = (model.network(image)[0] == small.judged(image)[0]).float().mean()
    assert float(same) > 0.99


@pytest.mark.parametrize(("processor", "expected"), [("AVX2", torch.float32), ("AVX512", torch.bfloat16)])
def test_bfloat16_only_where_the_processor_has_it(
    processor: str, expected: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    small = trainer(tmp_path, precision="bf16")
    with small.autocast():
        assert torch.nn.functional.conv3d(torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 1, 1, 1)).dtype == expected


def test_resuming_gives_the_same_bits(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run()
    first = trainer(tmp_path / "parts")
    first.run(stop=lambda: first.progress.step >= 5)
    second = trainer(tmp_path / "parts")
    second.resume(tmp_path / "parts" / STATE)
    assert second.progress.step == 5
    second.run()
    assert_identical(whole.network.state_dict(), second.network.state_dict())


def test_tables_and_page_show_what_a_segmenter_has(tmp_path: Path) -> None:
    small = trainer(tmp_path, epochs=1)
    small.report = Logbook(tmp_path, small.scheme)
    small.run()
    header = (tmp_path / VALIDATIONS).read_text().splitlines()[0].split(",")
    assert header[:2] == ["step", "segmentation_dice"] and "registration_dice" not in header
    page = training_page(tmp_path)
    assert "Best segmentation Dice" in page and "structures that the network found" in page


def test_images_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    config = Config(segmenter=SegmenterConfig(), blocks=STILL)
    with pytest.raises(UserError, match="multiples of 16 voxels, these have 16 × 12 × 16; prepare"):
        SegmenterTrainer(config, blobs(2), None, TrainingContext(tmp_path))
