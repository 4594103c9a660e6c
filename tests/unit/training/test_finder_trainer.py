"""The training of the network that finds brains: it learns, resumes, and makes a file that finds brains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from typer.testing import CliRunner

from label_maps import write_map
from small_heads import PLAIN, heads
from small_training import STILL, assert_identical, write_data
from uresnet.cli.main import app
from uresnet.config import Config, HeadConfig, SegmenterConfig, TrainingConfig
from uresnet.config.loading import config_from_dict
from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.model.catalogue import BRAIN, brain_finder, find_model, read_model_file
from uresnet.model.checkpoint import MIDSPACE, load_model
from uresnet.preprocess import skull
from uresnet.training.context import TrainingContext
from uresnet.training.events import Event, StepDone
from uresnet.training.finder_trainer import FinderTrainer, StructureTrainer
from uresnet.training.state import STATE
from uresnet.training.validation import Validation

SMALL = SegmenterConfig(channels=(8, 8), blocks=(1, 1), hidden=8, classes=2)
BLOCKS = replace(STILL, shape=(16, 16, 16), parts=8, background=1.0, translation=1.0, flip=0.5)


def trainer(
    folder: Path, events: list[Event] | None = None, config: HeadConfig | None = None, **training: Any
) -> FinderTrainer:
    defaults: dict[str, Any] = {"epochs": 2, "learning_rate": 1e-2, "optimiser": "muon", "averaging": 0.9}
    quiet = {"validate_every_minutes": 1e9, "checkpoint_every_minutes": 1e9}
    settings = TrainingConfig(**{**defaults, **quiet, **training})
    whole = Config(segmenter=SMALL, blocks=BLOCKS, heads=config or HeadConfig(), training=settings)
    kept = [] if events is None else events
    return FinderTrainer(whole, heads(3, 32, 10), heads(2, 32, 9), TrainingContext(folder, kept.append, report_every=1))


def test_it_learns_to_find_brains_of_any_brightness_and_the_file_does_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    small = trainer(tmp_path, events, PLAIN, epochs=10, learning_rate=3e-2, averaging=0.0, schedule="cosine")
    assert small.run()
    losses = [event.terms["total"] for event in events if isinstance(event, StepDone)]
    assert np.mean(losses[-8:]) < 0.7 * np.mean(losses[:8])
    result = next(event for event in events if isinstance(event, Validation))
    assert result.segmentation[0] > 0.5 and f"Dice {result.segmentation[0]:.4f}" in str(result)
    best = tmp_path / "best.safetensors"
    card = load_model(read_model_file(best)).card
    assert card.kind == BRAIN and not card.scheme and not card.classes
    assert card.figures["Dice of the brain, images made from validation heads"] == round(result.segmentation[0], 4)
    with pytest.raises(UserError, match="finds brains in heads; it neither registers nor segments"):
        find_model(best)
    monkeypatch.setattr(skull, "brain_finder", lambda: read_model_file(best))
    skull._network.cache_clear()
    try:
        block = small.make_block(torch.Generator().manual_seed(1))
        head = Image(block.image[0, 0], Grid((16, 16, 16), np.diag([2.0, 2, 2, 1])))
        found, true = skull.strip_skull(head), block.classes[0, 0].numpy() > 0
    finally:
        skull._network.cache_clear()
    assert 2 * (found & true).sum() / (found.sum() + true.sum()) > 0.5


def test_resuming_gives_the_same_bits_and_validations_are_of_the_same_heads(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.run()
    first = trainer(tmp_path / "parts")
    first.run(stop=lambda: first.progress.step >= 4)
    second = trainer(tmp_path / "parts")
    second.resume(tmp_path / "parts" / STATE)
    second.run()
    assert_identical(whole.network.state_dict(), second.network.state_dict())
    one, other = whole.validate(), second.validate()
    assert one is not None and other is not None and one.segmentation == other.segmentation


def tiny(folder: Path, **training: Any) -> Path:
    """A configuration so small that a CPU needs no time for it."""
    tree = {
        "segmenter": {"channels": [4, 4], "blocks": [1, 1], "hidden": 4, "classes": 2},
        "blocks": {"shape": [16, 16, 16], "parts": 8, "background": 1.0},
        "heads": {},
        "training": {"epochs": 2, "optimiser": "muon", **training},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def run(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(word) for word in words])
    return done.exit_code, " ".join((done.output + done.stderr).split())


def test_commands_go_from_label_maps_to_a_model_and_a_page(tmp_path: Path) -> None:
    maps, data, folder = tmp_path / "maps", tmp_path / "data", tmp_path / "run"
    maps.mkdir()
    for name in "abcde":
        write_map(maps / f"{name}.nii.gz")
    nib.save(nib.Nifti1Image(np.ones((8, 8, 8), np.int16), np.eye(4)), maps / "wrong.nii.gz")
    split = dict(zip("abcde", ("train", "train", "val", "val", "train"), strict=True)) | {"wrong": "train"}
    table = "".join(f"{name}\t{part}\n" for name, part in split.items())
    (tmp_path / "split.tsv").write_text(f"id\tsplit\n{table}", encoding="utf-8")
    prepare = ("prepare", "heads", maps, "-o", data, "--split", tmp_path / "split.tsv", "--licence", "free")
    code, said = run(*prepare)
    assert code == 0 and "5 scans of 44 × 44 × 44 voxels: 3 train, 2 val" in said, said
    assert "wrong left out" in said and "Train with: uresnet train brain" in said
    assert "(5 from an earlier run)" in run(*prepare)[1]
    bundle = tmp_path / "data.tar.xz"
    assert run("prepare", "bundle", data, "-o", bundle)[0] == 0
    code, said = run("train", tiny(tmp_path), "--data", bundle, "-o", folder, "--device", "cpu")
    assert code == 0 and "best.safetensors" in said and "uresnet register" not in said, said
    card = read_model_file(folder / "best.safetensors").card
    assert card is not None and (card.kind, card.licence, card.trained_on) == (BRAIN, "free", "data.tar.xz, 3 heads")
    assert card.figures["validation heads"] == 2
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Dice on validation images" in page and "A training example, with its true structures" in page
    # It goes on from a file, and not from one of another network.
    start = str(folder / "best.safetensors")
    there = ("--data", data, "-o", tmp_path / "b", "--device", "cpu")
    code, said = run("train", tiny(tmp_path, start=start), *there, "--dry-run")
    assert code == 0 and "3 scans to train on, 2 to validate on; 16 × 16 × 16 voxels" in said, said
    code, said = run("train", tiny(tmp_path, start="brain"), *there)
    assert code == 2 and "brain has another network than the configuration; change training.start" in said
    assert not (tmp_path / "b").exists() and brain_finder().card is not None


def test_preparing_heads_says_what_a_training_lacks(tmp_path: Path) -> None:
    maps, data = tmp_path / "maps", tmp_path / "data"
    maps.mkdir()
    write_map(maps / "a.nii.gz")
    code, said = run("prepare", "heads", maps, "-o", data)
    assert code == 0 and "The split train has 1 head; a training needs at least two" in said, said
    assert "Train with" not in said and "No licence of the data is given" in said
    assert "at least two are needed" in run("train", tiny(tmp_path), "--data", data, "-o", tmp_path / "none")[1]
    for name in "bcde":
        write_map(maps / f"{name}.nii.gz")
    (maps / "wrong.nii.gz").touch()
    assert run("prepare", "heads", maps, "-o", data)[0] == 0 and (data / "skipped.tsv").is_file()
    (maps / "wrong.nii.gz").unlink()
    code, said = run("prepare", "heads", maps, "-o", data, "--licence", "free")
    assert code == 0 and "4 train, 1 val Train" in said.replace(f"split {data / 'split.tsv'} ", ""), said
    assert "warning" not in said and not (data / "skipped.tsv").exists()
    assert run("train", tiny(tmp_path), "--data", data, "-o", tmp_path / "run", "--device", "cpu")[0] == 0
    card = read_model_file(tmp_path / "run" / "best.safetensors").card
    assert card is not None and card.figures["validation heads"] == 1
    tree = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert set(tree) == {"data", "segmenter", "blocks", "contrasts", "heads", "training"}
    written, given = config_from_dict(tree), config_from_dict(yaml.safe_load(tiny(tmp_path).read_text("utf-8")))
    assert written == replace(given, data=str(data))


def test_a_segmenter_learns_from_label_maps_alone_and_is_used_on_images_of_1_mm(tmp_path: Path) -> None:
    structures = replace(PLAIN, find="structures", families=1.0, t1=1.0)
    settings = TrainingConfig(
        epochs=10, learning_rate=3e-2, optimiser="muon", schedule="cosine", validate_every_minutes=1e9
    )
    segmenter = SegmenterConfig(channels=(8, 16), blocks=(1, 1), hidden=16, downsampling=2)
    config = Config(segmenter=segmenter, blocks=BLOCKS, heads=structures, training=settings)
    events: list[Event] = []
    stores = heads(3, 32, 10), heads(2, 32, 9)
    small = StructureTrainer(config, *stores, TrainingContext(tmp_path, events.append, report_every=1))
    assert small.run()
    losses = [event.terms["total"] for event in events if isinstance(event, StepDone)]
    assert np.mean(losses[-6:]) < 0.7 * np.mean(losses[:6])
    result = next(event for event in events if isinstance(event, Validation))
    assert 0 < np.nanmean(result.segmentation) < 1
    model = load_model(tmp_path / "best.safetensors")
    assert model.card.kind == MIDSPACE and model.is_coarse
    assert model.conform == load_model("default").conform
    figure = model.card.figures["Dice of the structures, images made from validation heads"]
    assert figure == round(float(np.nanmean(result.segmentation)), 4)
    # On voxels of 1 mm it finds what it finds on those of 2 mm that it was taught on.
    block = small.make_block(torch.Generator().manual_seed(5))
    coarse = small.judged.eval()(block.image)[0]
    found = model.network(F.interpolate(block.image, scale_factor=2, mode="nearest"))[0]
    assert (found == F.interpolate(coarse[None, None], scale_factor=2, mode="nearest")[0, 0]).float().mean() > 0.9


def test_a_segmenter_of_structures_may_begin_with_the_network_that_finds_brains(tmp_path: Path) -> None:
    first = trainer(tmp_path / "brain")
    first.run()
    segmenter = replace(SMALL, classes=33, downsampling=2)
    config = Config(segmenter=segmenter, blocks=BLOCKS, heads=replace(PLAIN, find="structures"))
    context = TrainingContext(tmp_path, lambda event: None, report_every=1)
    small = StructureTrainer(config, heads(3, 32, 10), None, context)
    head = small.network.head.weight.clone()
    small.start_from(first.network.state_dict())
    assert torch.equal(small.network.stem.weight, first.network.stem.weight)
    assert torch.equal(small.network.head.weight, head)


def test_coarse_networks_are_those_that_find_structures() -> None:
    for find, downsampling in (("structures", 1), ("brain", 2)):
        tree = {"heads": {"find": find}, "segmenter": {"downsampling": downsampling}, "training": {"optimiser": "muon"}}
        with pytest.raises(UserError, match=r"segmenter\.downsampling is 2 with heads\.find"):
            config_from_dict(tree)


def test_heads_and_scans_are_not_taken_for_each_other(tmp_path: Path) -> None:
    for name, holds_heads in (("scans", False), ("heads", True)):
        (tmp_path / name).mkdir()
        write_data(tmp_path / name, 16, holds_heads)
    for config, data, message in (
        (tiny(tmp_path), "scans", "holds scans of brains; make a folder of heads with uresnet prepare heads"),
        ("default", "heads", "holds heads without images, for uresnet train brain; give a folder of scans"),
    ):
        code, said = run("train", config, "--data", tmp_path / data, "-o", tmp_path / "run", "--device", "cpu")
        assert code == 2 and message in said, said
    code, said = run("evaluate", tmp_path / "heads", "-o", tmp_path / "table", "--model", "paper", "--split", "val")
    assert code == 2 and "holds heads without images" in said, said
    assert not (tmp_path / "run").exists() and not (tmp_path / "table").exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"heads": {}}, "heads need a segmenter"),
        ({"segmenter": {}, "heads": {}, "contrasts": {}}, "choose contrasts or heads, not both"),
        ({"segmenter": {}, "heads": {"thickness": [5, 2]}}, "heads.thickness must be two numbers"),
        ({"segmenter": {}, "heads": {"cut_share": 1}}, "heads.cut_share must be below 1"),
        ({"segmenter": {}, "heads": {}, "blocks": {"label_maps": "x"}}, "the label maps are the data"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tree: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config_from_dict(tree)
