"""The training of a segmenter for any contrast: its loss, that it resumes, and where it may start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from small_training import STILL, assert_identical, cubes
from uresnet.config import Config, ConformSpec, ContrastConfig, SegmenterConfig, TrainingConfig
from uresnet.config.loading import config_from_dict
from uresnet.core.labels import SCHEMES
from uresnet.core.training_files import SAMPLES
from uresnet.errors import UserError
from uresnet.model.checkpoint import load_model
from uresnet.model.segmenter import Segmenter
from uresnet.report.pages.training import training_page
from uresnet.training.context import ModelDescription, TrainingContext
from uresnet.training.events import Event, StepDone
from uresnet.training.log import Logbook
from uresnet.training.objective import segmentation_terms, t1_terms
from uresnet.training.samples import EXAMPLES, PAIRS, sample_example
from uresnet.training.segmenter_trainer import ANY_SCHEME, SegmenterTrainer
from uresnet.training.state import STATE
from uresnet.training.validation import Validation

SMALL = SegmenterConfig(channels=(8, 8), blocks=(1, 1), hidden=8, classes=35, synthesis=8)
CONTRASTS = ContrastConfig(lesions=0.5, mass=0.5, mass_radius=(2.0, 4.0), slices=0.2)


def trainer(folder: Path, events: list[Event] | None = None, **training: Any) -> SegmenterTrainer:
    defaults: dict[str, Any] = {"epochs": 1, "learning_rate": 1e-2, "optimiser": "muon", "averaging": 0.9}
    quiet = {"validate_every_minutes": 1e9, "checkpoint_every_minutes": 1e9}
    settings = TrainingConfig(**{**defaults, **quiet, **training})
    config = Config(segmenter=SMALL, blocks=replace(STILL, flip=0.5), contrasts=CONTRASTS, training=settings)
    spec = ConformSpec(shape=(16, 16, 16), axis_codes=("R", "A", "S"))
    kept = [] if events is None else events
    context = TrainingContext(folder, kept.append, description=ModelDescription(conform=spec), report_every=1)
    return SegmenterTrainer(config, cubes(4), cubes(2, 9), context)


def test_resuming_gives_the_same_bits_and_a_model_that_predicts_a_t1(tmp_path: Path) -> None:
    events: list[Event] = []
    whole = trainer(tmp_path / "whole", events)
    whole.run()
    steps = [event for event in events if isinstance(event, StepDone)]
    assert {"t1", "t1_edges", "cross_entropy", "dice", "total"} == set(steps[0].terms)
    assert all(np.isfinite(list(step.terms.values())).all() for step in steps)
    first = trainer(tmp_path / "parts")
    first.run(stop=lambda: first.progress.step >= 2)
    second = trainer(tmp_path / "parts")
    second.resume(tmp_path / "parts" / STATE)
    second.run()
    assert_identical(whole.network.state_dict(), second.network.state_dict())
    validation = next(event for event in events if isinstance(event, Validation))
    assert len(validation.other_contrasts) == len(validation.table1) == 15 and "in other contrasts" in str(validation)
    model = load_model(tmp_path / "whole" / "best.safetensors")
    others = round(float(np.nanmean(validation.other_contrasts)), 4)
    assert model.card.figures["the same, remapped to other contrasts"] == others
    assert model.scheme == SCHEMES["freesurfer34"] == ANY_SCHEME
    classes, _, t1 = model.network.with_t1(cubes(1).images.float() / 255)  # type: ignore[operator]
    assert classes.shape == (16, 16, 16) and t1.shape == (1, 1, 16, 16, 16)


def test_the_page_shows_what_the_network_was_shown(tmp_path: Path) -> None:
    small = trainer(tmp_path)
    small.report = Logbook(tmp_path, small.scheme)
    small.run()
    page = training_page(tmp_path)
    assert "A training example, with its true structures" in page and "that the network predicts for it" in page
    assert "On the warped image" not in page and "What it sees and finds" in page
    with np.load(tmp_path / SAMPLES) as file:
        names = {name.split(" ", 1)[1] for name in file.files if name[0].isdigit()}
        assert len({name.split()[0] for name in file.files if name[0].isdigit()}) == PAIRS + EXAMPLES
        assert {"shown image", "shown labels", "t1 image", "predicted_t1 image"} <= names
    # The picture is the example: its middle axial slice, right on the left, front at the top.
    block = small.make_block(small.generator_for(0))
    seen = sample_example(block, None, ANY_SCHEME, ("R", "A", "S"))
    expected = (block.image[0, 0].flip(0).flip(1)[:, :, 8].T * 255).round().byte()
    assert np.array_equal(seen.images["shown"][:, :16], expected.numpy()) and seen.images.keys() == {"shown", "t1"}


def test_it_learns_what_the_t1_looks_like(tmp_path: Path) -> None:
    events: list[Event] = []
    trainer(tmp_path, events, epochs=10, learning_rate=3e-2).run()
    errors = [event.terms["t1"] for event in events if isinstance(event, StepDone)]
    assert np.mean(errors[-10:]) < 0.6 * np.mean(errors[:10])


def test_it_may_start_from_a_network_that_knows_fewer_classes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    known = Segmenter(replace(SMALL, classes=33, synthesis=0)).eval()
    new = trainer(tmp_path)
    new.start_from(known.state_dict())
    image = cubes(1).images.float() / 255
    with torch.no_grad():
        features = known.features(image)
        expected, found = known.logits(features), new.judged.eval().logits(new.judged.features(image))
    torch.testing.assert_close(found[..., :33], expected)
    # Far less likely than any other, from their biases.
    biases = new.network.head.bias.view(8, 35)
    assert bool((biases[:, 33:].amax(1) < biases[:, :33].amin(1) - 0.9).all())
    again = trainer(tmp_path)
    again.start_from(new.network.state_dict())
    assert_identical(again.network.state_dict(), new.network.state_dict())
    with pytest.raises(RuntimeError):
        new.start_from(Segmenter(replace(SMALL, classes=33, hidden=16)).state_dict())


def test_the_distance_of_two_t1_is_what_numbers_by_hand_say() -> None:
    truth, inside = torch.zeros((1, 1, 1, 1, 4)), torch.tensor([True, True, True, False]).view(1, 1, 1, 1, 4)
    predicted = torch.tensor([0.3, 0.1, 0.2, 9.0]).view(1, 1, 1, 1, 4)
    found = t1_terms(predicted, truth, inside)
    assert float(found["t1"]) == pytest.approx(0.2)
    assert float(found["t1_edges"]) == pytest.approx((0 + 0 + (0.2 + 0.1) / 2) / 3)
    assert float(t1_terms(predicted, truth, inside & False)["t1"]) == 0


def test_weights_of_classes_enter_both_means() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]))
    truth = torch.tensor([1, 2, 2])
    plain, alike = segmentation_terms(logits, truth), segmentation_terms(logits, truth, torch.full((3,), 2.0))
    assert {n: float(v) for n, v in plain.items()} == pytest.approx({n: float(v) for n, v in alike.items()})
    heavy = segmentation_terms(logits, truth, torch.tensor([1.0, 1.0, 3.0]))
    assert float(heavy["cross_entropy"]) == pytest.approx((np.log(4) + 3 * np.log(4) + 3 * np.log(2)) / 7)
    dice = np.array([2 * 0.25 / (1 + 1), 2 * 0.75 / (1 + 2)])
    assert float(heavy["dice"]) == pytest.approx(1 - (dice[0] + 3 * dice[1]) / 4)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"contrasts": {}}, "contrasts need a segmenter"),
        ({"segmenter": {"synthesis": 8}}, "segmenter.synthesis is learned with contrasts only"),
        ({"segmenter": {}, "contrasts": {"natural": 0.7, "remapped": 0.7}}, "more than 1 together"),
        ({"segmenter": {}, "contrasts": {"thickness": [5, 2]}}, "contrasts.thickness must be two numbers"),
        ({"segmenter": {}, "contrasts": {"lesion_portion": [0, 0.1]}}, "contrasts.lesion_portion must be above 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_from_dict(tree)
