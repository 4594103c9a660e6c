"""Image files made for tests."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def saved(path: Path, data: np.ndarray, affine: np.ndarray, q: int = 1, s: int = 1) -> Path:
    """A NIfTI file whose qform and sform are both ``affine``, with the codes ``q`` and ``s``."""
    image = nib.Nifti1Image(data, affine)
    image.set_qform(affine, code=q)
    image.set_sform(affine, code=s)
    nib.save(image, path)
    return path
