"""The training of the flagship's segmenter: what it is shown, what it is judged by, and that it learns and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from small_training import STILL, assert_identical, blobs, cubes
from uresnet.config import BlockConfig, Config, ConformSpec, SegmenterConfig, TrainingConfig, config_from_dict
from uresnet.core.labels import SCHEMES
from uresnet.errors import UserError
from uresnet.model.checkpoint import MIDSPACE, load_model
from uresnet.report.pages.training import training_page
from uresnet.training.examples.blocks import NOT_JUDGED
from uresnet.training.log import VALIDATIONS, Logbook
from uresnet.training.loop import STATE, Event, StepDone, Surroundings, Validation
from uresnet.training.segmenting import SCHEME, SegmenterTrainer, segmentation_terms
from uresnet.training.state import About

SMALL = SegmenterConfig(channels=(8, 8), blocks=(1, 1), hidden=8)


def trainer(
    folder: Path, events: list[Event] | None = None, blocks: BlockConfig | None = None, **training: object
) -> SegmenterTrainer:
    defaults = {"epochs": 3, "learning_rate": 3e-3, "optimiser": "muon", "averaging": 0.9}
    quiet = {"validate_every_minutes": 1e9, "checkpoint_every_minutes": 1e9}
    changing = replace(STILL, rotation=10.0, noise=0.02, flip=0.5, elastic=1.0, ventricles=0.5)
    config = Config(
        segmenter=SMALL, blocks=blocks or changing, training=TrainingConfig(**{**defaults, **quiet, **training})
    )  # type: ignore[arg-type]
    spec = ConformSpec(shape=(16, 16, 16), axis_codes=("R", "A", "S"))
    kept = [] if events is None else events
    return SegmenterTrainer(
        config, cubes(4), cubes(2, 9), folder, kept.append, Surroundings(about=About(conform=spec), report_every=1)
    )


# -- the loss --------------------------------------------------------------------------------------------------------


def test_terms_by_hand() -> None:
    """Two voxels, three classes; probabilities 1/2, 1/4, 1/4 and 1/4, 1/4, 1/2; truth 1 and 2; a third is unknown."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [1.0, 1.0, 1.0]]))
    terms = segmentation_terms(logits, torch.tensor([1, 2, NOT_JUDGED]))
    entropy = (np.log(4) + np.log(2)) / 2
    dice = (2 * 0.25 / (0.5 + 1) + 2 * 0.5 / (0.75 + 1)) / 2
    assert float(terms["cross_entropy"]) == pytest.approx(entropy, rel=1e-6)
    assert float(terms["dice"]) == pytest.approx(1 - dice, rel=1e-6)
    assert float(terms["total"]) == pytest.approx(entropy + 1 - dice, rel=1e-6)


def test_nothing_known_is_no_loss() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    total = segmentation_terms(logits, torch.full((4,), NOT_JUDGED))["total"]
    total.backward()
    assert float(total.detach()) == 0 and logits.grad is not None and not logits.grad.any()


# -- the training ----------------------------------------------------------------------------------------------------


def test_it_learns_and_makes_a_model(tmp_path: Path) -> None:
    events: list[Event] = []
    one = trainer(tmp_path, events, replace(STILL, rotation=5.0, noise=0.02, parts=8), epochs=60, learning_rate=3e-2)
    assert one.run()
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
        one.judged.eval()
        # 16 bits a weight.
        same = (model.network(image)[0] == one.judged(image)[0]).float().mean()
    assert float(same) > 0.99


@pytest.mark.parametrize(("processor", "expected"), [("AVX2", torch.float32), ("AVX512", torch.bfloat16)])
def test_bfloat16_only_where_the_processor_has_it(
    processor: str, expected: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    one = trainer(tmp_path, precision="bf16")
    with one.in_precision():
        assert torch.nn.functional.conv3d(torch.ones(1, 1, 2, 2, 2), torch.ones(1, 1, 1, 1, 1)).dtype == expected


def test_validations_are_shown_by_what_was_judged() -> None:
    one = Validation((0.5, float("nan")), table1=(0.7, 0.8), step=3)
    assert str(one) == "update 3: segmentation Dice 0.7500 in the structures of Table 1"
    both = Validation((0.5, 0.25), registration=0.6, folding=0.01, step=4)
    assert str(both) == "update 4: registration Dice 0.6000, segmentation 0.500 / 0.250, folds 1.00%"


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
    one = trainer(tmp_path, epochs=1)
    one.report = Logbook(tmp_path, one.scheme)
    one.run()
    header = (tmp_path / VALIDATIONS).read_text().splitlines()[0].split(",")
    assert header[:2] == ["step", "segmentation_dice"] and "registration_dice" not in header
    page = training_page(tmp_path)
    assert "Best segmentation Dice" in page and "structures that the network found" in page


def test_keys_of_pair_networks_do_not_go_with_a_segmenter() -> None:
    with pytest.raises(UserError, match="use blocks"):
        config_from_dict({"segmenter": {}, "losses": {"alpha": 0.2}})


@pytest.mark.parametrize(
    "tree",
    [
        {"segmenter": {}, "training": {"optimiser": "soap"}},
        {"training": {"optimiser": "muon"}},
        {"segmenter": {}, "training": {"stages": [{"downsampling": 2}]}},
    ],
)
def test_what_a_training_would_not_use_is_refused(tree: dict) -> None:
    with pytest.raises(UserError, match="training"):
        config_from_dict(tree)


@pytest.mark.parametrize("wrong", [{"shape": [16, 16, 20]}, {"parts": 9}, {"knots": [3]}])
def test_blocks_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(UserError, match="blocks"):
        config_from_dict({"segmenter": {}, "blocks": wrong})


def test_images_that_do_not_fit_the_network_are_refused(tmp_path: Path) -> None:
    config = Config(segmenter=SegmenterConfig(), blocks=STILL)
    with pytest.raises(UserError, match="multiples of 16 voxels, these have 16 × 12 × 16; prepare"):
        SegmenterTrainer(config, blobs(2), None, tmp_path, lambda event: None)
