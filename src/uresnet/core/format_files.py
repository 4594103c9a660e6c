"""The files of every transform format, known before any work begins. Loads no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from uresnet.core.choices import FormatName
from uresnet.errors import UserError, quoted

_DENSE = (".nii.gz", ".nii")


@dataclass(frozen=True)
class FormatFiles:
    """``together``: the ends of the names of all files, the inverse among them; a transform that does not deform has
    the first only, or the first two of ITK.

    ``deforming`` and ``affine``: the endings of one file that holds any transform, and of one that holds an affine.
    """

    together: tuple[str, ...]
    deforming: tuple[str, ...] = _DENSE
    affine: tuple[str, ...] = ()

    @property
    def endings(self) -> tuple[str, ...]:
        """Of one file."""
        return (*self.deforming, *self.affine)


_ITK = ((".h5", *_DENSE), (".mat", ".txt", ".tfm"))

FORMAT_FILES: dict[FormatName, FormatFiles] = {
    "itk": FormatFiles(("transform.h5", "inverse_transform.h5"), *_ITK),
    "ants": FormatFiles(("0GenericAffine.mat", "1Warp.nii.gz", "1InverseWarp.nii.gz"), *_ITK),
    "fsl": FormatFiles(("flirt.mat", "warp.nii.gz", "inverse_warp.nii.gz"), affine=(".mat", ".txt")),
    "freesurfer": FormatFiles(("affine.lta", "warp.mgz", "inverse_warp.mgz"), (".mgz",), (".lta",)),
    "greedy": FormatFiles(("affine.mat", "warp.nii.gz", "inverse_warp.nii.gz"), affine=(".mat", ".txt")),
    "nifti": FormatFiles(("warp.nii.gz", "inverse_warp.nii.gz")),
    "learn2reg": FormatFiles(("disp.nii.gz", "inverse_disp.nii.gz")),
}

TRANSFORM_SUFFIXES = tuple(dict.fromkeys(end for files in FORMAT_FILES.values() for end in files.endings))
"""The endings of one file of any format."""


def is_one_file(output: Path) -> bool:
    """Whether a name is that of one transform file, rather than the beginning of the names of several."""
    return output.name.lower().endswith(TRANSFORM_SUFFIXES)


def files_at(output: Path, endings: Iterable[str]) -> list[Path]:
    """The files of a format whose names begin with ``output``; in a folder, their plain names."""
    return [output / ending if output.is_dir() else output.with_name(output.name + ending) for ending in endings]


def converted_files(output: str | Path, to: FormatName) -> list[Path]:
    """What ``output`` stands for: itself, or all files of the format, whose names begin with it, or which lie in it if
    it is a folder.

    Raises :class:`UserError` for an ending that the format does not have, a folder that does not exist, and what is
    neither a folder nor the beginning of names (a device, another file).
    """
    named_folder, output, files = str(output).endswith(("/", os.sep)), Path(output), FORMAT_FILES[to]
    if is_one_file(output):
        if not output.name.lower().endswith(files.endings):
            raise UserError(f"{quoted(output)}: {to} has {' '.join(files.endings)}; give it one of these endings.")
        return [output]
    if output.is_dir():
        return files_at(output, files.together)
    if named_folder:
        raise UserError(f"{quoted(output)} is no folder that exists; create it first.")
    if os.path.lexists(output):
        raise UserError(
            f"{quoted(output)} is there already, and is no folder; give a folder, another beginning of the names, or "
            f"one file: {to} has {' '.join(files.endings)}."
        )
    if re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{0,5}", output.suffix):
        raise UserError(
            f"{quoted(output)} has an ending that no transform is written with; {to} has {' '.join(files.endings)}: "
            "give it one of these, or, for the beginning of the names of several files, put _ at its end."
        )
    return files_at(output, files.together)
