"""A made-up label map of a head."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np


def write_map(path: Path) -> np.ndarray:
    """A head of 1 mm: white matter, fluid in and around it, a lesion, skull (507)."""
    grid = np.stack(np.meshgrid(*[np.arange(48)] * 3, indexing="ij"), -1)
    away = np.sqrt(((grid - 23.5) ** 2).sum(-1))
    ids = np.select([away < 3, away < 4, away < 12, away < 16, away < 22], [24, 25, 2, 24, 507], 0)
    nib.save(nib.Nifti1Image(ids.astype(np.int16), np.diag([-1.0, 1, 1, 1])), path)
    return ids
