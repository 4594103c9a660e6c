"""Transforms to and from files of any program: which reader fits a file, and which files make up a format.

Inside the package a transform maps fixed world → moving world in RAS mm. Every other convention is known in one module
of ``formats``, that of its program, and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from uresnet.core.choices import FormatName, check_choices
from uresnet.core.files import check_exist
from uresnet.core.format_files import FORMAT_FILES
from uresnet.core.grid import Grid
from uresnet.errors import InputWarning, UserError
from uresnet.transform import Affine, Composite, Transform
from uresnet.transform_files.contents import no_transform, reading
from uresnet.transform_files.formats.ants import ants_files
from uresnet.transform_files.formats.freesurfer import (
    freesurfer_files,
    read_lta,
    read_mgz_warp,
    read_ras_warp,
    write_lta,
    write_mgz_warp,
)
from uresnet.transform_files.formats.fsl import flirt_matrix, fsl_files, read_flirt, read_fsl_warp, write_fsl_warp
from uresnet.transform_files.formats.greedy import greedy_files
from uresnet.transform_files.formats.itk import (
    H5_SUFFIXES,
    TEXT_SUFFIXES,
    is_itk_text,
    itk_files,
    read_h5,
    read_itk_text,
    read_matlab,
    write_itk_affine,
    write_itk_composite,
)
from uresnet.transform_files.formats.learn2reg import learn2reg_files, read_voxel_displacement, write_voxel_displacement
from uresnet.transform_files.formats.matrices import parse_matrix, read_text, write_matrix
from uresnet.transform_files.formats.nifti import (
    NIFTI_SUFFIXES,
    VectorKind,
    field_of,
    nifti_files,
    read_vectors,
    write_warp,
)
from uresnet.transform_files.formats.pair import TransformPair, Writers, only_affine

FORMATS: dict[FormatName, Callable[[TransformPair], Writers]] = {
    "itk": itk_files,
    "ants": ants_files,
    "fsl": fsl_files,
    "freesurfer": freesurfer_files,
    "greedy": greedy_files,
    "nifti": nifti_files,
    "learn2reg": learn2reg_files,
}
"""The files of each format: ending of a file's name → what writes it."""


def parse_formats(text: str) -> tuple[FormatName, ...]:
    """``"itk,ants"`` → names of ``FORMATS``, each once. ``UserError`` for a name that is none."""
    named = dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip())
    unknown = [name for name in named if name not in get_args(FormatName)]
    if unknown or not named:
        raise UserError(f"There is no transform format '{', '.join(unknown)}'; choose from {', '.join(FORMATS)}.")
    return tuple(name for name in named if name in FORMATS)


def export_files(pair: TransformPair, formats: Sequence[FormatName]) -> Writers:
    """Names of the files and their writers: ``transform.h5`` and ``inverse_transform.h5`` for itk, and
    ``FORMAT_…`` for every other format. ``UserError`` where a format needs a grid that the pair lacks."""
    out: Writers = {}
    for name in formats:
        prefix = "" if name == "itk" else f"{name}_"
        out |= {f"{prefix}{ending}": writer for ending, writer in FORMATS[name](pair).items()}
    return out


# -- one file ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileKind:
    """What the caller knows about a transform file and the file does not say.

    ``format`` is the program's name; None: the file itself says whose it is. ``fixed`` and ``moving`` are the grids of
    the images that the file belongs to, for formats that need them. ``one_of_several``: the format is that of one file
    of a chain, and another that says itself what it is may be of another program.
    """

    format: FormatName | None = None
    fixed: Grid | None = None
    moving: Grid | None = None
    one_of_several: bool = False

    def grid(self, which: Literal["fixed", "moving"], path: Path) -> Grid:
        """The fixed or moving grid. ``UserError`` naming ``path`` where it was not given."""
        grid = self.fixed if which == "fixed" else self.moving
        if grid is None:
            raise UserError(f"{path} does not say where the {which} image lies; name that image with --{which}.")
        return grid


def read_transform(path: str | Path, kind: FileKind | None = None) -> Composite:
    """Read a transform, fixed world → moving world, from a file.

    ITK ``.h5`` (composite or single; float or double; affine, rigid, similarity, translation and displacement fields),
    ITK ``.mat``, ITK ``.txt``/``.tfm``, FreeSurfer ``.lta`` and ``.mgz`` warps, and dense warps ``.nii``/``.nii.gz`` by
    their intent, code and name: 1007 (LPS mm), 1006 (RAS mm), 2006 (FSL), SPM's and NiftyReg's positions. ``kind`` says
    what a file does not: whose a bare 4×4 matrix is (greedy's or FLIRT's), that vectors are Learn2Reg's, which grids
    they belong to. Anything else, a damaged file, and a file that is not of the stated format, is a ``UserError``.
    """
    check_choices("uresnet.read_transform", path=(path, str | Path), kind=(kind, FileKind | None))
    path, kind = Path(path), kind or FileKind()
    check_exist(path)
    if not path.is_file():
        raise UserError(f"{path} is not a file; give a transform file.")
    with reading(path):
        parts = _parts(path, kind)
    mirrors = [np.linalg.det(part.matrix) < 0 for part in parts if isinstance(part, Affine)]
    if sum(mirrors) % 2:
        warnings.warn(
            f"{path} turns a brain into its mirror image (its matrix has a negative determinant), which no "
            "registration of two brains does.",
            InputWarning,
            stacklevel=2,
        )
    return Composite(parts)


def _parts(path: Path, kind: FileKind) -> list[Transform]:
    """The parts of a file, by its ending. Damage raises anything."""
    name = path.name.lower()
    if name.endswith(H5_SUFFIXES):
        _check_format(path, kind, "itk", "ants")
        return read_h5(path)
    if name.endswith(NIFTI_SUFFIXES):
        return [_read_dense(path, kind)]
    if name.endswith(".lta"):
        _check_format(path, kind, "freesurfer")
        return [read_lta(path)]
    if name.endswith((".mgz", ".mgh")):
        _check_format(path, kind, "freesurfer")
        return [read_mgz_warp(path)]
    if name.endswith((".mat", *TEXT_SUFFIXES)):
        return _read_matrix_file(path, kind)
    if name.endswith(".m3z"):
        raise UserError(f"{path} is FreeSurfer's older warp; turn it into .mgz with mri_warp_convert first.")
    if name.endswith(_OF_IMAGES):
        raise no_transform(path, "an image by its name")
    if name.endswith(_OF_POINTS):
        raise no_transform(path, "a table of points by its name")
    raise UserError(
        f"{path} is not a transform that can be read: give .h5, .mat, .txt, .tfm, .lta, or a warp .nii.gz or .mgz."
    )


_OF_IMAGES = (".img", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm", ".ima", ".zip")
_OF_POINTS = (".csv", ".tsv", ".fcsv", ".mrk.json")


def _read_matrix_file(path: Path, kind: FileKind) -> list[Transform]:
    text = read_text(path)
    if text is None:
        _check_format(path, kind, "itk", "ants")
        return read_matlab(path)
    if is_itk_text(text):
        _check_format(path, kind, "itk", "ants")
        return read_itk_text(path, text)
    if kind.format == "fsl":
        return [read_flirt(path, kind.grid("fixed", path), kind.grid("moving", path))]
    matrix = parse_matrix(path, text)
    if kind.format != "greedy":
        whose = "which does not say whose it is" if kind.format is None else f"and no transform of {kind.format}"
        raise UserError(
            f"{path} is a bare 4×4 matrix, {whose}; say whose with --from greedy (also c3d: RAS millimetres, fixed → "
            "moving) or --from fsl (FLIRT)."
        )
    return [Affine(matrix)]


_LPS_FORMATS: tuple[FormatName, ...] = ("nifti", "itk", "ants", "greedy")
_SAYING: dict[VectorKind, tuple[FormatName, ...]] = {
    "lps": _LPS_FORMATS,
    "ras": ("freesurfer",),
    "position": (),
    "fsl": ("fsl",),
    "not said": (*_LPS_FORMATS, "fsl", "learn2reg"),
}
"""What a file says its vectors are → what ``--from`` may say of them."""


def _read_dense(path: Path, kind: FileKind) -> Transform:
    volume = read_vectors(path)
    agreeing: tuple[FormatName, ...] = _SAYING[volume.kind]
    if volume.kind == "not said" and kind.format not in agreeing:
        raise UserError(
            f"{path} has {volume.meaning}; say what its vectors are with --from (nifti: LPS mm; fsl; learn2reg: "
            "voxels)."
        )
    if kind.format is not None and kind.format not in agreeing and not kind.one_of_several:
        raise UserError(
            f"{path} has {volume.meaning}, and is not a {kind.format} warp; leave out --from, or give another file."
        )
    meant = kind.format if volume.kind == "not said" else None
    if volume.kind == "fsl" or meant == "fsl":
        field = read_fsl_warp(volume, kind.grid("moving", path))
    elif meant == "learn2reg":
        field = read_voxel_displacement(volume, kind.grid("moving", path), kind.fixed)
    elif volume.kind == "ras":
        return read_ras_warp(volume)
    else:
        return field_of(path, volume.ras_displacement(), volume.grid)
    if kind.fixed is not None and not field.grid.same_as(kind.fixed, 1e-2):
        raise UserError(f"{path} is a warp on another grid than the fixed image's; give the image it was made for.")
    return field


def _check_format(path: Path, kind: FileKind, *formats: FormatName, said: bool = True) -> None:
    """``said``: whether the file itself says that it is of one of these ``formats``."""
    if kind.format is not None and kind.format not in formats and not (kind.one_of_several and said):
        raise UserError(
            f"{path} is a transform of another kind ({formats[0]}), not {kind.format}; leave out --from, or give "
            "another file."
        )


def write_transform(
    transform: Transform,
    path: str | Path,
    format: FormatName | None = None,
    fixed: Grid | None = None,
    moving: Grid | None = None,
) -> None:
    """Write a transform into one file, by its ending: ``.h5`` any, ``.mat``, ``.txt``, ``.tfm`` and ``.lta`` only an
    affine, the others a displacement for each voxel.

    ``format`` is the program that the file is for, by default FreeSurfer for ``.lta`` and ``.mgz`` and else ITK: it
    chooses between kinds of matrices and between kinds of dense warps. Some formats need the grids of the ``fixed`` and
    the ``moving`` image. ``UserError`` for a format without such a file, a grid that is missing, and a transform that
    the file cannot hold.
    """
    path = Path(path)
    name, pair = path.name.lower(), TransformPair(transform, None, fixed, moving)
    format = format or ("freesurfer" if name.endswith(FORMAT_FILES["freesurfer"].endings) else "itk")
    if not name.endswith(FORMAT_FILES[format].endings):
        raise UserError(f"{path}: {format} has {' '.join(FORMAT_FILES[format].endings)}; choose one of these endings.")
    if name.endswith(FORMAT_FILES[format].affine):
        _write_affine(pair, path, format)
    elif name.endswith(NIFTI_SUFFIXES):
        _write_dense(pair, path, format)
    elif format == "freesurfer":
        write_mgz_warp(transform, pair.grid("fixed"), pair.grid("moving"), path)
    else:
        write_itk_composite(transform, path)


def check_holds(path: Path, transform: Transform) -> None:
    """``UserError`` for a transform that deforms and a file of ITK that holds only an affine."""
    if path.name.lower().endswith(FORMAT_FILES["itk"].affine):
        only_affine(transform, path, ".h5")


def _write_affine(pair: TransformPair, path: Path, format: FormatName) -> None:
    affine = only_affine(pair.forward, path, FORMAT_FILES[format].deforming[0])
    if format == "freesurfer":
        write_lta(affine, pair.grid("fixed"), pair.grid("moving"), path)
    elif format == "fsl":
        write_matrix(flirt_matrix(affine, pair.grid("fixed"), pair.grid("moving")), path)
    elif format == "greedy":
        write_matrix(affine.matrix, path)
    else:
        write_itk_affine(affine, path)


def _write_dense(pair: TransformPair, path: Path, format: FormatName) -> None:
    if format == "fsl":
        write_fsl_warp(pair.forward, pair.grid("fixed"), pair.grid("moving"), path)
    elif format == "learn2reg":
        write_voxel_displacement(pair.forward, pair.grid("fixed"), pair.grid("moving"), path)
    else:
        write_warp(pair.forward, pair.grid("fixed"), path)
