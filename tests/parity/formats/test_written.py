"""What we export, applied by the programs it is meant for: the same points and images as our own."""

from __future__ import annotations

import ants
import nibabel as nib
import numpy as np
import pandas as pd
import SimpleITK as sitk
import surfa
import torch
from fsl.data.image import Image as FslImage
from fsl.transform import flirt, fnirt
from fsl.transform.nonlinear import applyDeformation
from nitransforms.linear import load as load_linear
from nitransforms.manip import load as load_chain
from nitransforms.nonlinear import DenseFieldTransform
from picsl_greedy import Greedy3D
from scipy.ndimage import map_coordinates

from parity.formats.known import FIXED, MOVING
from spatial_cases import LPS
from uresnet.transform import Composite, resample
from uresnet.transform_files import FileKind, read_transform


def apart(found, expected) -> float:
    return float(np.linalg.norm(np.asarray(found) - expected, axis=-1).max())


def grey(found, expected, certain) -> float:
    return float(np.abs(np.asarray(found) - expected)[certain].max())


def ants_points(points, files) -> np.ndarray:
    table = pd.DataFrame(points * LPS, columns=list("xyz"))
    return ants.apply_transforms_to_points(3, table, files, [False] * len(files))[list("xyz")].to_numpy() * LPS


def ants_image(known, like, image, files, inverted=None) -> np.ndarray:
    images = (ants.image_read(known.path(f"{name}.nii.gz")) for name in (like, image))
    return ants.apply_transforms(*images, files, whichtoinvert=inverted or [False] * len(files)).numpy()


def itk_image(known, transform) -> np.ndarray:
    moving, fixed = (sitk.ReadImage(known.path(f"{n}.nii.gz"), sitk.sitkFloat64) for n in ("moving", "fixed"))
    return sitk.GetArrayFromImage(sitk.Resample(moving, fixed, transform, sitk.sitkLinear, 0.0)).T


def itk_points(points, transform) -> np.ndarray:
    return np.array([transform.TransformPoint(point) for point in (points * LPS).tolist()]) * LPS


def itk_warp(path) -> sitk.Transform:
    return sitk.DisplacementFieldTransform(sitk.ReadImage(path, sitk.sitkVectorFloat64))


def test_itk_composites(known, opened):
    path = known.path("transform.h5")
    transform = sitk.ReadTransform(path)
    points, (image, certain) = known.points(), known.warped()
    opened("transform.h5", "SimpleITK", "points", apart(itk_points(points, transform), known.mapped(points)))
    opened("transform.h5", "SimpleITK", "image", grey(itk_image(known, transform), image, certain))
    opened("transform.h5", "antspyx", "points", apart(ants_points(points, [path]), known.mapped(points)))
    opened("transform.h5", "antspyx", "image", grey(ants_image(known, "fixed", "moving", [path]), image, certain))
    # It interpolates by cubic splines: compared where the field is stored.
    field = next(part for part in known.forward.parts if hasattr(part, "grid"))
    nodes = field.grid.points_to_world(np.random.default_rng(0).integers(8, 34, (60, 3)))
    if not known.exact:
        nodes = known.forward.parts[0].inverse().apply(torch.from_numpy(nodes)).numpy()
    found = load_chain(path, fmt="itk").map(nodes)
    opened("transform.h5", "nitransforms", "points at the field's voxels", apart(found, known.mapped(nodes)))


def test_itk_inverse(known, opened):
    path = known.path("inverse_transform.h5")
    image, certain = known.warped(backward=True)
    found = ants_image(known, "moving", "fixed", [path])
    opened("inverse_transform.h5", "antspyx", "image", grey(found, image, certain))


def test_ants(known, opened):
    affine, warp = known.path("ants_0GenericAffine.mat"), known.path("ants_1Warp.nii.gz")
    both = "ants_1Warp.nii.gz + ants_0GenericAffine.mat"
    points, (image, certain) = known.points(whole=True), known.warped()
    opened(both, "antspyx", "points", apart(ants_points(points, [warp, affine]), known.mapped(points)))
    opened(both, "antspyx", "image", grey(ants_image(known, "fixed", "moving", [warp, affine]), image, certain))
    chain = sitk.CompositeTransform([sitk.ReadTransform(affine), itk_warp(warp)])
    opened(both, "SimpleITK", "points", apart(itk_points(points, chain), known.mapped(points)))
    opened(both, "SimpleITK", "image", grey(itk_image(known, chain), image, certain))
    files = [affine, known.path("ants_1InverseWarp.nii.gz")]
    found = ants_image(known, "moving", "fixed", files, [True, False])
    inverse_of_two(
        known, opened, "ants_0GenericAffine.mat (inverted) + ants_1InverseWarp.nii.gz", "antspyx", files, found
    )


def test_greedy(known, opened):
    files = f"{known.path('greedy_warp.nii.gz')} {known.path('greedy_affine.mat')}"
    both = "greedy_warp.nii.gz + greedy_affine.mat"
    image, certain = known.warped()
    opened(both, "greedy", "image", grey(greedy(known, "fixed", "moving", files), image, certain))
    names = [known.path("greedy_affine.mat"), known.path("greedy_inverse_warp.nii.gz")]
    found = greedy(known, "moving", "fixed", f"{names[0]},-1 {names[1]}")
    inverse_of_two(known, opened, "greedy_affine.mat,-1 + greedy_inverse_warp.nii.gz", "greedy", names, found)


def inverse_of_two(known, opened, inverse, program, files, found):
    """The program against us on the same two files; and both against the transform that they were made from."""
    image, certain = known.warped(backward=True)
    affine, warp = (read_transform(file, FileKind("greedy" if program == "greedy" else "ants")) for file in files)
    chain = Composite([affine.inverse(), warp])
    same = resample(chain, known.fixed, MOVING).data.numpy()
    opened(inverse, program, "image", grey(found, same, certain))
    # One affine and one warp in NIfTI, which has right angles, cannot hold the inverse of a mid-space transform: it is
    # sampled at other voxels and interpolated between them.
    opened(inverse, program, f"image, before export ({known.form})", grey(found, image, certain))


def greedy(known, like, image, files) -> np.ndarray:
    out = known.path("greedy_out.nii.gz")
    images = [known.path(f"{name}.nii.gz") for name in (like, image)]
    with (known.folder / "greedy.log").open("w") as log:
        Greedy3D().execute(f"-d 3 -rf {images[0]} -rm {images[1]} {out} -ri LINEAR -r {files}", log, log)
    return nib.Nifti1Image.from_filename(out).get_fdata()


def test_nifti(known, opened):
    path, name = known.path("nifti_warp.nii.gz"), "nifti_warp.nii.gz"
    points, (image, certain) = known.points(whole=True), known.warped()
    transform = itk_warp(path)
    opened(name, "SimpleITK", "points at voxels", apart(itk_points(points, transform), known.mapped(points)))
    opened(name, "SimpleITK", "image", grey(itk_image(known, transform), image, certain))
    opened(name, "antspyx", "points at voxels", apart(ants_points(points, [path]), known.mapped(points)))
    opened(name, "antspyx", "image", grey(ants_image(known, "fixed", "moving", [path]), image, certain))
    opened(name, "greedy", "image", grey(greedy(known, "fixed", "moving", path), image, certain))
    found = DenseFieldTransform.from_filename(path, fmt="itk").map(points)
    opened(name, "nitransforms", "points at voxels", apart(found, known.mapped(points)))
    image, certain = known.warped(backward=True)
    found = ants_image(known, "moving", "fixed", [known.path("nifti_inverse_warp.nii.gz")])
    opened("nifti_inverse_warp.nii.gz", "antspyx", "image", grey(found, image, certain))


def affine_of(known) -> np.ndarray:
    matrix = np.eye(4)
    for part in known.forward.parts:
        matrix = getattr(part, "matrix", np.eye(4)) @ matrix
    return matrix


def test_freesurfer(known, opened, monkeypatch):
    # surfa 0.6.3 reads bytes by a function that NumPy 2.3 took away.
    monkeypatch.setattr(np, "fromstring", lambda data, dtype=float: np.frombuffer(data, dtype).copy())
    points = known.points()
    moved = points @ affine_of(known)[:3, :3].T + affine_of(known)[:3, 3]
    lta = surfa.load_affine(known.path("freesurfer_affine.lta"))
    opened("freesurfer_affine.lta", "surfa", "points", apart(lta.convert(space="world")(moved), points))
    np.testing.assert_allclose(lta.source.vox2world.matrix, MOVING.voxel_to_world, atol=1e-6)
    np.testing.assert_allclose(lta.target.vox2world.matrix, FIXED.voxel_to_world, atol=1e-6)
    found = load_linear(known.path("freesurfer_affine.lta"), fmt="fs").matrix
    closest = min((found, np.linalg.inv(found)), key=lambda m: np.abs(m - affine_of(known)).max())
    opened("freesurfer_affine.lta", "nitransforms", "matrix", float(np.abs(closest - affine_of(known)).max()))
    for name, like, back in (("freesurfer_warp.mgz", FIXED, False), ("freesurfer_inverse_warp.mgz", MOVING, True)):
        warp = surfa.load_warp(known.path(name))
        image, certain = known.warped(backward=back)
        found = warp.transform(surfa.load_volume(known.path("fixed.nii.gz" if back else "moving.nii.gz")))
        opened(name, "surfa", "image", grey(np.squeeze(found.data), image, certain))
        np.testing.assert_allclose(warp.geom.vox2world.matrix, like.voxel_to_world, atol=1e-3)


def test_fsl(known, opened):
    moving, fixed = (FslImage(known.path(f"{name}.nii.gz")) for name in ("moving", "fixed"))
    points, (image, certain) = known.points(whole=True), known.warped()
    matrix = flirt.fromFlirt(flirt.readFlirt(known.path("fsl_flirt.mat")), moving, fixed, from_="world", to="world")
    back = np.linalg.inv(affine_of(known))
    opened("fsl_flirt.mat", "fslpy", "matrix", float(np.abs(matrix - back).max()))
    field = fnirt.readFnirt(known.path("fsl_warp.nii.gz"), moving, fixed)
    assert field.deformationType == "relative"
    found = field.transform(points, from_="world", to="world")
    opened("fsl_warp.nii.gz", "fslpy", "points at voxels", apart(found, known.mapped(points)))
    opened("fsl_warp.nii.gz", "fslpy", "image", grey(applyDeformation(moving, field), image, certain))
    field = fnirt.readFnirt(known.path("fsl_inverse_warp.nii.gz"), fixed, moving)
    image, certain = known.warped(backward=True)
    opened("fsl_inverse_warp.nii.gz", "fslpy", "image", grey(applyDeformation(fixed, field), image, certain))


def test_learn2reg(known, opened):
    """The challenge's own rule: moving values at fixed voxel + displacement."""
    for name, backward in (("learn2reg_disp.nii.gz", False), ("learn2reg_inverse_disp.nii.gz", True)):
        displacement = nib.Nifti1Image.from_filename(known.path(name)).get_fdata()
        where = np.indices(displacement.shape[:3]) + np.moveaxis(displacement, -1, 0)
        source = (known.fixed if backward else known.moving).data.numpy()
        image, certain = known.warped(backward)
        found = map_coordinates(source, where, order=1)
        opened(name, "scipy, by the challenge's rule", "image", grey(found, image, certain))
