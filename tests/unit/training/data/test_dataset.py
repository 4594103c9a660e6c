"""The on-disk training set: what is written comes back, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from uresnet.config import ConformSpec
from uresnet.core.labels import label_scheme
from uresnet.errors import UserError
from uresnet.training.data.dataset import (
    PackedDataset,
    Scan,
    class_shares,
    class_table,
    load_store,
    open_dataset,
    write_index,
    write_scan,
)

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
    assert [s.id for s in dataset.of_split("train")] == ["a1", "a2"]
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
        load_store(open_dataset(folder), ["train"], "cpu")


def test_a_store_holds_its_splits_in_order(folder: Path) -> None:
    dataset = open_dataset(folder)
    store = load_store(dataset, ["train", "val"], "cpu")
    images, labels = store.batch([2, 0])
    assert [s.id for s in store.scans] == ["a1", "a2", "b"]
    np.testing.assert_array_equal(labels[0, 0], dataset.labels(dataset.scans[2]))
    np.testing.assert_allclose(images[1, 0], dataset.image(dataset.scans[0]) / 255, atol=1e-6)


def test_blocks_are_means_and_labels_stay_fine(tmp_path: Path) -> None:
    image, labels = np.zeros((2, 2, 4)), np.zeros((2, 2, 4), int)
    image[0, 0, 0], image[1, 1, 1] = 1.0, 0.6  # first block: mean 0.2
    labels[:, :, 0], labels[0, 0, 1] = 2, 3
    write_scan(tmp_path, Scan("x", "x", "train"), image, labels)
    store = load_store(PackedDataset(tmp_path, (2, 2, 4), 1 / 255, (Scan("x", "x", "train"),)), ["train"], "cpu")
    coarse = store.downsampled(2)
    assert coarse.downsampling == 2
    images, fine = coarse.batch([0])
    np.testing.assert_allclose(images.ravel(), [0.2, 0], atol=1 / 255)
    np.testing.assert_array_equal(fine[0, 0], labels)
    assert store.downsampled(1) is store


def test_shares_of_blocks() -> None:
    """A block of four voxels of white matter, one of cortex and three of nothing; another of nothing."""
    labels = torch.zeros((1, 1, 2, 2, 4), dtype=torch.uint8)
    labels[..., 0], labels[..., 0, 0, 1] = 2, 3
    shares = class_shares(labels, class_table(label_scheme("tissue3")), 4, 2)
    assert shares.shape == (1, 4, 1, 1, 2)
    torch.testing.assert_close(shares[0, :, 0, 0].T, torch.tensor([[3 / 8, 4 / 8, 1 / 8, 0], [1, 0, 0, 0]]))


def test_classes_of_ids() -> None:
    scheme = label_scheme("tissue3")
    labels = torch.tensor([0, 2, 41, 3, 42, 4, 43, 17, 255], dtype=torch.uint8).view(1, 1, 1, 1, 9)
    table = class_table(scheme)
    assert table[labels.long()].flatten().tolist() == [0, 1, 1, 2, 2, 3, 3, 0, 0]
    channels = class_shares(labels, table, scheme.number_of_classes)
    assert channels.shape == (1, 4, 1, 1, 9)
    assert channels.sum(dim=(0, 2, 3, 4)).tolist() == [3, 2, 2, 2]
    assert channels[0, 2, 0, 0, 3] == 1
