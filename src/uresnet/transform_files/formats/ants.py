"""ANTs and greedy: an affine and a warp in two files, T(x) = A(x + d(x)), and the inverse warp in a third.

``antsApplyTransforms -t 1Warp.nii.gz -t 0GenericAffine.mat`` and ``greedy -r warp.nii.gz affine.mat`` bring the moving
image over; ``-t [0GenericAffine.mat,1] -t 1InverseWarp.nii.gz`` and ``-r affine.mat,-1 inverse_warp.nii.gz`` the fixed.
Both warps are LPS displacements in NIfTI. The affine is ITK's MATLAB file, or greedy's plain RAS matrix, both fixed →
moving.
"""

from __future__ import annotations

from functools import partial

from uresnet.transform.affine import Affine
from uresnet.transform.deformation import DisplacementField
from uresnet.transform_files.formats.itk import write_itk_affine
from uresnet.transform_files.formats.matrices import write_matrix
from uresnet.transform_files.formats.pair import TransformPair, Writer, Writers, affine_then_warp, warp_then_affine
from uresnet.transform_files.formats.vectors import write_warp


def ants_files(pair: TransformPair) -> Writers:
    """``0GenericAffine.mat``, ``1Warp.nii.gz``, ``1InverseWarp.nii.gz``; only the first where nothing deforms."""
    affine, warp, inverse = _three(pair)
    out: Writers = {"0GenericAffine.mat": partial(write_itk_affine, affine)}
    return out | _warps(("1Warp.nii.gz", warp), ("1InverseWarp.nii.gz", inverse))


def greedy_files(pair: TransformPair) -> Writers:
    """``affine.mat`` (plain RAS matrix), ``warp.nii.gz``, ``inverse_warp.nii.gz``; only the first where nothing
    deforms."""
    affine, warp, inverse = _three(pair)
    out: Writers = {"affine.mat": partial(write_matrix, affine.matrix)}
    return out | _warps(("warp.nii.gz", warp), ("inverse_warp.nii.gz", inverse))


def _three(pair: TransformPair) -> tuple[Affine, DisplacementField | None, DisplacementField | None]:
    warp, affine = warp_then_affine(pair.forward, pair.fixed)
    inverse = affine_then_warp(pair.backward, pair.fixed)[1] if pair.backward is not None and warp is not None else None
    return affine, warp, inverse


def _warps(*named: tuple[str, DisplacementField | None]) -> Writers:
    def writer(field: DisplacementField) -> Writer:
        return lambda path: write_warp(field, field.grid, path)

    return {name: writer(field) for name, field in named if field is not None}
