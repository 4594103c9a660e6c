"""greedy: an affine and a warp in two files, T(x) = A(x + d(x)), and the inverse warp in a third.

``greedy -r warp.nii.gz affine.mat`` resamples the moving image onto the fixed grid, and
``-r affine.mat,-1 inverse_warp.nii.gz`` the fixed image onto the moving grid. The warps are those of ANTs; the affine
is a plain RAS matrix, fixed → moving.
"""

from __future__ import annotations

from functools import partial

from uresnet.transform_files.formats.matrices import write_matrix
from uresnet.transform_files.formats.nifti import field_files
from uresnet.transform_files.formats.pair import TransformPair, Writers, affine_and_warps


def greedy_files(pair: TransformPair) -> Writers:
    """``affine.mat``, ``warp.nii.gz``, ``inverse_warp.nii.gz``; only the first where nothing deforms."""
    affine, warp, inverse_warp = affine_and_warps(pair)
    files: Writers = {"affine.mat": partial(write_matrix, affine.matrix)}
    return files | field_files({"warp.nii.gz": warp, "inverse_warp.nii.gz": inverse_warp})
