"""From files to a training set: conformed as in inference, labels in their places, reasons for what is left out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grids import GRIDS
from uresnet.config import ConformSpec
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io import read_image, write_image, write_labels
from uresnet.preprocess import conform, extract_brain
from uresnet.training.data.dataset import open_dataset
from uresnet.training.data.prepare import PrepareOptions, conformed_scan, prepare
from uresnet.training.data.sources import Skipped, Source, sources_from_subjects, sources_from_table

SPEC = ConformSpec(shape=(32, 36, 40), zooms=(4.0, 4.0, 4.0))
OPTIONS = PrepareOptions(spec=SPEC, method="none")
GRID = Grid.centred((40, 44, 38), (4, 4, 4), ("R", "A", "S"), (5, -10, 20))


def brain(grid: Grid = GRID, seed: int = 0, radius: float = 55.0) -> tuple[np.ndarray, np.ndarray]:
    """An ellipsoid about the grid's centre: left and right white matter in cortex, and one voxel-sharp left putamen."""
    world = grid.points_to_world(np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), -1))
    x, y, z = np.moveaxis(world - grid.centre_world, -1, 0)
    away = np.sqrt((x / radius) ** 2 + (y / (1.15 * radius)) ** 2 + (z / radius) ** 2)
    left = x < 0  # RAS: x grows to the right
    labels = np.select([away < 0.7, away < 1], [np.where(left, 2, 41), np.where(left, 3, 42)], 0)
    putamen = (np.abs(x + 0.35 * radius) < 12) & (np.abs(y) < 14) & (np.abs(z) < 12)
    labels[putamen] = 12
    noise = np.random.default_rng(seed).normal(0, 4, grid.shape)
    intensity = np.select([labels == 12, np.isin(labels, (2, 41)), labels > 0], [160, 200, 100], 0)
    return np.where(labels > 0, intensity + noise, 0).astype(np.float32), labels


def source(folder: Path, name: str, grid: Grid = GRID, split: str = "train", **more: object) -> Source:
    image, labels = brain(grid, seed=len(name))
    write_image(Image(torch.from_numpy(image), grid), folder / f"{name}.nii.gz")
    write_labels(LabelMap(torch.from_numpy(labels.astype(np.int16)), grid), folder / f"{name}_seg.nii.gz")
    return Source(name, name, split, folder / f"{name}.nii.gz", folder / f"{name}_seg.nii.gz", **more)  # type: ignore[arg-type]


def test_images_are_what_inference_makes_of_them(tmp_path: Path) -> None:
    one = source(tmp_path, "one")
    prepared = prepare([one, source(tmp_path, "two")], tmp_path / "data", OPTIONS)
    assert prepared.shape == SPEC.shape
    dataset = open_dataset(tmp_path / "data")
    image = read_image(one.image)
    expected = conform(image, extract_brain(image, "none")[0], SPEC).tensor[0, 0].numpy()
    found = dataset.image(dataset.scans[0]) * dataset.image_scale
    np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-6)
    assert dataset.conform == SPEC


def test_the_t1_of_another_contrast_lies_on_its_voxels(tmp_path: Path) -> None:
    """The table names an image with bright and dark exchanged, and its T1; both reach one grid, however large."""
    one = source(tmp_path, "one")
    t1 = read_image(one.image)
    inverted = torch.where(t1.data > 0, t1.data.max() + 1 - t1.data, torch.zeros(()))
    write_image(Image(inverted, t1.grid), tmp_path / "flair.nii.gz")
    table = tmp_path / "table.tsv"
    table.write_text(
        "image\tlabels\tt1\tsplit\nflair.nii.gz\tone_seg.nii.gz\tone.nii.gz\ttrain\none.nii.gz\tone_seg.nii.gz\t\ttrain\n"
    )
    prepared = prepare(sources_from_table(table), tmp_path / "data", OPTIONS)
    assert [scan.has_t1 for scan in prepared.scans] == [True, False]
    dataset = open_dataset(tmp_path / "data")
    flair, alone = dataset.scans
    np.testing.assert_array_equal(dataset.t1(flair), dataset.image(alone))
    inside = dataset.labels(flair) > 0
    assert np.corrcoef(dataset.t1(flair)[inside], dataset.image(flair)[inside])[0, 1] < -0.9
    again = prepare(sources_from_table(table), tmp_path / "data", OPTIONS)
    assert again.reused == 2
    (tmp_path / "elsewhere").mkdir()
    move = np.eye(4)
    move[0, 3] = 9
    shifted = Grid(t1.grid.shape, move @ t1.grid.voxel_to_world)
    write_image(Image(t1.data, shifted), tmp_path / "elsewhere" / "one.nii.gz")
    with pytest.raises(UserError, match="lies on another grid"):
        conformed_scan(replace(sources_from_table(table)[0], t1=tmp_path / "elsewhere" / "one.nii.gz"), OPTIONS)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS.keys())
def test_labels_lie_where_the_image_lies(grid: Grid, tmp_path: Path) -> None:
    """Whatever the axes, sizes and angles: left stays left, and each label lies on its brightness."""
    extent = np.array([170.0, 190.0, 170.0])
    directions = grid.voxel_to_world[:3, :3] / grid.zooms
    zooms = np.clip(grid.zooms * 2, 2.5, 5)
    shape = tuple(int(n) for n in np.ceil(np.abs(directions.T) @ extent / zooms))
    matrix = np.eye(4)
    matrix[:3, :3] = directions * zooms
    large = Grid(shape, matrix)  # type: ignore[arg-type]
    conformed, ids, _ = conformed_scan(source(tmp_path, "x", large), OPTIONS)
    assert ids.shape == conformed.grid.shape
    world = conformed.grid.points_to_world(np.argwhere(ids == 12)) - large.centre_world
    assert len(world) > 20
    np.testing.assert_allclose(world.mean(axis=0), [-0.35 * 55, 0, 0], atol=2.0)
    assert (conformed.grid.points_to_world(np.argwhere(ids == 2)) - large.centre_world)[:, 0].max() < 6
    assert (conformed.grid.points_to_world(np.argwhere(ids == 41)) - large.centre_world)[:, 0].min() > -6
    tensor = conformed.tensor[0, 0].numpy()
    # The array's first axis grows to the left: left structures have the higher indices.
    assert np.argwhere(ids == 2)[:, 0].mean() > np.argwhere(ids == 41)[:, 0].mean()
    assert tensor[np.isin(ids, (2, 41))].mean() > tensor[np.isin(ids, (3, 42))].mean() + 0.15
    # labelled is brain, up to the half voxel where both are interpolated
    assert ((ids > 0) != conformed.brain_mask.numpy()).mean() < 0.02


def test_what_cannot_be_used_is_left_out_with_its_reason(tmp_path: Path) -> None:
    good = [source(tmp_path, "a"), source(tmp_path, "bb")]
    moved = Grid.centred(GRID.shape, (4, 4, 4), ("R", "A", "S"), (9, -10, 20))
    elsewhere = source(tmp_path, "shifted")
    write_labels(LabelMap(torch.from_numpy(brain()[1].astype(np.int16)), moved), elsewhere.labels)
    strange = source(tmp_path, "strange")
    write_labels(LabelMap(torch.full(GRID.shape, 999, dtype=torch.int16), GRID), strange.labels)
    gone = Source("gone", "gone", "train", tmp_path / "no.nii", tmp_path / "no_seg.nii")
    before = Skipped("early", "it has no aseg")
    prepared = prepare([*good, elsewhere, strange, gone], tmp_path / "data", OPTIONS, [before])
    assert [s.id for s in prepared.scans] == ["a", "bb"]
    reasons = {s.id: s.reason for s in prepared.skipped}
    assert "lies on another grid than" in reasons["shifted"]
    assert "strange_seg.nii.gz holds 999" in reasons["strange"]
    assert "no.nii does not exist" in reasons["gone"]
    rows = (tmp_path / "data/skipped.tsv").read_text(encoding="utf-8").splitlines()
    assert [row.split("\t")[0] for row in rows] == ["id", "early", "shifted", "strange", "gone"]
    assert (tmp_path / "data/split.tsv").read_text(
        encoding="utf-8"
    ) == "id\tsubject\tsplit\na\ta\ttrain\nbb\tbb\ttrain\n"


def test_a_second_run_does_only_what_is_new_or_changed(tmp_path: Path) -> None:
    sources = [source(tmp_path, "a"), source(tmp_path, "bb")]
    prepare(sources, tmp_path / "data", OPTIONS)
    stamp = (tmp_path / "data/a_image.npy").stat().st_mtime_ns
    told: list[str] = []
    again = prepare([*sources, source(tmp_path, "ccc", split="val")], tmp_path / "data", OPTIONS, (), told.append)
    assert again.reused == 2
    assert told == ["a", "bb", "ccc"]
    assert (tmp_path / "data/a_image.npy").stat().st_mtime_ns == stamp
    assert [s.split for s in open_dataset(tmp_path / "data").scans] == ["train", "train", "val"]
    source(tmp_path, "bb", Grid.centred(GRID.shape, (4, 4, 4), ("L", "A", "S"), (0, 0, 0)))
    assert prepare(sources, tmp_path / "data", OPTIONS).reused == 1
    (tmp_path / "data/a_labels.npy").unlink()
    assert prepare(sources, tmp_path / "data", OPTIONS).reused == 1
    finer = PrepareOptions(spec=ConformSpec(shape=(32, 36, 40), zooms=(5.0, 5.0, 5.0)), method="none")
    assert prepare(sources, tmp_path / "data", finer).reused == 0


def test_a_brain_too_large_enlarges_all(tmp_path: Path) -> None:
    """One grid for all: the others are padded just as conforming to the larger grid would have placed them."""
    small = PrepareOptions(spec=ConformSpec(shape=(20, 20, 20), zooms=(4.0, 4.0, 4.0)), method="none")
    large, labels = brain(radius=70)
    write_image(Image(torch.from_numpy(large), GRID), tmp_path / "big.nii.gz")
    write_labels(LabelMap(torch.from_numpy(labels.astype(np.int16)), GRID), tmp_path / "big_seg.nii.gz")
    big = Source("big", "big", "train", tmp_path / "big.nii.gz", tmp_path / "big_seg.nii.gz")
    one = source(tmp_path, "one")
    prepared = prepare([one, big], tmp_path / "data", small)
    assert prepared.shape != conformed_scan(one, small)[0].grid.shape
    direct = PrepareOptions(spec=ConformSpec(shape=prepared.shape, zooms=(4.0, 4.0, 4.0)), method="none")
    prepare([one, big], tmp_path / "direct", direct)
    for name in ("one_image", "one_labels", "big_image", "big_labels"):
        a, b = (np.load(tmp_path / folder / f"{name}.npy") for folder in ("data", "direct"))
        np.testing.assert_array_equal(a, b)


def test_nothing_can_be_prepared(tmp_path: Path) -> None:
    gone = Source("gone", "gone", "train", tmp_path / "no.nii", tmp_path / "no_seg.nii")
    with pytest.raises(UserError, match=r"No scan could be prepared.*skipped\.tsv.*no\.nii does not exist"):
        prepare([gone], tmp_path / "data", OPTIONS)
    assert not (tmp_path / "data/dataset.json").exists()


def test_one_person_in_two_splits(tmp_path: Path) -> None:
    sources = [
        Source("a", "ann", "train", tmp_path / "x", tmp_path / "y"),
        Source("b", "ann", "test", tmp_path / "x", tmp_path / "y"),
    ]
    with pytest.raises(UserError, match="person ann is in the splits train and test"):
        prepare(sources, tmp_path / "data", OPTIONS)
    assert not (tmp_path / "data").exists()


def test_manual_labels_become_freesurfer_ids(tmp_path: Path) -> None:
    one = source(tmp_path, "one")
    manual = np.zeros(GRID.shape, np.int16)
    manual[16:20, 20:24, 16:20], manual[22:26, 20:24, 16:20] = 45, 44  # white matter, left at lower x in R-A-S
    manual[17:19, 10:13, 8:11], manual[23:25, 10:13, 8:11] = 39, 38  # cerebellum
    manual[18:23, 10:13, 12:14] = 71  # vermis, across the midline at i = 20.5
    write_labels(LabelMap(torch.from_numpy(manual), GRID), one.labels)
    options = PrepareOptions("neuromorphometrics", SPEC, "none")
    ids = conformed_scan(one, options)[1]
    counts = {int(v): int((ids == v).sum()) for v in np.unique(ids)}
    assert counts[2] == counts[41] == 64
    assert counts[8] == 18 + 18
    assert counts[47] == 18 + 12
    with pytest.raises(UserError, match=r"one_seg\.nii\.gz holds 38, which is not a known FreeSurfer id"):
        conformed_scan(one, OPTIONS)


def test_note_says_where_a_scan_lies(tmp_path: Path) -> None:
    one = source(tmp_path, "one")
    prepare([one, source(tmp_path, "two")], tmp_path / "data", OPTIONS)
    note = json.loads((tmp_path / "data/one_source.json").read_text(encoding="utf-8"))
    grid = Grid(tuple(note["shape"]), np.array(note["voxel_to_world"]))
    labels = np.load(tmp_path / "data/one_labels.npy")
    world = grid.points_to_world(np.argwhere(labels == 12)).mean(axis=0) - GRID.centre_world
    np.testing.assert_allclose(world, [-0.35 * 55, 0, 0], atol=2.5)


@pytest.mark.real
def test_a_real_freesurfer_subject(shared_data: Path) -> None:
    """A conformed FreeSurfer volume needs no interpolation: every label voxel is copied."""
    import nibabel as nib

    sources, skipped = sources_from_subjects(shared_data / "freesurfer_subject")
    assert not skipped
    assert sources[0].mask is not None
    conformed, ids, _ = conformed_scan(sources[0], PrepareOptions())
    assert "voxels copied without interpolation" in conformed.notes
    aseg = np.asanyarray(nib.MGHImage.from_filename(sources[0].labels).dataobj)
    for structure in (2, 41, 17, 53, 4, 43, 16):
        assert (ids == structure).sum() == (aseg == structure).sum()
    assert not (conformed.tensor[0, 0].numpy()[~conformed.brain_mask.numpy()] > 0.5).any()
