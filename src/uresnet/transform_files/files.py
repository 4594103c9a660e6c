"""Transforms to and from files of any program: which reader fits a file, and which files make up a format.

Inside the package a transform maps fixed world → moving world in RAS mm. What every other convention is, is known in
``formats`` and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.transform.affine import Affine
from uresnet.transform.base import Transform
from uresnet.transform.composite import Composite
from uresnet.transform_files.formats.ants import ants_files, greedy_files
from uresnet.transform_files.formats.freesurfer import (
    freesurfer_files,
    read_lta,
    read_mgz_warp,
    read_ras_warp,
    write_lta,
    write_mgz_warp,
)
from uresnet.transform_files.formats.fsl import flirt_matrix, fsl_files, read_flirt, read_fsl_warp, write_fsl_warp
from uresnet.transform_files.formats.itk import (
    H5_SUFFIXES,
    TEXT_SUFFIXES,
    is_itk_text,
    read_h5,
    read_matlab,
    read_text,
    write_itk_affine,
    write_itk_composite,
)
from uresnet.transform_files.formats.learn2reg import learn2reg_files, read_voxel_displacement, write_voxel_displacement
from uresnet.transform_files.formats.matrices import parsed_matrix, text_of, write_matrix
from uresnet.transform_files.formats.pair import TransformPair, Writers, is_affine, only_affine
from uresnet.transform_files.formats.vectors import (
    FSL_INTENT,
    LPS,
    LPS_INTENT,
    NO_INTENT,
    RAS_INTENT,
    SUFFIXES,
    field_of,
    read_vectors,
    write_warp,
)

__all__ = [
    "FORMATS",
    "TransformPair",
    "export_files",
    "is_affine",
    "parse_formats",
    "read_transform",
    "write_itk_affine",
    "write_itk_composite",
    "write_transform",
    "write_warp",
]


def _itk_files(pair: TransformPair) -> Writers:
    out: Writers = {"transform.h5": partial(write_itk_composite, pair.forward)}
    if pair.backward is not None:
        out["inverse_transform.h5"] = partial(write_itk_composite, pair.backward)
    return out


def _nifti_files(pair: TransformPair) -> Writers:
    fixed = pair.grid("fixed")
    out: Writers = {"warp.nii.gz": partial(write_warp, pair.forward, fixed)}
    if pair.backward is not None:
        out["inverse_warp.nii.gz"] = partial(write_warp, pair.backward, pair.grid("moving"))
    return out


FORMATS: dict[str, Callable[[TransformPair], Writers]] = {
    "itk": _itk_files,
    "ants": ants_files,
    "fsl": fsl_files,
    "freesurfer": freesurfer_files,
    "greedy": greedy_files,
    "nifti": _nifti_files,
    "learn2reg": learn2reg_files,
}
"""What each format is made of: ending of a file's name → what writes it."""


def parse_formats(text: str) -> tuple[str, ...]:
    """``"itk,ants"`` → names of ``FORMATS``, each once. ``UserError`` for a name that is none."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FORMATS]
    if unknown or not names:
        raise UserError(f"there is no transform format '{', '.join(unknown)}'; choose from {', '.join(FORMATS)}")
    return tuple(dict.fromkeys(names))


def export_files(pair: TransformPair, formats: Sequence[str]) -> Writers:
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
    """What a file is taken for: ``format`` (None: as it says itself) and the images' grids, where it needs them."""

    format: str | None = None
    fixed: Grid | None = None
    moving: Grid | None = None

    def grid(self, which: Literal["fixed", "moving"], path: Path) -> Grid:
        """The fixed or moving grid. ``UserError`` naming ``path`` where it was not given."""
        grid = self.fixed if which == "fixed" else self.moving
        if grid is None:
            raise UserError(f"{path} does not say where the {which} image lies; name that image with --{which}")
        return grid


def read_transform(path: str | Path, kind: FileKind | None = None) -> Composite:
    """Read a transform, fixed world → moving world, from a file.

    ITK ``.h5`` (composite or single; float or double; affine, rigid, similarity, translation and displacement fields),
    ITK ``.mat``, ITK ``.txt``/``.tfm``, a plain-text 4×4 RAS matrix (``.txt``, ``.mat``: greedy, c3d), FreeSurfer
    ``.lta`` and ``.mgz`` warps, and dense warps ``.nii``/``.nii.gz`` by their intent: 1007 (LPS mm), 1006 (RAS mm),
    2006 (FSL). ``kind`` says what a file does not: that a matrix is FLIRT's, that vectors are Learn2Reg's, which grids
    they belong to. Anything else, a damaged file, and a file that is not of the stated format, is a ``UserError``.
    """
    path, kind = Path(path), kind or FileKind()
    if not path.is_file():
        raise UserError(f"there is no file {path}" if not path.exists() else f"{path} is not a file")
    name = path.name.lower()
    if name.endswith(H5_SUFFIXES):
        _allowed(path, kind, "itk", "ants")
        return Composite(read_h5(path))
    if name.endswith(SUFFIXES):
        return Composite([_read_dense(path, kind)])
    if name.endswith(".lta"):
        _allowed(path, kind, "freesurfer")
        return Composite([read_lta(path)])
    if name.endswith((".mgz", ".mgh")):
        _allowed(path, kind, "freesurfer")
        return Composite([read_mgz_warp(path)])
    if name.endswith((".mat", *TEXT_SUFFIXES)):
        return Composite(_read_matrix_file(path, kind))
    if name.endswith(".m3z"):
        raise UserError(f"{path} is FreeSurfer's older warp; turn it into .mgz with mri_warp_convert first")
    raise UserError(
        f"{path} is not a transform that can be read: give .h5, .mat, .txt, .tfm, .lta, or a warp .nii.gz or .mgz"
    )


def _read_matrix_file(path: Path, kind: FileKind) -> list[Transform]:
    text = text_of(path)
    if text is None:
        _allowed(path, kind, "itk", "ants")
        return read_matlab(path)
    if is_itk_text(text):
        _allowed(path, kind, "itk", "ants")
        return read_text(path, text)
    if kind.format == "fsl":
        return [read_flirt(path, kind.grid("fixed", path), kind.grid("moving", path))]
    _allowed(path, kind, "greedy")
    return [Affine(parsed_matrix(path, text))]


def _read_dense(path: Path, kind: FileKind) -> Transform:
    volume = read_vectors(path)
    stated = {LPS_INTENT: "nifti", RAS_INTENT: "freesurfer", FSL_INTENT: "fsl"}.get(volume.intent)
    wanted = {"itk": "nifti", "ants": "nifti", "greedy": "nifti"}.get(kind.format or "", kind.format)
    if stated is None and (wanted is None or volume.intent != NO_INTENT):
        raise UserError(
            f"{path} has {volume.meaning}; say what its vectors are with --from (nifti: LPS mm; fsl; learn2reg: voxels)"
        )
    if stated is not None and wanted not in (None, stated):
        raise UserError(f"{path} has {volume.meaning}, and is not a {kind.format} warp")
    meant = stated or wanted
    if meant == "fsl":
        field = read_fsl_warp(path, kind.grid("moving", path))
    elif meant == "freesurfer":
        field = read_ras_warp(path)
    elif meant == "learn2reg":
        field = read_voxel_displacement(path, kind.grid("moving", path), kind.fixed)
    else:
        field = field_of(path, volume.values * LPS.diagonal()[:3], volume.voxel_to_world)
    if kind.fixed is not None and meant in ("fsl", "learn2reg") and not field.grid.same_as(kind.fixed, 1e-2):
        raise UserError(f"{path} is a warp on another grid than the fixed image's; give the image it was made for")
    return field


def _allowed(path: Path, kind: FileKind, *formats: str) -> None:
    if kind.format is not None and kind.format not in formats:
        raise UserError(f"{path} is a transform of another kind ({formats[0]}), not {kind.format}")


def write_transform(transform: Transform, path: str | Path, format: str | None = None, **grids: Grid | None) -> None:
    """Write a transform into one file, as its ending says: ``.h5`` any, ``.mat``, ``.txt`` and ``.tfm`` only an affine.

    ``format`` (a name of ``FORMATS``) says what else the file is to be: a FLIRT matrix or a plain one instead of ITK's,
    an LTA, a dense warp of one of four kinds. ``fixed`` and ``moving`` are the grids that some of them need.
    """
    path = Path(path)
    name, pair = path.name.lower(), TransformPair(transform, None, grids.get("fixed"), grids.get("moving"))
    if name.endswith(".lta") and format in (None, "freesurfer"):
        write_lta(only_affine(transform, path), pair.grid("fixed"), pair.grid("moving"), path)
    elif name.endswith(".mgz") and format in (None, "freesurfer"):
        write_mgz_warp(transform, pair.grid("fixed"), pair.grid("moving"), path)
    elif name.endswith((".mat", *TEXT_SUFFIXES)):
        _write_matrix_file(pair, path, format)
    elif name.endswith(SUFFIXES) and format is not None:
        _write_dense(pair, path, format)
    elif format in (None, "itk", "ants"):
        write_itk_composite(transform, path)
    else:
        raise UserError(f"{path}: {format} has no such file; see which endings it has with uresnet convert --help")


def _write_matrix_file(pair: TransformPair, path: Path, format: str | None) -> None:
    affine = only_affine(pair.forward, path)
    if format == "fsl":
        write_matrix(flirt_matrix(affine, pair.grid("fixed"), pair.grid("moving")), path)
    elif format == "greedy":
        write_matrix(affine.matrix, path)
    elif format in (None, "itk", "ants"):
        write_itk_affine(affine, path)
    else:
        raise UserError(f"{path}: {format} keeps no matrix in such a file; choose fsl, greedy, itk or ants")


def _write_dense(pair: TransformPair, path: Path, format: str) -> None:
    if format == "fsl":
        write_fsl_warp(pair.forward, pair.grid("fixed"), pair.grid("moving"), path)
    elif format == "learn2reg":
        write_voxel_displacement(pair.forward, pair.grid("fixed"), pair.grid("moving"), path)
    elif format == "freesurfer":
        raise UserError(f"{path}: a FreeSurfer warp is written as .mgz; give the file that ending")
    else:
        write_warp(pair.forward, pair.grid("fixed"), path)
