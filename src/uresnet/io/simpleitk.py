"""What SimpleITK reads for us where it is installed: NRRD, MetaImage, and the slices of DICOM series."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.io.contents import check_voxels, reading
from uresnet.io.headers import checked_affine, checked_shape
from uresnet.io.text_headers import check_text_header

SIMPLEITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


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
    with reading(path):
        check_text_header(path)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
        reader.SetFileName(str(path))
        image = without_complaint(reader.Execute, path)
        components = image.GetNumberOfComponentsPerPixel()
        if components > 1:
            raise UserError(f"{path} has {components} values per voxel; give an image with one grey value.")
        checked_shape(path, image.GetSize())
        return volume_of(sitk, image, path)


def without_complaint(read: Callable[[], Any], path: Path) -> Any:
    """What ``read`` returns. Raises :class:`UserError` where ITK's libraries write to standard error meanwhile: they
    report damage there, and go on with what they have."""
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        try:
            os.dup2(said.fileno(), 2)
            result = read()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        words = " ".join(said.read(4000).decode("utf-8", "replace").split())
    if words:
        raise UserError(f"{path} is damaged (ITK: {words[:150]}); copy it again, or convert it to NIfTI.")
    return result


def volume_of(sitk: Any, image: Any, path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K) and grid of one volume in SimpleITK's memory. Raises :class:`UserError` naming ``path`` for a
    singular or sheared affine."""
    rank = image.GetDimension()
    check_voxels(path, list(image.GetSize()))
    values = np.ascontiguousarray(sitk.GetArrayFromImage(image).T).reshape(image.GetSize()[:3])
    lps = np.eye(4)
    lps[:3, :3] = np.array(image.GetDirection()).reshape(rank, rank)[:3, :3] * np.array(image.GetSpacing()[:3])
    lps[:3, 3] = image.GetOrigin()[:3]
    return values, Grid(values.shape, checked_affine(path, lps_affine(lps)))


def lps_affine(matrix: np.ndarray) -> np.ndarray:
    """A (4, 4) matrix from voxels to LPS mm as one to RAS mm, or the other way."""
    return np.asarray(LPS_TO_RAS @ matrix)
