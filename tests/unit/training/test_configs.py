"""Every configuration that is packaged is accepted by ``uresnet train --dry-run``, and is what its name says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from small_training import write_data
from uresnet.cli.main import app
from uresnet.config import load_config
from uresnet.core.choices import PACKAGED_CONFIGURATIONS
from uresnet.errors import UserError

FOLDER = PACKAGED_CONFIGURATIONS["paper"].parent
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def test_a_name_is_the_packaged_file_and_a_file_of_that_name_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("paper") == load_config(FOLDER / "paper.yaml") != load_config("default")
    with pytest.raises(UserError, match=r"There is no configuration papper; choose from .*paper,.*YAML"):
        load_config("papper")
    (tmp_path / "paper").write_text((FOLDER / "default.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    assert load_config("paper") == load_config("default")


@pytest.mark.parametrize("name", NAMES)
def test_without_data_it_says_which_folder_the_configuration_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = load_config(name).data
    for _ in range(2):  # where there is no such folder, and where it holds nothing
        done = CliRunner().invoke(app, ["train", name, "--dry-run", "--device", "cpu"])
        said = " ".join((done.output + done.stderr).split())
        assert done.exit_code == 2
        assert f"The configuration {name} names the data folder {named}, which " in said
        assert (
            "--data FOLDER" in said and f"uresnet prepare {'heads' if name in ('brain', 'open') else 'pairs'}" in said
        )
        (tmp_path / named).mkdir(parents=True, exist_ok=True)


def test_the_help_lists_every_packaged_configuration() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    assert set(NAMES) <= set(re.findall(r"\w+", shown.partition("A packaged")[2].partition("YAML")[0]))


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_accepts_it_and_writes_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    config = load_config(FOLDER / f"{name}.yaml")
    # As small as the window of the local cross-correlation lets the coarsest images be.
    smallest = 16 if config.segmenter else 10 if config.model.network == "christodoulidis" else 12
    coarsest = max(max(s.downsampling, s.loss_downsampling or 1) for s in config.training.stages)
    (tmp_path / "data").mkdir()
    data = write_data(
        tmp_path / "data", smallest * coarsest, heads=config.heads is not None, other=config.contrasts is not None
    )
    arguments = ["train", f"{FOLDER / name}.yaml", "--data", f"{data}", "-o", f"{tmp_path / 'run'}", "--dry-run"]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert done.exit_code == 0, done.output + done.stderr
    others = " and 1 of other contrasts" if config.contrasts else ""
    assert f"2 scans to train on{others}, 2 to validate on" in done.output
    assert not (tmp_path / "run").exists()
    assert ("it computes in float32" in done.stderr) == (config.training.precision == "bf16")


def test_ablations_differ_from_the_paper_only_in_what_they_are_named_for() -> None:
    paper = load_config(FOLDER / "paper.yaml")
    expected = {
        "registration_only": {"model.segmentation"},
        "registration_labels": {"model.segmentation", "losses.warped_labels", "losses.warped_label_scheme"},
        "joint_no_affine": {"model.affine", "losses.alpha"},
        "joint_28": {"model.scheme", "losses.gamma", "losses.delta"},
        "paper_abnormal": {"model.scheme", "losses.gamma"},
    }
    for name, differing in expected.items():
        other = load_config(FOLDER / f"{name}.yaml")
        found = {
            f"{part}.{key}"
            for part in ("model", "losses", "augment", "training")
            for key, value in vars(getattr(other, part)).items()
            if value != getattr(getattr(paper, part), key)
        }
        silent = {"losses.gamma", "losses.delta"} if not other.model.segmentation else set()
        assert found - silent == differing, name
        assert (other.abnormal is not None) == (name == "paper_abnormal")


def test_images_that_cannot_be_divided_into_blocks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_data(tmp_path / "data", 40)
    arguments = ["train", f"{FOLDER / 'paper_augmented.yaml'}", "--data", f"{data}", "-o", f"{tmp_path / 'run'}"]
    done = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert done.exit_code == 2
    said = " ".join((done.output + done.stderr).split())
    assert "downsampling 4, every axis of the images must be a multiple of 16 voxels, and they are 40 × 40 × 40" in said
    assert not (tmp_path / "run").exists()


def test_a_loss_on_blocks_that_do_not_divide_the_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = write_data(tmp_path / "data", 16)
    config = tmp_path / "config.yaml"
    config.write_text("losses: {downsampling: 3}\n", encoding="utf-8")
    done = CliRunner().invoke(
        app, ["train", str(config), "--data", str(data), "-o", str(tmp_path / "run"), "--device", "cpu"]
    )
    assert done.exit_code == 2
    said = " ".join((done.output + done.stderr).split())
    assert "downsampling of 3" in said and "does not divide the images of 16 × 16 × 16 voxels" in said
    assert not (tmp_path / "run").exists()
