"""What the programs write themselves, read by us: the same points and images as their own."""

from __future__ import annotations

from typing import Any

import ants
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
import surfa
import torch
from fsl.data.image import Image as FslImage
from fsl.transform import flirt, fnirt
from fsl.transform.nonlinear import DeformationField, convertDeformationType
from nitransforms.linear import Affine as NiAffine
from nitransforms.nonlinear import DenseFieldTransform
from picsl_greedy import Greedy3D

from parity.formats.known import FIXED, MOVING
from parity.formats.test_written import affine_of, apart, grey, itk_points
from spatial_cases import LPS
from uresnet.core.choices import FormatName
from uresnet.core.image import Image
from uresnet.transform import resample
from uresnet.transform_files import FileKind, read_chain, read_transform

GRIDS = {"fixed": FIXED, "moving": MOVING}


def ours(transform, points) -> np.ndarray:
    return transform.apply(torch.from_numpy(points)).numpy()


@pytest.fixture
def target(known, tmp_path) -> str:
    """The moving image as it should look on the fixed grid: something for the programs to register to."""
    image = nib.Nifti1Image(known.warped()[0], FIXED.voxel_to_world)
    nib.save(image, tmp_path / "target.nii.gz")
    return str(tmp_path / "target.nii.gz")


@pytest.mark.filterwarnings("ignore")
def test_what_ants_finds(known, target, opened, tmp_path):
    fixed, moving = ants.image_read(target), ants.image_read(known.path("moving.nii.gz"))
    prefix = str(tmp_path / "ants_")
    found = ants.registration(fixed, moving, "SyN", outprefix=prefix, reg_iterations=(8, 4), random_seed=1)
    points = known.points()
    for direction, named in (("fwdtransforms", points), ("invtransforms", known.mapped(points))):
        files = found[direction]
        flip = [name.endswith(".mat") and direction == "invtransforms" for name in files]
        table = pd.DataFrame(named * LPS, columns=list("xyz"))
        theirs = ants.apply_transforms_to_points(3, table, files, flip)[list("xyz")].to_numpy() * LPS
        parts = [read_transform(name) for name in files]
        parts = [part.inverse() if turned else part for part, turned in zip(parts, flip, strict=True)]
        mine = named
        for part in parts:
            mine = ours(part, mine)
        assert np.linalg.norm(theirs - named, axis=1).mean() > 1  # it did find something
        opened(f"antsRegistration's {direction}", "uresnet", "points", apart(mine, theirs))


def test_what_greedy_finds(known, target, opened, tmp_path):
    moving, warp, affine, out = known.path("moving.nii.gz"), *(tmp_path / n for n in ("w.nii.gz", "a.mat", "o.nii.gz"))
    with (tmp_path / "log").open("w") as log:
        greedy = Greedy3D()
        greedy.execute(f"-d 3 -a -dof 12 -i {target} {moving} -o {affine} -n 20 -ia-identity -m SSD", log, log)
        greedy.execute(f"-d 3 -i {target} {moving} -it {affine} -o {warp} -n 20x10 -m SSD -s 2vox 1vox", log, log)
        greedy.execute(f"-d 3 -rf {target} -rm {moving} {out} -ri LINEAR -r {warp} {affine}", log, log)
    chain = read_chain([warp, affine], FileKind("greedy"))
    inner = torch.zeros(MOVING.shape)
    inner[2:-2, 2:-2, 2:-2] = 1
    certain = resample(chain, Image(inner, MOVING), FIXED).data.numpy() > 0.999
    mine = resample(chain, known.moving, FIXED).data.numpy()
    opened(
        "greedy's warp + affine",
        "uresnet",
        "image",
        grey(nib.Nifti1Image.from_filename(out).get_fdata(), mine, certain),
    )


def test_what_simpleitk_writes(known, opened, tmp_path):
    field = sitk.TransformToDisplacementField(
        sitk.ReadTransform(known.path("transform.h5")),
        sitk.sitkVectorFloat64,
        *(lambda image: (image.GetSize(), image.GetOrigin(), image.GetSpacing(), image.GetDirection()))(
            sitk.ReadImage(known.path("fixed.nii.gz"))
        ),
    )
    euler = sitk.Euler3DTransform((1, 2, 3), 0.1, -0.2, 0.05, (4, 5, -6))
    both = sitk.CompositeTransform([euler, sitk.DisplacementFieldTransform(field)])
    points = known.points()
    for ending in ("h5", "tfm"):
        sitk.WriteTransform(both, tmp_path / f"t.{ending}")
        mine = ours(read_transform(tmp_path / f"t.{ending}"), points)
        opened(f"SimpleITK's composite .{ending}", "uresnet", "points", apart(mine, itk_points(points, both)))


def test_what_nitransforms_writes(known, opened, tmp_path):
    """For ITK: its writers for FSL and FreeSurfer are wrong on oblique grids, which is not ours to read."""
    points = known.points(whole=True)
    expected = points @ affine_of(known)[:3, :3].T + affine_of(known)[:3, 3]
    NiAffine(affine_of(known), reference=known.path("fixed.nii.gz")).to_filename(tmp_path / "a.txt", fmt="itk")
    mine = ours(read_transform(tmp_path / "a.txt"), points)
    opened("nitransforms' ITK affine .txt", "uresnet", "points", apart(mine, expected))
    nodes = FIXED.points_to_world(np.moveaxis(np.indices(FIXED.shape), 0, -1))
    moves = known.mapped(nodes.reshape(-1, 3)).reshape(nodes.shape) - nodes
    field = DenseFieldTransform(nib.Nifti1Image(moves.astype(np.float32), FIXED.voxel_to_world), is_deltas=True)
    field.to_filename(tmp_path / "w.nii.gz", fmt="itk")
    mine = ours(read_transform(tmp_path / "w.nii.gz"), points)
    opened("nitransforms' ITK displacement .nii.gz", "uresnet", "points at voxels", apart(mine, field.map(points)))
    assert apart(field.map(points), known.mapped(points)) < 0.01


def test_what_surfa_writes(known, opened, tmp_path, monkeypatch):
    monkeypatch.setattr(np, "fromstring", lambda data, dtype=float: np.frombuffer(data, dtype).copy())
    points = known.points()
    source, target = (surfa.load_volume(known.path(f"{name}.nii.gz")).geom for name in ("moving", "fixed"))
    world = surfa.Affine(np.linalg.inv(affine_of(known)), source=source, target=target, space="world")
    expected = points @ affine_of(known)[:3, :3].T + affine_of(known)[:3, 3]
    for space in ("world", "vox"):
        world.convert(space=space).save(tmp_path / f"{space}.lta")
        mine = ours(read_transform(tmp_path / f"{space}.lta"), points)
        opened(f"surfa's LTA ({space})", "uresnet", "points", apart(mine, expected))
    warp = surfa.load_warp(known.path("freesurfer_warp.mgz"))
    points = known.points(whole=True)
    for name in ("abs_crs", "disp_crs", "abs_ras", "disp_ras"):
        kind = getattr(surfa.Warp.Format, name)
        theirs = surfa.Warp(warp.convert(kind), source=source, target=target, format=kind)
        theirs.save(tmp_path / f"{name}.mgz")
        mine = ours(read_transform(tmp_path / f"{name}.mgz"), points)
        opened(f"surfa's warp .mgz ({name})", "uresnet", "points at voxels", apart(mine, known.mapped(points)))
    # surfa's own writer of NIfTI warps fails on NumPy 2; the file that it describes, and reads, is this one.
    image = nib.Nifti1Image(warp.convert(surfa.Warp.Format.disp_ras)[:, :, :, None].astype("f4"), FIXED.voxel_to_world)
    image.header.set_intent(1006)
    nib.save(image, tmp_path / "w.nii.gz")
    theirs = surfa.load_warp(tmp_path / "w.nii.gz")
    assert theirs.format == surfa.Warp.Format.disp_ras
    np.testing.assert_allclose(theirs.data, warp.convert(surfa.Warp.Format.disp_ras), atol=1e-5)
    mine = ours(read_transform(tmp_path / "w.nii.gz"), points)
    opened("RAS displacement .nii.gz (intent 1006)", "uresnet", "points at voxels", apart(mine, known.mapped(points)))


def test_what_fslpy_writes(known, opened, tmp_path):
    moving, fixed = (FslImage(known.path(f"{name}.nii.gz")) for name in ("moving", "fixed"))
    matrix = flirt.toFlirt(np.linalg.inv(affine_of(known)), moving, fixed, from_="world", to="world")
    flirt.writeFlirt(matrix, tmp_path / "flirt.mat")
    kind = FileKind("fsl", FIXED, MOVING)
    points = known.points(whole=True)
    expected = points @ affine_of(known)[:3, :3].T + affine_of(known)[:3, 3]
    mine = ours(read_transform(tmp_path / "flirt.mat", kind), points)
    opened("fslpy's FLIRT matrix", "uresnet", "points", apart(mine, expected))
    nodes = np.moveaxis(np.indices(FIXED.shape), 0, -1)
    world = known.mapped(FIXED.points_to_world(nodes).reshape(-1, 3)).reshape(*FIXED.shape, 3)
    field = DeformationField(
        world, xform=FIXED.voxel_to_world, src=moving, ref=fixed, srcSpace="world", refSpace="world", defType="absolute"
    )
    in_fsl = fnirt.toFnirt(field)
    for form in ("relative", "absolute"):
        values = in_fsl.data if in_fsl.deformationType == form else convertDeformationType(in_fsl, form)
        image = nib.Nifti1Image(values.astype(np.float32), FIXED.voxel_to_world)
        image.header.set_intent(2006)
        nib.save(image, tmp_path / f"{form}.nii.gz")
        mine = ours(read_transform(tmp_path / f"{form}.nii.gz", kind), points)
        opened(f"fslpy's warp ({form})", "uresnet", "points at voxels", apart(mine, known.mapped(points)))


# -- there and back ------------------------------------------------------------------------------------------------

SINGLE: dict[str, tuple[Any, str]] = {
    "transform.h5": (None, "inverse_transform.h5"),
    "nifti_warp.nii.gz": (None, "nifti_inverse_warp.nii.gz"),
    "fsl_warp.nii.gz": ("fsl", "fsl_inverse_warp.nii.gz"),
    "freesurfer_warp.mgz": (None, "freesurfer_inverse_warp.mgz"),
    "learn2reg_disp.nii.gz": ("learn2reg", "learn2reg_inverse_disp.nii.gz"),
}


def test_forward_then_inverse_of_one_file(known, opened):
    """Between voxels, where both files lie: a dense file is as fine as the image's voxels of 1.3 to 2.3 mm are."""
    points = inside_both(known)
    for file, (format, inverse) in SINGLE.items():
        there = read_transform(known.path(file), FileKind(format, FIXED, MOVING) if format else None)
        back = read_transform(known.path(inverse), FileKind(format, MOVING, FIXED) if format else None)
        opened(f"{file}, then {inverse}", "uresnet", "points", apart(ours(back, ours(there, points)), points))


WARP_AND_AFFINE: dict[FormatName, tuple[str, str, str]] = {
    "ants": ("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz"),
    "greedy": ("affine.mat", "warp.nii.gz", "inverse_warp.nii.gz"),
}


def test_forward_then_inverse_of_a_warp_and_an_affine(known, opened):
    points = inside_both(known)
    for format, (affine, warp, inverse) in WARP_AND_AFFINE.items():
        kind = FileKind(format)
        there = read_chain([known.path(f"{format}_{name}") for name in (warp, affine)], kind)
        moved = ours(read_transform(known.path(f"{format}_{affine}"), kind).inverse(), ours(there, points))
        back = ours(read_transform(known.path(f"{format}_{inverse}"), kind), moved)
        opened(f"{format}_{warp} + {affine}, then its inverse", "uresnet", "points", apart(back, points))


def inside_both(known) -> np.ndarray:
    points = known.points()
    voxels = MOVING.points_to_voxel(known.mapped(points))
    inside = ((voxels >= 1) & (voxels <= np.array(MOVING.shape) - 2)).all(axis=1)
    assert inside.sum() > 20
    return points[inside]
