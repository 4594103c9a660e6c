"""A training set on a device: what is on disk is what is held, also on coarser voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uresnet.errors import UserError
from uresnet.training.data.dataset import PackedDataset, Scan, open_dataset, write_index, write_scan
from uresnet.training.data.store import load_other_contrasts, load_store

SHAPE = (6, 4, 8)


def test_a_store_holds_its_splits_in_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [Scan("a1", "ann", "train"), Scan("a2", "ann", "train"), Scan("b", "bob", "val")]
    for scan in scans:
        write_scan(tmp_path, scan, rng.random(SHAPE), rng.choice([0, 2, 41, 1005, 2012, 17], SHAPE))
    write_index(tmp_path, SHAPE, scans)
    dataset = open_dataset(tmp_path)
    store = load_store(dataset, ["train", "val"], "cpu")
    images, labels = store.batch([2, 0])
    assert [scan.id for scan in store.scans] == ["a1", "a2", "b"]
    np.testing.assert_array_equal(labels[0, 0], dataset.labels(dataset.scans[2]))
    np.testing.assert_allclose(images[1, 0], dataset.image(dataset.scans[0]) / 255, atol=1e-6)


def test_other_contrasts_come_with_their_t1_and_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    scans = [Scan("t1", "ann", "train"), Scan("flair", "ann", "train", has_t1=True), Scan("b", "bob", "val")]
    for scan in scans:
        t1 = rng.random(SHAPE) if scan.has_t1 else None
        write_scan(tmp_path, scan, rng.random(SHAPE), np.full(SHAPE, 77 if scan.has_t1 else 2), t1)
    write_index(tmp_path, SHAPE, scans)
    dataset = open_dataset(tmp_path)
    assert dataset.scans == tuple(scans)
    store, others = load_store(dataset, ["train"], "cpu"), load_other_contrasts(dataset, ["train"], "cpu")
    assert [scan.id for scan in store.scans] == ["t1"] and store.t1s is None
    assert others is not None and others.t1s is not None and [scan.id for scan in others.scans] == ["flair"]
    np.testing.assert_array_equal(others.t1s[0, 0], dataset.t1(scans[1]))
    np.testing.assert_array_equal(others.images[0, 0], dataset.image(scans[1]))
    assert others.labels.unique().tolist() == [77]
    assert load_other_contrasts(dataset, ["val"], "cpu") is None


def test_a_split_without_t1_weighted_scans(tmp_path: Path) -> None:
    scan = Scan("flair", "ann", "train", has_t1=True)
    write_scan(tmp_path, scan, np.ones(SHAPE), np.ones(SHAPE, int) * 2, np.ones(SHAPE))
    write_index(tmp_path, SHAPE, [scan])
    with pytest.raises(UserError, match="holds no T1-weighted scan of the split 'train'"):
        load_store(open_dataset(tmp_path), ["train"], "cpu")


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
