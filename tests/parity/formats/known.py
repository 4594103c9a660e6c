"""A known pair for every format: an oblique anisotropic fixed grid stored much as L-I-A, another oblique moving one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from spatial_cases import half_affine, known_affine, points_in, smooth_field, smooth_image
from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.transform import Composite, resample
from uresnet.transform_files import FORMATS, TransformPair, export_files


def oblique(codes: str, shape, zooms, centre, degrees) -> Grid:
    grid = Grid.centred(shape, zooms, codes, centre)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    turn[:3, 3] = np.array(centre) - turn[:3, :3] @ centre
    return Grid(shape, turn @ grid.voxel_to_world)


FIXED = oblique("LIA", (24, 19, 28), (1.7, 2.3, 1.3), (4.0, -9.0, 15.0), (9, -7, 12))
MOVING = oblique("PSR", (33, 26, 30), (1.4, 1.9, 1.6), (7.0, -12.0, 18.0), (-11, 5, 8))


def transform_of(form: str) -> Composite:
    """On a third grid, as the network's own is, whose axes are the world's and which reaches beyond the fixed image."""
    network = Grid.centred((44, 44, 44), (1.25, 1.25, 1.25), "LIA", FIXED.centre_world)
    affine, field = known_affine(), smooth_field(network, size_mm=1.2, sigma=5.0)
    half = half_affine()
    return Composite([field, affine] if form == "paper" else [half, field, half])


@dataclass(frozen=True)
class Known:
    """The transform, its inverse, both images, and the folder that holds everything as files."""

    form: str
    forward: Composite
    backward: Composite
    moving: Image
    fixed: Image
    folder: Path

    def path(self, name: str) -> str:
        return str(self.folder / name)

    @property
    def exact(self) -> bool:
        """Whether ANTs' and greedy's form, a warp and then an affine, holds this transform without interpolation."""
        return self.form == "paper"

    def points(self, whole: bool = False) -> np.ndarray:
        """(N, 3) fixed world, mm; at voxels' centres with ``whole``."""
        return points_in(FIXED, 80, margin=2, whole=whole)

    def mapped(self, points: np.ndarray) -> np.ndarray:
        return self.forward.apply(torch.from_numpy(points)).numpy()

    def warped(self, backward: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """(image, where it is far from the other image's edge)."""
        transform, image, like = (self.backward, self.fixed, MOVING) if backward else (self.forward, self.moving, FIXED)
        inner = torch.zeros(image.grid.shape)
        inner[2:-2, 2:-2, 2:-2] = 1
        certain = resample(transform, Image(inner, image.grid), like).data.numpy() > 0.999
        assert certain.mean() > 0.2
        return resample(transform, image, like).data.numpy(), certain


def write_known(form: str, folder: Path) -> Known:
    forward = transform_of(form)
    moving, fixed = (Image(smooth_image(grid, seed), grid) for seed, grid in enumerate((MOVING, FIXED)))
    known = Known(form, forward, forward.inverse(), moving, fixed, folder)
    for name, image in (("moving", moving), ("fixed", fixed)):
        nifti = nib.Nifti1Image(image.data.numpy(), image.grid.voxel_to_world)
        nifti.set_qform(image.grid.voxel_to_world, 1)
        nifti.set_sform(image.grid.voxel_to_world, 1)
        nib.save(nifti, folder / f"{name}.nii.gz")
    pair = TransformPair(forward, known.backward, FIXED, MOVING)
    for name, write in export_files(pair, tuple(FORMATS)).items():
        write(folder / name)
    return known
