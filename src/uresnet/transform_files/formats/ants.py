"""ANTs: an affine and a warp in two files, T(x) = A(x + d(x)), and the inverse warp in a third.

``antsApplyTransforms -t 1Warp.nii.gz -t 0GenericAffine.mat`` resamples the moving image onto the fixed grid, and
``-t [0GenericAffine.mat,1] -t 1InverseWarp.nii.gz`` the fixed image onto the moving grid. The warps are LPS
displacements in NIfTI; the affine is ITK's MATLAB file, fixed → moving.
"""

from __future__ import annotations

from functools import partial

from uresnet.transform_files.formats.itk import write_itk_affine
from uresnet.transform_files.formats.nifti import field_files
from uresnet.transform_files.formats.pair import TransformPair, Writers, affine_and_warps


def ants_files(pair: TransformPair) -> Writers:
    """``0GenericAffine.mat``, ``1Warp.nii.gz``, ``1InverseWarp.nii.gz``; only the first where nothing deforms."""
    affine, warp, inverse_warp = affine_and_warps(pair)
    files: Writers = {"0GenericAffine.mat": partial(write_itk_affine, affine)}
    return files | field_files({"1Warp.nii.gz": warp, "1InverseWarp.nii.gz": inverse_warp})
