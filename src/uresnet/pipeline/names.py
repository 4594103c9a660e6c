"""The names of the files that a run writes, known before any work begins. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from uresnet.core.files import RECORD
from uresnet.core.format_files import FORMAT_FILES

REPORT = "report.html"

LABEL_TABLES = {
    "table": "dseg.tsv",
    "freeview": "dseg_freeview.txt",
    "slicer": "dseg_slicer.ctbl",
    "itksnap": "dseg_itksnap.txt",
}
"""The tables beside the segmentations of a registration, by the program that reads them."""

REGISTRATION = (
    "transform.h5",
    "inverse_transform.h5",
    "warped.nii.gz",
    "jacobian.nii.gz",
    "moving_dseg.nii.gz",
    "fixed_dseg.nii.gz",
    "warped_dseg.nii.gz",
    *LABEL_TABLES.values(),
    "volumes.tsv",
    RECORD,
)
"""What ``register`` writes besides its page and the formats that are asked for."""


def registration_names(report: bool, formats: Sequence[str]) -> tuple[str, ...]:
    """The names in an output folder, those of the ``formats`` among them."""
    wanted = {name.strip().lower() for name in formats} - {"itk"}
    exported = [f"{name}_{end}" for name, files in FORMAT_FILES.items() if name in wanted for end in files.together]
    return (*REGISTRATION, *((REPORT,) if report else ()), *exported)


def segmentation_files(path: Path, report: bool) -> dict[str, Path]:
    """What ``segment`` writes, by what it is: "labels" is ``path``, and the others are named after it."""
    stem = re.sub(r"\.(nii|nii\.gz|mgz|mgh)$", "", path.name, flags=re.IGNORECASE)
    endings = (
        {kind: name.removeprefix("dseg") for kind, name in LABEL_TABLES.items()}
        | {
            "volumes": "_volumes.tsv",
            "record": f"_{RECORD}",
        }
        | ({"report": f"_{REPORT}"} if report else {})
    )
    return {"labels": path} | {kind: path.with_name(stem + ending) for kind, ending in endings.items()}
