"""Files that we write, read and applied by SimpleITK, ANTs and nitransforms: the same points, the same images."""

from __future__ import annotations

import ants
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import torch
from nitransforms.manip import load as nitransforms_load

from spatial_cases import LPS, ORIENTATIONS, grid_of, half_affine, known_affine, points_in, smooth_field, smooth_image
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.transform import Affine, Composite, Transform, displacement_on, jacobian_determinant, resample
from uresnet.transform_files import write_itk_composite, write_warp

FORMS = ("paper", "paper_inverse", "mid_space", "mid_space_inverse", "affine", "field", "four_parts")


def forms(grid: Grid) -> dict[str, Composite]:
    affine, field = known_affine(), smooth_field(grid, size_mm=1.2, sigma=5.0)
    half = half_affine()
    paper, mid = Composite([field, affine]), Composite([half, field, half])
    return {
        "paper": paper,
        "paper_inverse": paper.inverse(),
        "mid_space": mid,
        "mid_space_inverse": mid.inverse(),
        "affine": Composite([affine]),
        "field": Composite([field]),
        "four_parts": Composite([field, half, smooth_field(grid, 1.0, 5.0, seed=1), half]),
    }


def lps_geometry(grid: Grid) -> tuple[list[float], list[float], np.ndarray]:
    matrix = np.diag([*LPS, 1.0]) @ grid.voxel_to_world
    return matrix[:3, 3].tolist(), grid.zooms.tolist(), matrix[:3, :3] / grid.zooms


def to_sitk(values: np.ndarray, grid: Grid) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0)))
    origin, spacing, direction = lps_geometry(grid)
    image.SetOrigin(origin)
    image.SetSpacing(spacing)
    image.SetDirection(direction.ravel().tolist())
    return image


def to_ants(values: np.ndarray, grid: Grid) -> ants.ANTsImage:
    origin, spacing, direction = lps_geometry(grid)
    return ants.from_numpy(values, origin=origin, spacing=spacing, direction=direction)


def mapped(transform: Transform, points: np.ndarray) -> np.ndarray:
    return transform.apply(torch.from_numpy(points)).numpy()


@pytest.fixture(params=[(o, f) for o in ORIENTATIONS for f in FORMS], ids=lambda p: "-".join(p))
def written(request, tmp_path):
    orientation, form = request.param
    grid = grid_of(orientation)
    transform = forms(grid)[form]
    write_itk_composite(transform, tmp_path / "t.h5")
    return transform, grid, str(tmp_path / "t.h5")


def test_points(written):
    transform, grid, path = written
    points = points_in(grid, 60, margin=5)
    expected = mapped(transform, points)
    itk = sitk.ReadTransform(path)
    np.testing.assert_allclose([itk.TransformPoint(p) for p in (points * LPS).tolist()] * LPS, expected, atol=5e-5)
    table = pd.DataFrame(points * LPS, columns=list("xyz"))
    found = ants.apply_transforms_to_points(3, table, [path])[list("xyz")].to_numpy() * LPS
    np.testing.assert_allclose(found, expected, atol=1e-4)  # float32 points inside ANTs


def test_points_in_nitransforms(tmp_path):
    """It reads any number of parts in any order, and interpolates fields by cubic splines: compared on their nodes."""
    for orientation in ORIENTATIONS:
        grid = grid_of(orientation)
        nodes = points_in(grid, 60, margin=5, whole=True)
        half = half_affine()
        for transform, starts in (
            (forms(grid)["paper"], nodes),
            (forms(grid)["mid_space"], mapped(half.inverse(), nodes)),
            (Composite([known_affine().inverse(), smooth_field(grid)]), mapped(known_affine(), nodes)),
        ):
            write_itk_composite(transform, tmp_path / "t.h5")
            found = nitransforms_load(tmp_path / "t.h5", fmt="itk").map(starts)
            np.testing.assert_allclose(found, mapped(transform, starts), atol=5e-5)


def test_images(written):
    transform, grid, path = written
    moving = grid_of("oblique", shape=(44, 40, 36), zooms=(1.3, 1.4, 1.6), centre=(8.0, -10.0, 18.0))
    image = smooth_image(moving)
    ours = resample(transform, Image(image, moving), grid).data.numpy()
    assert (ours != 0).mean() > 0.3
    like = to_sitk(np.zeros(grid.shape, np.float32), grid)
    theirs = sitk.Resample(to_sitk(image.numpy(), moving), like, sitk.ReadTransform(path), sitk.sitkLinear, 0.0)
    inner = resample(transform, Image(torch.ones(moving.shape), moving), grid, fill=0).data.numpy() > 0
    different = np.abs(sitk.GetArrayFromImage(theirs).transpose(2, 1, 0) - ours)
    # A voxel that lands on the very edge may be inside for one and outside for the other.
    assert (different > 1e-3).sum() <= 3
    found = ants.apply_transforms(
        to_ants(np.zeros(grid.shape, np.float32), grid), to_ants(image.numpy(), moving), [path]
    )
    assert (np.abs(found.numpy() - ours)[inner] > 1e-3).mean() < 0.02  # ANTs leaves the half-voxel rim empty


def test_nearest_labels_are_simpleitks(tmp_path):
    grid = grid_of("oblique")
    transform = forms(grid)["mid_space"]
    write_itk_composite(transform, tmp_path / "t.h5")
    labels = np.random.default_rng(0).integers(0, 5, grid.shape).astype(np.int16)
    ours = resample(transform, LabelMap(torch.from_numpy(labels), grid), grid, "nearest").data.numpy()
    like = to_sitk(labels, grid)
    theirs = sitk.Resample(like, like, sitk.ReadTransform(tmp_path / "t.h5"), sitk.sitkNearestNeighbor, 0)
    assert (sitk.GetArrayFromImage(theirs).transpose(2, 1, 0) != ours).mean() < 1e-3  # ties


def test_ants_refuses_to_invert_a_composite(tmp_path):
    """``whichtoinvert`` cannot turn a composite file round: that is what the second file is for."""
    grid = grid_of("LAS")
    image = to_ants(smooth_image(grid).numpy(), grid)
    for form in FORMS:
        write_itk_composite(forms(grid)[form], tmp_path / "t.h5")
        plain = ants.apply_transforms(image, image, [str(tmp_path / "t.h5")]).numpy()
        stated = ants.apply_transforms(image, image, [str(tmp_path / "t.h5")], whichtoinvert=[False]).numpy()
        np.testing.assert_array_equal(plain, stated)
        with pytest.raises(ValueError, match="not a matrix"):
            ants.apply_transforms(image, image, [str(tmp_path / "t.h5")], whichtoinvert=[True])


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_dense_warp_in_ants(orientation, tmp_path):
    grid = grid_of(orientation)
    transform = forms(grid)["paper"]
    write_warp(transform, grid, tmp_path / "w.nii.gz")
    points = points_in(grid, 60, margin=3, whole=True)
    table = pd.DataFrame(points * LPS, columns=list("xyz"))
    found = ants.apply_transforms_to_points(3, table, [str(tmp_path / "w.nii.gz")])[list("xyz")].to_numpy() * LPS
    np.testing.assert_allclose(found, mapped(transform, points), atol=2e-4)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("form", FORMS)
def test_jacobians_are_simpleitks(orientation, form):
    """ITK's filter differentiates along image axes and ignores their directions (a stretch by 1.3 along a flipped axis
    comes out as 0.7), so it is given the displacement in image axes: then it must be right on any grid."""
    grid = grid_of(orientation)
    transform = forms(grid)[form]
    _, spacing, _ = lps_geometry(grid)
    along_axes = (grid.voxel_to_world[:3, :3] / grid.zooms).T
    dense = np.einsum("ab,bijk->kjia", along_axes, displacement_on(transform, grid).displacement.double().numpy())
    image = sitk.GetImageFromArray(np.ascontiguousarray(dense), isVector=True)
    image.SetSpacing(spacing)
    theirs = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(image)).transpose(2, 1, 0)
    ours = jacobian_determinant(transform, grid).numpy()
    inner = (slice(1, -1),) * 3
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-4)


def test_what_ants_writes_for_an_affine(tmp_path):
    from uresnet.transform_files import read_transform

    matrix = np.array([[1.1, 0.1, 0.0], [-0.1, 0.9, 0.05], [0.02, 0.0, 1.05]])
    theirs = ants.create_ants_transform(
        transform_type="AffineTransform", dimension=3, matrix=matrix, translation=(3, 4, -5), center=(10, 20, 30)
    )
    ants.write_transform(theirs, str(tmp_path / "0GenericAffine.mat"))
    back = read_transform(tmp_path / "0GenericAffine.mat")
    assert isinstance(back.parts[0], Affine)
    points = points_in(grid_of("RAS"), 20)
    expected = np.array([theirs.apply_to_point(p) for p in (points * LPS).tolist()]) * LPS
    np.testing.assert_allclose(mapped(back, points), expected, atol=1e-4)
