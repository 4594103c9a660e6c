"""The names of the files that a run writes, known before any work begins. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from uresnet.core.choices import ExtraName, OutputName, SegmentationExtra
from uresnet.core.files import LOG, RECORD
from uresnet.core.format_files import FORMAT_FILES
from uresnet.errors import UserError, quoted

REPORT = "report.html"
VOLUMES_SIDECAR = "volumes.json"

LABEL_TABLES = {
    "table": "dseg.tsv",
    "freeview": "dseg_freeview.txt",
    "slicer": "dseg_slicer.ctbl",
    "itksnap": "dseg_itksnap.txt",
}
"""The tables beside the segmentations of a registration, by the program that reads them."""

OUTPUTS: dict[OutputName, tuple[str, ...]] = {
    "transform": ("transform.h5",),
    "inverse": ("inverse_transform.h5",),
    "warped": ("warped.nii.gz",),
    "jacobian": ("jacobian.nii.gz",),
    "segmentations": ("moving_dseg.nii.gz", "fixed_dseg.nii.gz", "warped_dseg.nii.gz"),
    "tables": tuple(LABEL_TABLES.values()),
    "volumes": ("volumes.tsv", VOLUMES_SIDECAR),
    "report": (REPORT,),
    "mask": ("moving_brain_mask.nii.gz", "fixed_brain_mask.nii.gz"),
    "stripped": ("moving_stripped.nii.gz", "fixed_stripped.nii.gz"),
}
"""The files of each output of a registration; the record is always written."""

DEFAULT_OUTPUTS: tuple[OutputName, ...] = tuple(name for name in OUTPUTS if name not in get_args(ExtraName))

IMAGE_ENDING = re.compile(r"\.(nii|nii\.gz|mgz|mgh)$", re.IGNORECASE)
_OTHER_FILE = re.compile(
    r"\.(gz|nrrd|nhdr|mha|mhd|hdr|img|dcm|mnc|tif|tiff|png|npy|npz|h5|mat|txt|tsv|csv|json|html)$", re.IGNORECASE
)


_EXTRA_FILES: dict[SegmentationExtra, str] = {
    "mask": "brain_mask.nii.gz",
    "stripped": "stripped.nii.gz",
    "t1": "predicted_t1.nii.gz",
}


def chosen_outputs(
    text: str | None,
    report: bool | None,
    extras: Sequence[ExtraName],
    default: Sequence[OutputName] = DEFAULT_OUTPUTS,
) -> tuple[OutputName, ...]:
    """``"transform,warped"`` (None: the ``default``), with the ``report`` or without it (None: as named), and with
    ``extras``. Raises :class:`UserError` for a word that is no output, and for a report that is asked for and not."""
    named = default if text is None else [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in named if name not in OUTPUTS]
    if unknown or not named:
        raise UserError(f"There is no output '{quoted(', '.join(unknown))}'; choose from {', '.join(OUTPUTS)}.")
    if text is not None and "report" in named and report is False:
        raise UserError("--outputs names report, and --no-report leaves it out; give one of them.")
    wanted = {*named, *extras, *(("report",) if report else ())} - ({"report"} if report is False else set())
    return tuple(name for name in OUTPUTS if name in wanted)


def registration_names(outputs: Sequence[OutputName], formats: Sequence[str]) -> tuple[str, ...]:
    """The names in an output folder, those of the ``formats`` among them."""
    wanted = {name.strip().lower() for name in formats} - {"itk"}
    exported = [f"{name}_{end}" for name, files in FORMAT_FILES.items() if name in wanted for end in files.together]
    return (*(file for name in outputs for file in OUTPUTS[name]), RECORD, *exported)


def is_label_file(path: Path) -> bool:
    """Whether a path names the label map that ``segment`` writes; else it names a folder. Raises :class:`UserError`
    for the name of a file of another kind."""
    if IMAGE_ENDING.search(path.name):
        return True
    if _OTHER_FILE.search(path.name) and not path.is_dir():
        raise UserError(f"{quoted(str(path))} should end in .nii, .nii.gz, .mgz or .mgh, or be the name of a folder.")
    return False


def segmentation_files(path: Path, report: bool, extras: Sequence[SegmentationExtra] = ()) -> dict[str, Path]:
    """What ``segment`` writes, by what it is: "labels" is ``path``, and the others are named after it. Where ``path``
    names a folder, the files lie in it under names of their own."""
    names = LABEL_TABLES | {"volumes": "volumes.tsv", "sidecar": VOLUMES_SIDECAR, "record": RECORD, "log": LOG}
    names |= {"report": REPORT} if report else {}
    names |= {extra: file for extra, file in _EXTRA_FILES.items() if extra in extras}
    names |= {"t1_report": "predicted_t1.html"} if report and "t1" in extras else {}
    if not is_label_file(path):
        return {"labels": path / "dseg.nii.gz"} | {kind: path / name for kind, name in names.items()}
    stem = IMAGE_ENDING.sub("", path.name)
    endings = {kind: name.removeprefix("dseg") if kind in LABEL_TABLES else f"_{name}" for kind, name in names.items()}
    return {"labels": path} | {kind: path.with_name(stem + ending) for kind, ending in endings.items()}


def distinct_names(images: Sequence[Path]) -> list[str]:
    """A name for each of several images, for the folders of their results: the file's, after as many of its folders as
    tell it from the others. Raises :class:`UserError` for an image that is named twice."""
    ways = [[*(part for part in image.absolute().parts[1:-1]), _stem(image)] for image in images]
    for depth in range(1, max(len(way) for way in ways) + 1):
        names = ["_".join(way[-depth:]) for way in ways]
        if len(set(names)) == len(names):
            return names
    raise UserError("An image is named twice; name each image once.")


def _stem(image: Path) -> str:
    name = IMAGE_ENDING.sub("", image.name)
    return _OTHER_FILE.sub("", name) or name
