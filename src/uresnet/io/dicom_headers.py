"""What one DICOM file says of itself, by pydicom, held against what it has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.errors import UserError
from uresnet.io.dicom_pixels import PIXELS, BoundedFile, damage_of

_SUFFIXES = (".dcm", ".dicom", ".ima")
_WITHOUT_PREAMBLE = b"\x08\x00"  # the first group of a file that begins with its elements
_IN_MEMORY = 1 << 16  # bytes of an element that are read at once


@dataclass(frozen=True)
class Plane:
    """Where one picture lies: the centre of its first pixel and its two directions (LPS mm), as far as the file says;
    and the factor and offset of its values."""

    position: tuple[float, ...] | None
    directions: tuple[float, ...] | None
    scaling: tuple[float, float]


@dataclass(frozen=True)
class DicomFile:
    """One file with pictures of ``rows`` × ``columns`` pixels of ``spacing`` mm (between rows, between columns).

    ``damage`` says in words why it cannot be read; where even the series is unknown, ``series`` is None. ``colours`` is
    what the values stand for. ``apart`` is the distance of neighbouring slices and ``thickness`` that of one, in mm, 0
    where the file does not state it. ``planes`` has one entry for each of the ``frames``, or one for all.
    """

    path: Path
    damage: str = ""
    series: str | None = None
    identifier: str = ""
    description: str = ""
    number: int = 0
    is_mosaic: bool = False
    colours: str = "MONOCHROME2"
    rows: int = 0
    columns: int = 0
    frames: int = 1
    spacing: tuple[float, ...] | None = None
    apart: float = 0.0
    thickness: float = 0.0
    planes: tuple[Plane, ...] = field(default=())


def load_pydicom(path: Path) -> Any:
    """The pydicom module, imported when ``path`` needs it. Raises :class:`UserError` where it is not installed."""
    try:
        import pydicom
        import pydicom.filereader
    except ImportError:
        raise UserError(
            f"{path} needs pydicom to be read; install it (pip install 'uresnet[formats]') or convert it to NIfTI."
        ) from None
    return pydicom


def looks_like_dicom(path: Path) -> bool:
    """Whether a file calls itself DICOM, in its name or its first bytes. Raises ``OSError``."""
    if path.name.startswith("."):
        return False  # what systems leave in folders
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or start.startswith(_WITHOUT_PREAMBLE) or path.suffix.lower() in _SUFFIXES


def read_dicom_header(path: Path) -> DicomFile | None:
    """What a file says of itself; None for DICOM that is no picture (an index, a report)."""
    pydicom = load_pydicom(path)
    try:
        with warnings.catch_warnings(), BoundedFile(path) as file:
            warnings.simplefilter("ignore")
            if _is_deflated(pydicom, path):
                return DicomFile(
                    path, damage="is stored deflated, which is not read; store it plainly (gdcmconv --raw)"
                )
            dataset = pydicom.dcmread(file, defer_size=_IN_MEMORY, force=True)
            if not _is_picture(dataset):
                return None
            return _described(dataset, path, damage_of(dataset, file))
    except (MemoryError, PermissionError):
        raise
    except Exception:  # pydicom raises nearly anything on damaged files
        return DicomFile(path, damage="is damaged; copy it again")


def _is_deflated(pydicom: Any, path: Path) -> bool:
    """pydicom would inflate all of it."""
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
    except pydicom.errors.InvalidDicomError:
        return False  # no preamble, and so no syntax but the plain ones
    return str(meta.get("TransferSyntaxUID", "")) == "1.2.840.10008.1.2.1.99"


def _is_picture(dataset: Any) -> bool:
    """Whether a file is, or claims to be, an image; a file that does not say what it is counts as one."""
    kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
    return PIXELS in dataset or not kind or "Image Storage" in kind.name


def _described(dataset: Any, path: Path, damage: str) -> DicomFile:
    def text(name: str) -> str:
        return str(dataset.get(name) or "").strip()

    known: dict[str, Any] = {
        "series": text("SeriesInstanceUID"),
        "identifier": text("SOPInstanceUID"),
        "description": text("SeriesDescription"),
    }
    if damage:
        return DicomFile(path, damage, **{**known, "series": known["series"] or None})
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or [None]
    planes = tuple(_planes(dataset, frames))
    count = int(dataset.get("NumberOfFrames") or 1)
    if len(planes) not in (1, count):
        raise ValueError("a place for each frame")
    return DicomFile(
        path,
        **known,
        number=int(_number_or_0(dataset, "InstanceNumber")),
        is_mosaic="MOSAIC" in (dataset.get("ImageType") or ()),
        colours=text("PhotometricInterpretation"),
        rows=int(dataset.Rows),
        columns=int(dataset.Columns),
        frames=count,
        spacing=_numbers(_found(dataset, "PixelMeasuresSequence", "PixelSpacing", frames[0]), 2),
        apart=_number_or_0(dataset, "SpacingBetweenSlices", frames[0]),
        thickness=_number_or_0(dataset, "SliceThickness", frames[0]),
        planes=planes,
    )


def _planes(dataset: Any, frames: Any) -> Iterator[Plane]:
    for frame in frames:
        scaling = (
            _found(dataset, "PixelValueTransformationSequence", name, frame)
            for name in ("RescaleSlope", "RescaleIntercept")
        )
        slope, intercept = (default if v is None else float(v) for v, default in zip(scaling, (1, 0), strict=True))
        yield Plane(
            _numbers(_found(dataset, "PlanePositionSequence", "ImagePositionPatient", frame), 3),
            _numbers(_found(dataset, "PlaneOrientationSequence", "ImageOrientationPatient", frame), 6),
            (slope, intercept),
        )


def _found(dataset: Any, group: str, name: str, frame: Any = None) -> Any:
    """A value of one frame, of all frames, or of the file."""
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    for place in (frame, shared):
        items = None if place is None else place.get(group)
        if items and items[0].get(name) is not None:
            return items[0].get(name)
    return dataset.get(name)


def _number_or_0(dataset: Any, name: str, frame: Any = None) -> float:
    """A number that only helps: one that is none is no damage."""
    try:
        number = float(_found(dataset, "PixelMeasuresSequence", name, frame) or 0)
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        return 0.0
    return number if np.isfinite(number) else 0.0


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    """Raises ``ValueError`` for numbers that are none, or not as many."""
    if values is None:
        return None
    numbers = tuple(float(value) for value in values)
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError(f"{count} numbers are needed")
    return numbers
