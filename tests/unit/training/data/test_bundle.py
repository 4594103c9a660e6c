"""A training set as one file: that it comes back whole, trains the same, and that damage is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from label_maps import write_map
from small_training import STILL, blobs
from uresnet.cli.main import app
from uresnet.config import Config, ConformSpec, ContrastConfig, SegmenterConfig, TrainingConfig
from uresnet.errors import UserError
from uresnet.training.data.bundle import Extras, open_bundle, write_bundle
from uresnet.training.data.dataset import PackedDataset, Scan, open_dataset, write_index, write_scan
from uresnet.training.parallel import Team
from uresnet.training.run import RunOptions, open_training

SHAPE = (48, 48, 48)


@pytest.fixture
def data(tmp_path: Path) -> PackedDataset:
    folder = tmp_path / "data"
    folder.mkdir()
    store = blobs(3)
    scans = [Scan(f"s{n}", f"p{n}", "train", has_t1=n == 2) for n in range(3)]
    for scan, image, labels in zip(scans, store.images, store.labels, strict=True):
        padded = [np.pad(volume[0].numpy(), [(0, 48 - n) for n in volume.shape[1:]]) for volume in (image, labels)]
        write_scan(folder, scan, padded[0] / 255, padded[1], 1 - padded[0] / 255 if scan.has_t1 else None)
    spec = {"shape": list(SHAPE), "axis_codes": ["R", "A", "S"], "centre": "box", "normalisation": "percentile"}
    write_index(folder, SHAPE, scans, conform=spec, name="blobs", licence="none")
    return open_dataset(folder)


def test_what_goes_in_comes_out(data: PackedDataset, tmp_path: Path) -> None:
    extras = Extras(torch.randint(0, 60, (2, 1, 4, 5, 6)).to(torch.uint8), (torch.ones((2, 3, 4), dtype=torch.uint8),))
    names: list[str] = []
    size = write_bundle(data, extras, tmp_path / "b.tar.xz", 10**7, names.append)
    assert size == (tmp_path / "b.tar.xz").stat().st_size and len(names) == 2 * 3 + 1 + 1 + 1
    found, others = open_bundle(tmp_path / "b.tar.xz")
    assert replace(found, folder=data.folder, arrays=None) == data
    for scan in data.scans:
        assert np.array_equal(found.image(scan), data.image(scan))
        assert np.array_equal(found.labels(scan), data.labels(scan))
    assert np.array_equal(found.t1(data.scans[2]), data.t1(data.scans[2]))
    assert others.label_maps is not None and extras.label_maps is not None
    assert torch.equal(others.label_maps, extras.label_maps)
    assert [shape.tolist() for shape in others.shapes] == [shape.tolist() for shape in extras.shapes]


def test_one_that_is_too_large_is_not_kept(data: PackedDataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"more than 0; bundle fewer scans or label maps, or allow more with (--|)most"):
        write_bundle(data, Extras(), tmp_path / "b.tar.xz", 100)
    assert not list(tmp_path.glob("*.xz"))


@pytest.mark.parametrize("damage", ["cut", "text", "no index"])
def test_damaged_bundles_are_refused(damage: str, data: PackedDataset, tmp_path: Path) -> None:
    path = tmp_path / "b.tar.xz"
    write_bundle(data, Extras(), path, 10**7)
    content = path.read_bytes()
    path.write_bytes({"cut": content[: len(content) // 2], "text": b"no archive", "no index": b""}[damage])
    with pytest.raises(UserError, match="neither a data folder nor a whole bundle"):
        open_bundle(path)


def test_commands_make_it_and_the_training_takes_label_maps_and_shapes_from_it(
    data: PackedDataset, tmp_path: Path
) -> None:
    (tmp_path / "maps").mkdir()
    write_map(tmp_path / "maps" / "a.nii.gz")
    write_map(tmp_path / "maps" / "mask.nii.gz")  # any label map is a mask of what it holds
    path, maps = tmp_path / "b.tar.xz", str(tmp_path / "maps")
    arguments = ["prepare", "bundle", str(data.folder), "-o", str(path), "--label-maps", maps, "--stroke-masks", maps]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output + done.stderr
    assert "3 scans, 2 label maps, 2 masks" in done.output
    network = SegmenterConfig(channels=(4, 4), blocks=(1, 1), hidden=4, classes=35, synthesis=4)
    config = Config(
        segmenter=network,
        blocks=replace(STILL, synthetic=1.0),
        contrasts=ContrastConfig(),
        training=TrainingConfig(optimiser="muon"),
    )
    trainers = [
        open_training(c, RunOptions(source, tmp_path / "run"), "cpu", Team(), lambda event: None)
        for c, source in (
            (config, path),
            (
                replace(
                    config,
                    blocks=replace(config.blocks, label_maps=maps),
                    contrasts=replace(ContrastConfig(), stroke_masks=maps),
                ),
                data.folder,
            ),
        )
    ]
    assert trainers[0].step() == trainers[1].step()
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 2 and "exists already" in again.output + again.stderr
    assert (
        ConformSpec(shape=SHAPE, axis_codes=("R", "A", "S"), centre="box", normalisation="percentile") == data.conform
    )
