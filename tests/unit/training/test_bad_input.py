"""What the issue of the paper's reproduction lists as bad input, through the command: a sentence, exit code 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from uresnet.cli.main import app
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.io import write_image, write_labels
from uresnet.training.data.dataset import open_dataset

GRID = Grid.centred((40, 46, 38), (4, 4, 4), ("L", "I", "A"), (0, 0, 0))


def volumes() -> tuple[torch.Tensor, torch.Tensor]:
    world = GRID.points_to_world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1))
    away = np.sqrt(((world / [60, 70, 55]) ** 2).sum(-1))
    labels = np.select([away < 0.7, away < 1], [2, 3], 0)
    return torch.from_numpy(np.where(labels == 2, 200.0, np.where(labels == 3, 100.0, 0.0))), torch.from_numpy(labels)


def subject(folder: Path, name: str, labels: torch.Tensor | None = None, grid: Grid = GRID, aseg: bool = True) -> None:
    image, drawn = volumes()
    (folder / name / "mri").mkdir(parents=True)
    write_image(Image(image, GRID), folder / name / "mri" / "orig.mgz")
    if aseg:
        chosen = drawn if labels is None else labels
        write_labels(LabelMap(chosen.to(torch.int16), grid), folder / name / "mri" / "aseg.mgz")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(a) for a in arguments])
    return done.exit_code, " ".join((done.output + done.stderr).split())


def test_a_subject_without_aseg_a_strange_label_and_another_grid(tmp_path: Path) -> None:
    strange = volumes()[1].clone()
    strange[20, 20, 20] = 999
    moved = Grid.centred(GRID.shape, (4, 4, 4), ("L", "I", "A"), (9, 0, 0))
    subject(tmp_path / "fs", "sub-01", aseg=False)
    subject(tmp_path / "fs", "sub-02", labels=strange)
    subject(tmp_path / "fs", "sub-03", grid=moved)
    code, said = run("prepare", "freesurfer", tmp_path / "fs", "-o", tmp_path / "data")
    assert code == 2 and "No scan could be prepared" in said
    skipped = (tmp_path / "data" / "skipped.tsv").read_text(encoding="utf-8")
    reasons = dict(line.split("\t") for line in skipped.splitlines()[1:])
    assert "has no aseg.mgz" in reasons["sub-01"]
    assert "holds 999, which is not a known FreeSurfer id" in reasons["sub-02"]
    assert "lies on another grid than" in reasons["sub-03"]


def test_one_person_in_two_splits(tmp_path: Path) -> None:
    for name in ("sub-01_ses-1", "sub-01_ses-2"):
        subject(tmp_path / "fs", name)
    (tmp_path / "split.tsv").write_text("id\tsplit\nsub-01_ses-1\ttrain\nsub-01_ses-2\ttest\n", encoding="utf-8")
    code, said = run("prepare", "freesurfer", tmp_path / "fs", "-o", tmp_path / "d", "--split", tmp_path / "split.tsv")
    assert code == 2 and "person sub-01 is in the splits train and test" in said
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("split", ["paper", "paper-by-person"])
def test_the_papers_split_on_other_data(tmp_path: Path, split: str) -> None:
    subject(tmp_path / "fs", "sub-01")
    code, said = run("prepare", "freesurfer", tmp_path / "fs", "-o", tmp_path / "data", "--split", split)
    assert code == 2 and "No scan is one of the 743 OASIS-3 sessions" in said
    assert not (tmp_path / "data").exists()


def test_the_papers_split_warns_and_is_named_in_what_comes_of_it(tmp_path: Path) -> None:
    for name in ("OAS31105_MR_d0259", "OAS30005_MR_d0581", "bert"):
        subject(tmp_path / "fs", name)
    code, said = run("prepare", "freesurfer", tmp_path / "fs", "-o", tmp_path / "data", "--split", "paper")
    assert code == 0, said
    assert (
        "77 of the 141 test people" in said and "bert left out: it is not one of the paper's OASIS-3 sessions" in said
    )
    dataset = open_dataset(tmp_path / "data")
    assert {one.id: one.split for one in dataset.scans} == {"OAS31105_MR_d0259": "test", "OAS30005_MR_d0581": "train"}
    assert "people of the test set are also trained on" in dataset.name
