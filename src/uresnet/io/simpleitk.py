"""What SimpleITK reads for us where it is installed: NRRD, MetaImage, and the slices of DICOM series."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.io.headers import checked_affine, checked_shape

SIMPLEITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def load_simpleitk(path: Path) -> Any:
    """The SimpleITK module, imported when ``path`` needs it. Raises :class:`UserError` where it is not installed."""
    try:
        import SimpleITK as sitk
    except ImportError:
        raise UserError(
            f"{path} needs SimpleITK to be read; install it (pip install 'uresnet[formats]') or convert it to NIfTI."
        ) from None
    module: Any = sitk
    module.ProcessObject.SetGlobalWarningDisplay(False)
    return module


def read_with_simpleitk(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K) and grid of a NRRD or MetaImage file. Raises :class:`UserError` as
    :func:`uresnet.io.read_image`."""
    sitk = load_simpleitk(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(
            f"{path} is not an image that can be read; check that it is the file you mean, or copy it again."
        ) from error
    components = image.GetNumberOfComponentsPerPixel()
    if components > 1:
        raise UserError(f"{path} has {components} values per voxel; give an image with one grey value.")
    checked_shape(path, image.GetSize())
    return volume_of(sitk, image, path)


def volume_of(sitk: Any, image: Any, path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K) and grid of one volume in SimpleITK's memory. Raises :class:`UserError` naming ``path`` for a
    singular or sheared affine."""
    rank = image.GetDimension()
    values = np.ascontiguousarray(sitk.GetArrayFromImage(image).T).reshape(image.GetSize()[:3])
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(rank, rank)[:3, :3] * np.array(image.GetSpacing()[:3])
    lps[:3, 3] = image.GetOrigin()[:3]
    return values, Grid(values.shape, checked_affine(path, _LPS_TO_RAS @ lps))
