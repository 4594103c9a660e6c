"""The on-disk training set: what is written comes back, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from uresnet.config import ConformSpec
from uresnet.errors import UserError
from uresnet.training.data.dataset import Scan, open_dataset, write_index, write_scan

SHAPE = (6, 4, 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    scans = [Scan("a1", "ann", "train"), Scan("a2", "ann", "train"), Scan("b", "bob", "val")]
    for scan in scans:
        write_scan(tmp_path, scan, rng.random(SHAPE), rng.choice([0, 2, 41, 1005, 2012, 17], SHAPE))
    write_index(tmp_path, SHAPE, scans, name="made up", conform={"shape": list(SHAPE), "multiple_of": 2})
    return tmp_path


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image, labels = rng.random(SHAPE), rng.choice([0, 2, 41, 16], SHAPE)
    write_scan(tmp_path, Scan("x", "x", "train"), image, labels)
    write_index(tmp_path, SHAPE, [Scan("x", "x", "train")])
    dataset = open_dataset(tmp_path)
    scan = dataset.of_split("train")[0]
    np.testing.assert_allclose(dataset.image(scan) * dataset.image_scale, image, atol=0.5 / 255 + 1e-9)
    np.testing.assert_array_equal(dataset.labels(scan), labels)


def test_arrays_are_mapped_not_read(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert isinstance(dataset.image(dataset.scans[0]), np.memmap)


def test_parcels_are_cortex(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert set(np.unique(dataset.labels(dataset.scans[0]))) == {0, 2, 3, 17, 41, 42}


def test_what_models_inherit_is_kept(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert dataset.name == "made up"
    assert dataset.conform == ConformSpec(shape=SHAPE, multiple_of=2)


def test_splits(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert [scan.id for scan in dataset.of_split("train")] == ["a1", "a2"]
    with pytest.raises(UserError, match="no scan of the split 'test'"):
        dataset.of_split("test")


def test_one_person_in_two_splits_is_refused(tmp_path: Path) -> None:
    scans = [Scan("a1", "ann", "train"), Scan("a2", "ann", "test")]
    with pytest.raises(UserError, match="person ann is in the splits train and test"):
        write_index(tmp_path, SHAPE, scans)
    assert not list(tmp_path.iterdir())


def test_one_person_in_two_splits_is_refused_when_opened(folder: Path) -> None:
    index = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    index["scans"][1]["split"] = "val"
    (folder / "dataset.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"dataset\.json: person ann"):
        open_dataset(folder)


def test_a_label_that_is_none_is_refused_and_nothing_written(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, int)
    labels[0, 0, 0] = 207
    with pytest.raises(UserError, match="labels of odd hold 207"):
        write_scan(tmp_path, Scan("odd", "x", "train"), np.zeros(SHAPE), labels)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a prepared data folder.*uresnet prepare"):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"scans": [{"id": 1}]}'])
def test_a_damaged_index(folder: Path, text: str) -> None:
    (folder / "dataset.json").write_text(text)
    with pytest.raises(UserError, match="is damaged; prepare the data again"):
        open_dataset(folder)


def test_a_later_format(folder: Path) -> None:
    index = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    (folder / "dataset.json").write_text(json.dumps(index | {"format": 2}))
    with pytest.raises(UserError, match="format 2"):
        open_dataset(folder)


@pytest.mark.parametrize("damage", ["missing", "truncated", "shape", "dtype"])
def test_damaged_arrays(folder: Path, damage: str) -> None:
    path = folder / "a1_image.npy"
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:150])
    else:
        np.save(path, np.zeros((6, 4, 7) if damage == "shape" else SHAPE, np.uint8 if damage == "shape" else np.int16))
    with pytest.raises(UserError, match=r"a1_image\.npy.*prepare the data again"):
        open_dataset(folder).image(Scan("a1", "ann", "train"))
