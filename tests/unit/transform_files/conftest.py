"""A transform and its fixed image, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from transform_cases import FIXED, TRANSFORM, save
from uresnet.transform_files import (
    write_itk_composite,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_itk_composite(TRANSFORM, tmp_path / "t.h5")
    save(tmp_path, "fixed.nii.gz", np.zeros(FIXED.shape, np.float32), FIXED)
    return tmp_path
