"""DICOM files of a known image, written by pydicom: a slice in each file, or all slices in one."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from uresnet.core.grid import Grid

ROOT = "1.2.826.0.1.3680043.2.1125"
MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def slice_of(values: np.ndarray, grid: Grid, k: int, series: int = 1, description: str = "T1") -> Dataset:
    """Slice ``k`` of (I, J, K) int16 as one MR image."""
    lps = _LPS @ grid.voxel_to_world
    one = _dataset(np.ascontiguousarray(values[:, :, k].T), MR, f"{ROOT}.{series}", k + 1, description)
    one.ImagePositionPatient = _digits((lps @ [0, 0, k, 1])[:3])
    one.ImageOrientationPatient = _digits((lps[:3, :2] / grid.zooms[:2]).T.ravel())
    one.PixelSpacing = _digits(grid.zooms[1::-1])
    return one


def frames_of(values: np.ndarray, grid: Grid, order: Sequence[int] | None = None) -> Dataset:
    """All slices, in any ``order``, as one enhanced MR image."""
    order = range(grid.shape[2]) if order is None else order
    lps = _LPS @ grid.voxel_to_world
    one = _dataset(np.ascontiguousarray(values.T[list(order)]), ENHANCED_MR, f"{ROOT}.7", 1, "T1")
    one.NumberOfFrames = len(order)
    measures, plane, scaling = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = _digits(grid.zooms[1::-1]), float(grid.zooms[2])
    plane.ImageOrientationPatient = _digits((lps[:3, :2] / grid.zooms[:2]).T.ravel())
    scaling.RescaleSlope, scaling.RescaleIntercept = 1, 0
    shared = Dataset()
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    shared.PixelValueTransformationSequence = [scaling]
    one.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for k in order:
        place, frame = Dataset(), Dataset()
        place.ImagePositionPatient = _digits((lps @ [0, 0, k, 1])[:3])
        frame.PlanePositionSequence = [place]
        frames.append(frame)
    one.PerFrameFunctionalGroupsSequence = frames
    return one


def write_dicom(one: Dataset, path: Path) -> Path:
    """A file with a preamble."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, one, enforce_file_format=True)
    return path


def write_slices(slices: Iterable[Dataset], folder: Path) -> Path:
    """Files whose names are in no order."""
    for n, one in enumerate(slices):
        write_dicom(one, folder / f"{(n * 5) % 97}.dcm")
    return folder


def packed(path: Path, compressor: str, apart: float = 1.0) -> Path:
    """The same file, its pixels packed by GDCM: "JPEG" (lossless) or "JPEG2000"; slices are ``apart`` mm apart."""
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetUseCompression(True)
    writer.SetCompressor(compressor)
    writer.SetFileName(str(path))
    image = sitk.ReadImage(str(path))
    image.SetSpacing((*image.GetSpacing()[:2], apart))
    writer.Execute(image)
    return path


def content_of(one: Dataset) -> bytes:
    """The bytes of its file."""
    file = io.BytesIO()
    pydicom.dcmwrite(file, one, enforce_file_format=True)
    return file.getvalue()


def _dataset(pixels: np.ndarray, kind: str, series: str, number: int, description: str) -> Dataset:
    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.SOPClassUID, one.SOPInstanceUID = kind, f"{series}.{number}"
    one.StudyInstanceUID, one.SeriesInstanceUID = f"{ROOT}.9", series
    one.Modality, one.SeriesDescription, one.InstanceNumber = "MR", description, number
    one.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.Rows, one.Columns = pixels.shape[-2:]
    one.BitsAllocated = one.BitsStored = 16
    one.HighBit, one.PixelRepresentation = 15, 1
    one.PixelData = pixels.astype("<i2").tobytes()
    return one


def _digits(numbers: np.ndarray) -> list[str]:
    return [f"{number:.10g}" for number in numbers]
