"""The pixels of a DICOM file: what it claims to hold, held against what it has, and then read.

pydicom reads the file. GDCM, which unpacks JPEG and what followed it, believes what a file claims: it allocates the
length of every element that it sees, and the size of every picture. It never gets the file itself, only its packed
pixels in a file of our own, after their sizes have been checked.
"""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.errors import UserError
from uresnet.io.contents import MOST_VOXELS
from uresnet.io.simpleitk import load_simpleitk, without_complaint

PIXELS = 0x7FE00010
"""The tag of the pixels."""
_OF_PIXELS = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel")
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"  # pictures without places: secondary capture, multi-frame, grey, words
_UNPACKED, _UNPACKED_LEAST = 1000, 64 << 20  # packed pixels become so many times larger at most, or so many bytes
_ITEM, _END, _UNDEFINED = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", 0xFFFFFFFF
_PICTURES = "1.2.840.10008.1.2.4."  # syntaxes whose pixels are packed in pictures: JPEG and what followed
_JPEG, _JPEG_2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"  # how their pictures begin
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # segments of JPEG and JPEG-LS that say a picture's size


class BoundedFile(io.FileIO):
    """A file that never asks for more memory than it has bytes left."""

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self.length - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))

    @property
    def length(self) -> int:
        """How many bytes there are."""
        return os.fstat(self.fileno()).st_size


# -- reading -----------------------------------------------------------------------------------------------------------


def read_pixels(pydicom: Any, path: Path) -> np.ndarray:
    """The stored values (frames, rows, columns) of a file without damage. Raises :class:`UserError` where they do not
    unpack."""
    with BoundedFile(path) as file:
        dataset = pydicom.dcmread(file, force=True)
    syntax = str(dataset.file_meta.get("TransferSyntaxUID", ""))
    if syntax.startswith(_PICTURES):
        values = _unpacked(pydicom, dataset, path)
    else:
        if not syntax:
            implicit = dataset.original_encoding[0]
            plain = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = plain
        values = _within_bits(pydicom.pixels.pixel_array(dataset, raw=True), dataset)
    return values.reshape(-1, int(dataset.Rows), int(dataset.Columns))


def _within_bits(values: np.ndarray, dataset: Any) -> np.ndarray:
    """Without what else the words of the values hold, with their sign."""
    word, stored = values.dtype.itemsize * 8, int(dataset.get("BitsStored") or 0)
    high = int(dataset.get("HighBit") or stored - 1)
    if not stored or (stored == word and high == word - 1):
        return values
    return (values << (word - 1 - high)) >> (word - stored)


def _unpacked(pydicom: Any, dataset: Any, path: Path) -> np.ndarray:
    """Values of pictures, by GDCM."""
    sitk = load_simpleitk(path)
    alone = pydicom.Dataset()
    alone.file_meta = pydicom.dataset.FileMetaDataset()
    alone.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    alone.SOPClassUID, alone.SOPInstanceUID = _CAPTURE, "1.2.3"
    for name in _OF_PIXELS:
        setattr(alone, name, int(dataset.get(name) or 0))
    alone.NumberOfFrames = int(dataset.get("NumberOfFrames") or 1)
    alone.PhotometricInterpretation = "MONOCHROME2"
    alone.PixelData = dataset.PixelData
    alone["PixelData"].is_undefined_length = True
    with tempfile.TemporaryDirectory(prefix="uresnet-dicom-") as folder:
        place = Path(folder) / "pixels.dcm"
        pydicom.dcmwrite(place, alone, enforce_file_format=True)
        try:
            image = without_complaint(lambda: sitk.ReadImage(str(place)), path)
        except RuntimeError as error:
            raise UserError(
                f"{path} has packed pixels that cannot be unpacked; convert it with dcm2niix, or copy it again."
            ) from error
        return np.asarray(sitk.GetArrayFromImage(image))


# -- sizes -------------------------------------------------------------------------------------------------------------


def damage_of(dataset: Any, file: BoundedFile) -> str:
    """Why a file cannot hold what its data set claims, in words; empty where it can."""
    if not _fits(dataset, file.length) or not _fits(dataset.file_meta, file.length):
        return "is truncated: an element of it ends after the file; copy it again"
    if PIXELS not in dataset or not dataset.get("Rows"):
        return "is truncated: it holds no pixels; copy it again"
    pixels = dataset.get_item(PIXELS, keep_deferred=True)
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    claimed = rows * columns * frames * samples * int(dataset.BitsAllocated) // 8
    if min(rows, columns, frames, samples) < 1 or rows * columns * frames * samples > MOST_VOXELS:
        return f"claims {rows} × {columns} × {frames} voxels, which cannot be; copy it again"
    if pixels.length != _UNDEFINED:
        return "is truncated: it holds fewer pixels than it claims; copy it again" if pixels.length < claimed else ""
    pictures = _pictures(file, int(pixels.value_tell))
    if pictures is None:
        return "is truncated: its packed pixels do not end; copy it again"
    packed, sizes = pictures
    if claimed > max(_UNPACKED_LEAST, _UNPACKED * packed):
        return f"claims {claimed:,} bytes of pixels in {packed:,}, which cannot be; copy it again"
    if not sizes and str(dataset.file_meta.TransferSyntaxUID).startswith(_PICTURES):
        return "holds packed pixels that are not read, or are damaged; convert it with dcm2niix, or copy it again"
    if any(size != (rows, columns, samples) for size in sizes):
        return "is damaged: its packed pictures are not of the size that its header says; copy it again"
    return ""


def _fits(dataset: Any, size: int) -> bool:
    """Whether all elements, those within sequences too, lie within ``size`` bytes."""
    for tag in tuple(dataset.keys()):  # a data set itself gives elements, interpreted
        element = dataset.get_item(tag, keep_deferred=True)
        length = getattr(element, "length", _UNDEFINED)
        if length != _UNDEFINED:
            if element.value is None and element.value_tell + length > size:
                return False
            if isinstance(element.value, bytes) and len(element.value) < length:
                return False
        if _is_sequence(element) and not all(_fits(item, size) for item in dataset[tag].value):
            return False
    return True


def _is_sequence(element: Any) -> bool:
    """Only sequences are interpreted: a value of the maker's own may be anything."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VR

    if element.VR in (None, "UN") and dictionary_has_tag(element.tag):
        return dictionary_VR(element.tag) == "SQ"
    return bool(element.VR == "SQ")


def _pictures(file: BoundedFile, start: int) -> tuple[int, list[tuple[int, int, int] | None]] | None:
    """How many bytes the packed pixels take, and the size of each packed picture that begins in a piece of them; None
    where a piece is longer than the file, or the end is missing."""
    file.seek(start)
    total, sizes = 0, list[tuple[int, int, int] | None]()
    while (head := file.read(8))[:4] == _ITEM:
        begin, length = file.tell(), int.from_bytes(head[4:], "little")
        if begin + length > file.length:
            return None
        if (mark := file.read(min(4, length)))[:3] == _JPEG:
            sizes.append(_size_of_jpeg(file, begin + 2, begin + length))
        elif mark == _JPEG_2000:
            sizes.append(_size_of_jpeg_2000(file.read(38)))
        total += length
        file.seek(begin + length)
    return (total, sizes) if head[:4] == _END else None


def _size_of_jpeg(file: BoundedFile, begin: int, end: int) -> tuple[int, int, int] | None:
    """(rows, columns, samples) of a JPEG or JPEG-LS picture; None where no segment says them."""
    while begin + 4 <= end:
        file.seek(begin)
        head = file.read(10)
        if len(head) < 10 or head[0] != 0xFF:
            return None
        if head[1] in _FRAMES:
            return int.from_bytes(head[5:7], "big"), int.from_bytes(head[7:9], "big"), head[9]
        begin += 2 + int.from_bytes(head[2:4], "big")
    return None


def _size_of_jpeg_2000(head: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, samples) of a JPEG 2000 picture, from what follows its first two marks."""
    if len(head) < 38:
        return None
    right, lower, left, upper = (int.from_bytes(head[n : n + 4], "big") for n in (4, 8, 12, 16))
    return lower - upper, right - left, int.from_bytes(head[36:38], "big")
