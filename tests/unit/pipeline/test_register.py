"""A pair from files to results: closed forms, SimpleITK reading what was written, every way round a file can lie."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import torch

from brains import COARSE, FIELDS_OF_VIEW, brain_on, write_nifti, write_tiny_model
from grids import turned
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.pipeline.register import register

FILES = {
    "warped.nii.gz",
    "transform.h5",
    "inverse_transform.h5",
    "moving_dseg.nii.gz",
    "fixed_dseg.nii.gz",
    "warped_dseg.nii.gz",
    "jacobian.nii.gz",
    "volumes.tsv",
    "dseg.tsv",
    "dseg_freeview.txt",
    "dseg_slicer.ctbl",
    "dseg_itksnap.txt",
    "run.json",
}
FIXED = turned(Grid.centred((52, 54, 48), (3.8, 3.9, 3.6), "LAS", (5.0, 20.0, -30.0)), (-6.0, 9.0, 14.0))


@pytest.fixture(scope="module", params=list(FIELDS_OF_VIEW.values()), ids=list(FIELDS_OF_VIEW))
def moving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain that lies in its file in each way round."""
    path = tmp_path_factory.mktemp("moving") / "moving.nii.gz"
    return write_nifti(brain_on(request.param), request.param, path)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another field of view, oblique and anisotropic, with the brain elsewhere in the world."""
    path = tmp_path_factory.mktemp("fixed") / "fixed.nii.gz"
    return write_nifti(brain_on(FIXED, (6.0, 18.0, -28.0)), FIXED, path)


@pytest.fixture(scope="module")
def written(moving: Path, fixed: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished registration."""
    folder = tmp_path_factory.mktemp("written") / "out"
    register(moving, fixed, model=tiny_model).save(folder, report=False)
    return folder


def test_the_files_say_what_simpleitk_makes_of_them(written: Path, moving: Path, fixed: Path) -> None:
    assert {p.name for p in written.iterdir()} >= FILES
    m, f = sitk.ReadImage(str(moving)), sitk.ReadImage(str(fixed))
    there = sitk.ReadTransform(str(written / "transform.h5"))
    expected = sitk.GetArrayFromImage(sitk.Resample(m, f, there, sitk.sitkLinear, 0.0))
    found = sitk.GetArrayFromImage(sitk.ReadImage(str(written / "warped.nii.gz")))
    # Both interpolate linearly, and the file's displacements are rounded to 1/128 mm: up to 0.5 where two voxels of
    # 4 mm differ by 100. They differ by more where a point falls within rounding of a face.
    assert np.mean(np.abs(found - expected) > 0.5) < 1e-3

    back = sitk.ReadTransform(str(written / "inverse_transform.h5"))
    brain = sitk.GetArrayFromImage(f) > 0
    where = [f.TransformIndexToPhysicalPoint([int(v) for v in index[::-1]]) for index in np.argwhere(brain)[::97]]
    miss = [np.linalg.norm(np.subtract(back.TransformPoint(there.TransformPoint(p)), p)) for p in where]
    # The exact inverse between voxels of 4 mm is not a trilinear field; what the record says is what SimpleITK finds.
    said = json.loads((written / "run.json").read_text(encoding="utf-8"))["measures"]["inverse_residual_mm"]
    assert max(miss) < 1.0
    assert np.mean(miss) == pytest.approx(said["mean"], rel=0.2)


def test_every_output_is_on_the_right_grid(written: Path, moving: Path, fixed: Path) -> None:
    homes = {"moving_dseg": moving, "fixed_dseg": fixed, "warped": fixed, "warped_dseg": fixed, "jacobian": fixed}
    for name, home in homes.items():
        image, like = nib.Nifti1Image.from_filename(written / f"{name}.nii.gz"), nib.Nifti1Image.from_filename(home)
        assert image.shape == like.shape, name
        np.testing.assert_allclose(image.affine, like.affine, atol=1e-4, err_msg=name)
        assert image.get_data_dtype() == (np.int16 if "dseg" in name else np.float32)
        if "dseg" in name:
            assert set(np.unique(np.asanyarray(image.dataobj))) <= {0, 2, 3, 4}


def test_the_jacobian_is_the_volume_change_of_the_written_transform(written: Path) -> None:
    image = sitk.ReadImage(str(written / "jacobian.nii.gz"))
    there = sitk.ReadTransform(str(written / "transform.h5"))
    values = nib.Nifti1Image.from_filename(written / "jacobian.nii.gz")
    data = np.asanyarray(values.dataobj)
    size = np.array(data.shape)
    for voxel in np.random.default_rng(1).integers(15, size - 15, (20, 3)):
        ends = []
        for axis in range(3):
            step = np.eye(3, dtype=int)[axis]
            ahead, behind = (image.TransformIndexToPhysicalPoint((voxel + s * step).tolist()) for s in (1, -1))
            ends.append(np.subtract(there.TransformPoint(ahead), there.TransformPoint(behind)) / 2)
        directions = np.array(values.affine[:3, :3])
        expected = abs(np.linalg.det(np.array(ends))) / abs(np.linalg.det(directions))
        assert abs(data[tuple(voxel)] - expected) < 2e-3


def test_volumes_are_those_of_the_label_maps(written: Path) -> None:
    rows = [line.split("\t") for line in (written / "volumes.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[0] == ["index", "name", "moving_mm3", "fixed_mm3", "moving_predicted_dice", "fixed_predicted_dice"]
    assert {cell for row in rows[1:] for cell in row[4:]} == {"n/a"}  # nobody has calibrated this model
    for column, name in ((2, "moving"), (3, "fixed")):
        image = nib.Nifti1Image.from_filename(written / f"{name}_dseg.nii.gz")
        voxel = abs(np.linalg.det(image.affine[:3, :3]))
        for row in (row for row in rows[1:] if row[0] != "n/a"):
            count = int((np.asanyarray(image.dataobj) == int(row[0])).sum())
            assert abs(float(row[column]) - count * voxel) < 0.06 + 1e-5 * count * voxel


def test_the_record_tells_the_run(written: Path, tiny_model: Path, moving: Path) -> None:
    record = json.loads((written / "run.json").read_text(encoding="utf-8"))
    assert set(record["files"]) == {p.name for p in written.iterdir()}
    assert record["model"]["name"] == "tiny" and len(record["model"]["sha256"]) == 64
    assert record["inputs"]["moving"]["path"] == str(moving)
    assert {"uresnet", "torch", "python"} <= set(record["versions"])
    assert {"couple", "invert", "warp", "total"} <= set(record["seconds"])
    measures = record["measures"]
    assert measures["folding_fraction"] == 0
    assert 0 < measures["sd_log_jacobian"] < 0.5
    assert 0 <= measures["inverse_residual_mm"]["mean"] <= measures["inverse_residual_mm"]["max"] < 1.0
    assert measures["brain_overlap"]["before"] < measures["brain_overlap"]["after"]
    assert record["warnings"] == []


def test_a_network_at_rest_aligns_the_brains_and_nothing_else(still_model: Path, moving: Path, fixed: Path) -> None:
    result = register(moving, fixed, model=still_model)
    points = torch.tensor([[0.0, 0.0, 0.0], [30.0, -20.0, 10.0], [-25.0, 40.0, -30.0]], dtype=torch.float64)
    moved = result.transform.apply(points + torch.tensor([6.0, 18.0, -28.0]))
    # Centres of mass of a coarsely sampled brain: within a fraction of a voxel of where it was put.
    assert float((moved - points).norm(dim=1).max()) < 1.0
    shifts = moved - points
    torch.testing.assert_close(shifts, shifts[:1].expand(3, 3), atol=1e-4, rtol=0)
    assert result.measures.overlap_after > 0.97 > result.measures.overlap_before


def test_whole_voxels_move_exactly(still_model: Path, tmp_path: Path) -> None:
    grid = Grid.centred((44, 50, 40), (4.0, 4.0, 4.0), "RAS", (0.0, 0.0, 0.0))
    moved = Grid(grid.shape, grid.voxel_to_world.copy())
    shift = np.array([8.0, -12.0, 4.0])  # whole voxels
    first = write_nifti(brain_on(grid), grid, tmp_path / "m.nii.gz")
    second = write_nifti(brain_on(moved, tuple(shift)), moved, tmp_path / "f.nii.gz")
    result = register(first, second, model=still_model)
    points = torch.from_numpy(np.random.default_rng(2).uniform(-50, 50, (50, 3)))
    torch.testing.assert_close(result.transform.apply(points), points - torch.from_numpy(shift), atol=1e-4, rtol=0)
    torch.testing.assert_close(result.warped.data, torch.from_numpy(brain_on(moved, tuple(shift))), atol=1e-3, rtol=0)


@pytest.mark.parametrize("freedom", ["affine", "rigid", "deformable"])
def test_what_may_move_is_all_that_moves(tiny_model: Path, fixed: Path, tmp_path: Path, freedom: str) -> None:
    grid = FIELDS_OF_VIEW["LPS"]
    source = write_nifti(brain_on(grid), grid, tmp_path / "m.nii.gz")
    result = register(source, fixed, model=tiny_model, transform=freedom)  # type: ignore[arg-type]
    linear = result.transform.parts[-1].matrix[:3, :3]  # type: ignore[attr-defined]
    assert len(result.transform.parts) == (2 if freedom == "deformable" else 1)
    if freedom == "rigid":
        np.testing.assert_allclose(linear @ linear.T, np.eye(3), atol=1e-9)
        assert abs(linear - np.eye(3)).max() > 0.01
    elif freedom == "affine":
        assert abs(linear @ linear.T - np.eye(3)).max() > 0.01
    else:
        np.testing.assert_allclose(linear, np.eye(3), atol=1e-6)


def test_a_model_without_segmentation_registers_only(fixed: Path, tmp_path: Path) -> None:
    moving = write_nifti(brain_on(FIELDS_OF_VIEW["LAS"]), FIELDS_OF_VIEW["LAS"], tmp_path / "m.nii.gz")
    model = write_tiny_model(tmp_path / "r.safetensors", deforms=True, segmentation=False)
    register(moving, fixed, model=model).save(tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {name for name in FILES if "dseg" not in name and name != "volumes.tsv"}
    assert not [name for name in names if "dseg" in name or "volumes" in name]


def test_images_in_memory_give_what_files_give(tiny_model: Path, fixed: Path, tmp_path: Path) -> None:
    grid = FIELDS_OF_VIEW["LAS"]
    moving = write_nifti(brain_on(grid), grid, tmp_path / "m.nii.gz")
    mask = write_nifti((brain_on(grid) > 0).astype(np.uint8), grid, tmp_path / "mask.nii.gz")
    expected = register(moving, fixed, model=tiny_model, masks=(mask, None))
    held = (brain_on(grid) > 0, grid.voxel_to_world)
    result = register(sitk.ReadImage(str(moving)), nib.load(fixed), model=tiny_model, masks=(held, None), threads=1)
    torch.testing.assert_close(result.warped.data, expected.warped.data, atol=0.02, rtol=0)
    assert result.record.inputs["fixed"].path == str(fixed) and result.record.inputs["moving"].path == ""
    assert repr(result).startswith("<Registration of moving image to fixed.nii.gz by tiny: ")
    given_back = sitk.GetArrayFromImage(result.to_sitk("warped"))
    np.testing.assert_array_equal(given_back.transpose(2, 1, 0), result.numpy())
    assert result.to_nibabel("fixed_segmentation").shape == FIXED.shape
    assert result.verdict is not None and result.reasons == result.record.quality.reasons
    with pytest.raises(UserError, match=r"Registration has no image 'wraped'; choose one of warped, jacobian"):
        result.numpy("wraped")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"moving": 3}, "uresnet.register: moving is of type int; give a path"),
        ({"masks": "mask.nii.gz"}, "uresnet.register: masks is of type str; give"),
        ({"masks": (1, None)}, "uresnet.register: mask is of type int"),
        ({"transform": "bend"}, "uresnet.register: transform is 'bend'; give 'joint', "),
        ({"threads": 0}, "uresnet.register: threads is 0; give"),
        ({"threads": "2"}, "uresnet.register: threads is '2'; give"),
        ({"device": "tpu"}, "uresnet.register: There is no device tpu; choose auto"),
        ({"device": "cuda:99"}, 'uresnet.register: cuda:99 is not here: .* try device="cpu"'),
        ({"device": 1}, "uresnet.register: device is 1; give"),
        ({"progress": 3}, "uresnet.register: progress is 3; give a function"),
        ({"model": 5}, "uresnet.register: model is 5; give"),
    ],
)
def test_mistakes_name_the_function(wrong: dict, sentence: str, fixed: Path, tiny_model: Path) -> None:
    arguments = {"moving": fixed, "fixed": fixed, "model": tiny_model} | wrong
    with pytest.raises(UserError, match=sentence):
        register(**arguments)


def test_a_brain_larger_than_the_network_grid_is_not_cut(tiny_model: Path, tmp_path: Path) -> None:
    wide = Grid.centred((70, 60, 50), (4.0, 4.0, 4.0), "LIA", (0.0, 0.0, 0.0))
    voxels = np.stack(np.meshgrid(*map(np.arange, wide.shape), indexing="ij"), axis=-1)
    world = wide.points_to_world(voxels)
    data = np.where(((world / [100.0, 80.0, 60.0]) ** 2).sum(axis=-1) <= 1, 80 + world[..., 0] / 4, 0)
    large = write_nifti(data.astype(np.float32), wide, tmp_path / "large.nii.gz")
    small_grid = FIELDS_OF_VIEW["RAS"]
    small = write_nifti(brain_on(small_grid), small_grid, tmp_path / "small.nii.gz")
    for pair in ((large, small), (small, large)):
        record = register(*pair, model=tiny_model, brain="none").record
        shapes = {image.conformed_shape for image in record.inputs.values()}
        assert len(shapes) == 1 and next(iter(shapes))[0] * COARSE.zooms[0] > 200


def test_distant_headers_are_bridged_with_a_warning(still_model: Path, fixed: Path, tmp_path: Path) -> None:
    grid = Grid.centred((46, 54, 44), (3.9, 3.8, 3.6), "RAS", (400.0, 0.0, 0.0))
    far = write_nifti(brain_on(grid, (400.0, 0.0, 0.0)), grid, tmp_path / "far.nii.gz")
    result = register(far, fixed, model=still_model)
    assert result.measures.overlap_after > 0.97
    assert len(result.warnings) == 1 and "do not overlap" in result.warnings[0]


def test_masks_must_belong_to_their_image(tiny_model: Path, fixed: Path, tmp_path: Path) -> None:
    grid = FIELDS_OF_VIEW["RAS"]
    source = write_nifti(brain_on(grid), grid, tmp_path / "m.nii.gz")
    elsewhere = Grid.centred(grid.shape, grid.zooms, "RAS", (900.0, 0.0, 0.0))
    mask = write_nifti(np.ones(grid.shape, np.uint8), elsewhere, tmp_path / "mask.nii.gz")
    with pytest.raises(UserError, match="do not overlap"):
        register(source, fixed, model=tiny_model, masks=(mask, None))
    good = write_nifti((brain_on(grid) > 0).astype(np.uint8), grid, tmp_path / "good.nii.gz")
    record = register(source, fixed, model=tiny_model, masks=(good, None)).record
    assert "good.nii.gz" in record.inputs["moving"].brain


@pytest.mark.parametrize("background", [0.0, -1024.0, 500.0])
def test_what_lies_outside_of_the_moving_image_is_its_background(background, tmp_path, tiny_model):
    """A fixed grid that reaches 60 mm beyond the moving image; ``apply`` fills it with the same value."""
    grid = FIELDS_OF_VIEW["RAS"]
    large = Grid.centred((60, 64, 60), (5.0, 5.0, 5.0), "RAS", (3.0, -7.0, 12.0))
    brain, shape = brain_on(grid), grid.shape
    moving = write_nifti(np.where(brain > 0, brain, background).astype(np.float32), grid, tmp_path / "moving.nii.gz")
    mask = write_nifti((brain > 0).astype(np.uint8), grid, tmp_path / "mask.nii.gz")
    fixed = write_nifti(brain_on(large), large, tmp_path / "fixed.nii.gz")
    result = register(moving, fixed, model=tiny_model, masks=(mask, None), transform="affine")
    points = result.transform.apply(torch.from_numpy(large.points_to_world(np.argwhere(np.ones(large.shape))))).numpy()
    voxels = grid.points_to_voxel(points)
    outside = ((voxels < -1) | (voxels > shape)).any(axis=1).reshape(large.shape)
    assert 0.3 < outside.mean() < 0.9
    assert set(np.unique(result.warped.data.numpy()[outside])) == {np.float32(background)}
