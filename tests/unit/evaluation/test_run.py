"""Judging models on prepared pairs: known answers on made-up brains, and what is wrong said in a sentence."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from typer.testing import CliRunner

from brains import COARSE
from uresnet.cli.main import app
from uresnet.config import ConformSpec
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import label_scheme
from uresnet.errors import UserError
from uresnet.evaluation.journal import Journal
from uresnet.evaluation.pairs import open_pairs
from uresnet.evaluation.run import Evaluation, evaluate
from uresnet.evaluation.scores import PairScores
from uresnet.io import read_labels, write_image, write_labels
from uresnet.model.checkpoint import load_model
from uresnet.pipeline.register import register
from uresnet.training.data.dataset import open_dataset
from uresnet.training.data.prepare import PrepareOptions, prepare
from uresnet.training.data.sources import Source
from uresnet.transform import Affine, resample

GRID = Grid.centred((44, 48, 42), (4, 4, 4), ("R", "A", "S"), (5, -10, 20))


def source(folder: Path, name: str, shift: tuple[int, int, int] = (0, 0, 0), stretch: float = 1.0) -> Source:
    """White matter in cortex, sided, with a left putamen; moved by whole voxels, drawn out along y."""
    world = GRID.points_to_world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1))
    x, y, z = np.moveaxis(world - GRID.centre_world, -1, 0)
    away = np.sqrt((x / 55) ** 2 + (y / (63 * stretch)) ** 2 + (z / 52) ** 2)
    left = x < 0
    labels = np.select([away < 0.7, away < 1], [np.where(left, 2, 41), np.where(left, 3, 42)], 0)
    labels[(np.abs(x + 20) < 12) & (np.abs(y) < 14) & (np.abs(z) < 12)] = 12
    image = np.select([labels == 12, np.isin(labels, (2, 41)), labels > 0], [160.0, 200.0, 100.0], 0.0)
    image, labels = (np.roll(a, shift, (0, 1, 2)) for a in (image, labels))
    write_image(Image(torch.from_numpy(image), GRID), folder / f"{name}.nii.gz")
    write_labels(LabelMap(torch.from_numpy(labels.astype(np.int16)), GRID), folder / f"{name}_seg.nii.gz")
    return Source(name, name, "test", folder / f"{name}.nii.gz", folder / f"{name}_seg.nii.gz")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One brain, the same brain elsewhere, and a longer one."""
    folder = tmp_path_factory.mktemp("data")
    sources = [source(folder, "a"), source(folder, "b", (2, -1, 1)), source(folder, "c", stretch=1.1)]
    prepare(sources, folder / "data", PrepareOptions(spec=COARSE, method="none", name="blobs"))
    return folder / "data"


@pytest.fixture(scope="module")
def judged(data: Path, still_model: Path) -> Evaluation:
    """Four pairs, judged in one go."""
    dataset, pairs = open_pairs(data, "test", 4)
    return evaluate([still_model], dataset, pairs)


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["evaluate", *map(str, arguments)])
    return result.exit_code, result.output + result.stderr


def test_pairs_are_a_ring_and_each_is_followed_by_itself_swapped(data: Path) -> None:
    _, pairs = open_pairs(data, "test")
    names = [moving.id + fixed.id for moving, fixed in pairs]
    assert names == ["ab", "ba", "bc", "cb", "ca", "ac"]
    assert [moving.id + fixed.id for moving, fixed in open_pairs(data, "test", 3)[1]] == names[:3]


def test_a_brain_moved_by_whole_voxels_is_brought_back_exactly(judged: Evaluation) -> None:
    for pair in judged.scores[:2]:
        there = {s.structure: s for s in pair.structures if s.scheme == "table1" and s.dice == s.dice}
        assert set(there) == {"CeblWM", "CeblC", "Pu"}
        assert all((s.dice, s.hd95_mm, s.mean_mm) == (1, 0, 0) for s in there.values())
        assert pair.dice("freesurfer28")["Left-Putamen"] == 1
        assert pair.folding_fraction == 0 and pair.sd_log_jacobian < 1e-6
        assert pair.inverse_max_mm < 1e-3 and pair.consistency_mm is not None and pair.consistency_mm < 1e-3


def test_scores_of_a_deformation_against_scipy(data: Path, tiny_model: Path) -> None:
    """Warped one-hot maps by scipy at the points that the transform names, arg-max, Dice by counting."""
    dataset, pairs = open_pairs(data, "test")
    ca = [pairs[4]]
    found = evaluate([tiny_model], dataset, ca).scores[0]
    assert found.consistency_mm is None  # the swapped pair was not asked for
    moving, fixed = ca[0]
    volumes = [dataset.labels(scan).astype(int) for scan in (moving, fixed)]
    images = [
        Image(torch.from_numpy(dataset.image(s) * dataset.image_scale), dataset.grid(s), s.id) for s in (moving, fixed)
    ]
    done = register(*images, model=tiny_model, brain="none")
    index = np.stack(np.meshgrid(*map(np.arange, dataset.shape), indexing="ij"), -1).reshape(-1, 3)
    points = done.transform.apply(torch.from_numpy(images[1].grid.points_to_world(index))).numpy()
    where = images[0].grid.points_to_voxel(points).T
    ids = np.unique(volumes[0])
    shares = [ndimage.map_coordinates((volumes[0] == i).astype(float), where, order=1, mode="nearest") for i in ids]
    warped = ids[np.argmax(shares, axis=0)].reshape(dataset.shape)
    for structure in label_scheme("table1").classes:
        if structure.abbreviation in ("CeblWM", "CeblC", "Pu"):
            a, b = np.isin(warped, structure.ids), np.isin(volumes[1], structure.ids)
            assert found.dice()[structure.abbreviation] == pytest.approx(
                2 * (a & b).sum() / (a.sum() + b.sum()), abs=2e-3
            )
    assert 0.3 < found.mean("dice") < 0.999
    predicted, truth = done.moving_segmentation.data.numpy(), volumes[0]
    for name, id_ in (("CeblWM", 2), ("CeblC", 3)):
        a, b = np.isin(predicted, id_), np.isin(truth, (id_, id_ + 39))
        assert found.segmentation[name] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()), abs=1e-9)


def test_a_model_with_its_own_grid_is_judged_in_the_world(data: Path, tmp_path: Path) -> None:
    """Data on 4 mm voxels, and a model that wants 1 mm: centre of mass on centre of mass, to less than a voxel."""
    dataset, pairs = open_pairs(data, "test", 2)
    found = evaluate(["translation"], dataset, pairs).scores
    assert [pair.model for pair in found] == ["Rigid", "Rigid"]
    for pair in found:
        assert pair.mean("dice") > 0.97 and pair.segmentation == {}
        assert pair.sd_log_jacobian == pytest.approx(0, abs=1e-6) and pair.consistency_mm < 1


def test_a_padded_scan_lies_where_it_lay(tmp_path: Path) -> None:
    sources = [source(tmp_path, "a"), source(tmp_path, "long", stretch=1.35)]
    prepare(sources, tmp_path / "data", PrepareOptions(spec=ConformSpec((28, 28, 32), (4, 4, 4)), method="none"))
    dataset = open_dataset(tmp_path / "data")
    note = json.loads((tmp_path / "data" / "a_source.json").read_text(encoding="utf-8"))
    assert dataset.shape > tuple(note["shape"])
    scan = dataset.scans[0]
    packed = LabelMap(torch.from_numpy(dataset.labels(scan).astype(np.int16)), dataset.grid(scan))
    given = read_labels(sources[0].labels)
    assert torch.equal(resample(Affine.identity(), packed, given.grid, "nearest").data.long(), given.data.long())


def test_the_command_writes_tables(data: Path, still_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, said = run(data, "-m", still_model, "-m", tiny_model, "--pairs", 2, "-o", out, "--device", "cpu")
    assert code == 0, said
    assert "mean of 15" in said
    with (out / "pairs.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 and len({row["model"] for row in rows}) == 2
    assert all(float(row["seconds"]) > 0 for row in rows)
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert record["pairs"] == [["a", "b"], ["b", "a"]] and len(record["models"]) == 2
    assert sorted(p.name for p in out.iterdir()) == sorted(record["files"])
    code, said = run(data, "-m", still_model, "-o", out)
    assert code == 2 and "exists already" in said


def test_a_stopped_evaluation_goes_on_with_what_is_missing(
    data: Path, still_model: Path, judged: Evaluation, tmp_path: Path
) -> None:
    dataset, pairs = open_pairs(data, "test", 4)

    class Stop(Exception):
        pass

    def stop_after_two(pair: PairScores) -> None:
        reported.append(pair)
        if len(reported) == 2:
            raise Stop

    reported: list[PairScores] = []
    with pytest.raises(Stop):
        evaluate([still_model], dataset, pairs, progress=stop_after_two, journal=Journal(tmp_path / "out", dataset))
    journal = Journal(tmp_path / "out", dataset)
    with journal.path.open("a", encoding="utf-8") as file:
        file.write(journal.path.read_text(encoding="utf-8")[:100])  # as a kill leaves it
    rest: list[PairScores] = []
    resumed = evaluate([still_model], dataset, pairs, progress=rest.append, journal=journal)
    assert [(pair.moving, pair.fixed) for pair in rest] == [("b", "c"), ("c", "b")]
    for a, b in zip(resumed.scores, judged.scores, strict=True):
        same: dict[str, Any] = {"seconds": 0.0, "peak_bytes": None}
        # NaN is no number that equals itself; text is.
        assert repr(replace(a, **same)) == repr(replace(b, **same))
    code, said = run(data, "-m", still_model, "--pairs", 4, "-o", tmp_path / "out", "--device", "cpu")
    assert code == 0 and not journal.path.exists(), said


def test_a_pair_whose_swapped_one_was_not_noted_is_registered_again(
    data: Path, still_model: Path, tmp_path: Path
) -> None:
    """A kill between the two notes; the consistency error needs both transforms."""
    dataset, pairs = open_pairs(data, "test", 2)
    journal = Journal(tmp_path / "out", dataset)
    whole = evaluate([still_model], dataset, pairs, journal=journal)
    journal.path.write_text(journal.path.read_text(encoding="utf-8").splitlines(keepends=True)[0], encoding="utf-8")
    resumed = evaluate([still_model], dataset, pairs, journal=journal)
    assert [(pair.moving, pair.fixed) for pair in resumed.scores] == [("a", "b"), ("b", "a")]
    assert [pair.consistency_mm for pair in resumed.scores] == [pair.consistency_mm for pair in whole.scores]


def test_a_journal_of_other_data_or_another_model_is_not_taken_up(
    data: Path, still_model: Path, tiny_model: Path, tmp_path: Path
) -> None:
    dataset, pairs = open_pairs(data, "test", 1)
    journal = Journal(tmp_path / "out", dataset)
    evaluate([still_model], dataset, pairs, journal=journal)
    assert len(journal.known("x", load_model(still_model))) == 1
    assert journal.known("x", load_model(tiny_model)) == []
    prepare(
        [source(tmp_path, "a"), source(tmp_path, "d")], tmp_path / "data", PrepareOptions(spec=COARSE, method="none")
    )
    other = Journal(tmp_path / "out", open_dataset(tmp_path / "data"))
    assert other.path == journal.path and other.known("x", load_model(still_model)) == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["-m", "paper", "--split", "train"], "holds no scan of the split 'train'"),
        (["-m", "nonsense"], "There is no model nonsense"),
        ([], "--model is missing"),
    ],
)
def test_what_is_wrong_is_a_sentence(data: Path, tmp_path: Path, arguments: list[str], sentence: str) -> None:
    code, said = run(data, *arguments, "-o", tmp_path / "out")
    assert code == 2 and sentence in " ".join(said.split())
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_data_and_a_single_scan(tmp_path: Path) -> None:
    code, said = run(tmp_path, "-m", "paper", "-o", tmp_path / "out")
    assert code == 2 and "is not a prepared data folder" in said
    prepare([source(tmp_path, "a")], tmp_path / "data", PrepareOptions(spec=COARSE, method="none"))
    code, said = run(tmp_path / "data", "-m", "paper", "-o", tmp_path / "out")
    assert code == 2 and "a single scan in the split 'test'" in said
    (tmp_path / "data" / "a_source.json").write_text("{", encoding="utf-8")
    dataset = open_dataset(tmp_path / "data")
    with pytest.raises(UserError, match=r"a_source\.json; prepare the data again"):
        dataset.grid(dataset.scans[0])


def test_an_evaluation_into_its_own_data_is_refused_and_options_named_are_its_own(data: Path, tmp_path: Path) -> None:
    code, said = run(data, "-o", data, "--model", "translation", "--overwrite")
    assert code == 2 and "is an input, and lies in the folder for the results" in said
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pairs.csv").write_text("mine")
    code, said = run(data, "-o", tmp_path / "out", "--model", "translation", "--overwrite")
    assert code == 2 and "pairs.csv is there already and may not be replaced" in said
    code, said = run(tmp_path, "-o", tmp_path / "new", "--model", "translation")
    assert code == 2 and "give another folder" in said and "--data" not in said
