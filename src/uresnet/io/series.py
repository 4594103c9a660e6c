"""Images of one volume or several, read and written volume by volume, so that their length costs no memory."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel as nib
import numpy as np
from isal import igzip

from uresnet.core.files import written_whole
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.io.contents import check_to_the_end, is_gzip, opened, reading
from uresnet.io.dicom import is_dicom
from uresnet.io.headers import LABEL_INTENT, checked_grid, series_shape
from uresnet.io.kinds import Kind, decide_kind
from uresnet.io.label_tables import names_in
from uresnet.io.simpleitk import SIMPLEITK_SUFFIXES
from uresnet.io.volumes import COMPRESSION, check_file, check_numbers, image_of, packed, read_volume


@dataclass(frozen=True, eq=False)
class Series:
    """One volume or several on ``grid``, still in the file ``path``; ``shape`` is (I, J, K) or (I, J, K, T).

    ``dtype`` is that of the volumes. ``stored`` is the data type of a file whose whole numbers stand for themselves;
    None where values are fractions or scaled. ``header`` is a NIfTI header to take times, units and descriptions from,
    or None. ``held``: the values of a file that cannot be read piece by piece.
    """

    shape: tuple[int, ...]
    grid: Grid
    path: str
    dtype: np.dtype
    stored: np.dtype | None
    header: Any = None
    held: np.ndarray | None = None

    def volumes(self) -> Iterator[np.ndarray]:
        """Each (I, J, K) as the file means it, one in memory at a time. Raises :class:`UserError` for damage."""
        if self.held is not None:
            yield self.held
            return
        path = Path(self.path)
        with opened(path) as image:
            for t in range(self.length):
                with reading(path):
                    volume = image.dataobj[_index(image.shape, t)].reshape(self.shape[:3])
                yield np.asarray(volume, dtype=volume.dtype.newbyteorder("="))

    @property
    def length(self) -> int:
        """How many volumes there are."""
        return self.shape[3] if len(self.shape) == 4 else 1

    @property
    def values(self) -> np.ndarray:
        """All of them in memory, (I, J, K) or (I, J, K, T)."""
        return np.stack(list(self.volumes()), axis=-1).reshape(self.shape)

    @property
    def called_labels(self) -> bool:
        """Whether the header says that the values are labels (NIfTI's intent 1002)."""
        return self.header is not None and int(self.header["intent_code"]) == LABEL_INTENT

    def kind(self) -> Kind:
        """Label map or scan, and its background."""
        return decide_kind(self.volumes(), self.called_labels)


def _index(shape: tuple[int, ...], t: int) -> tuple[Any, ...]:
    """Of volume ``t`` where one axis after the third is longer than 1."""
    return (*[slice(None)] * 3, *[t if n > 1 else 0 for n in shape[3:]])


def read_series(path: str | Path) -> Series:
    """Open an image of any number of volumes. A compressed file is read to its end once, where its checksum is.

    Raises :class:`UserError` as :func:`~uresnet.io.read_image`, and for vectors, which would have to be turned as well
    as moved.
    """
    path = Path(path)
    if is_dicom(path) or path.suffix.lower() in SIMPLEITK_SUFFIXES:
        values, grid, *_ = read_volume(path)
        stored = values.dtype if values.dtype.kind in "iu" else None
        return Series(grid.shape, grid, str(path), values.dtype, stored, held=values)
    check_file(path)
    with opened(path) as image, reading(path):
        shape = series_shape(path, image)
        grid = checked_grid(path, image, one_volume=False)
        check_numbers(path, image)
        header = image.header.copy() if isinstance(image, nib.Nifti1Pair) else None
        stored, scaling = image.get_data_dtype(), image.dataobj
        unscaled = header is None or (scaling.slope, scaling.inter) == (1, 0)
        dtype = np.asanyarray(image.dataobj[(slice(0, 1),) * 3 + (0,) * (len(image.shape) - 3)]).dtype.newbyteorder("=")
        check_to_the_end(path, image)
        return Series(shape, grid, str(path), dtype, stored if stored.kind in "iub" and unscaled else None, header)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_series(
    volumes: Iterable[np.ndarray],
    layout: tuple[tuple[int, ...], np.dtype],
    grid: Grid,
    path: str | Path,
    source: Series,
    names: bool = False,
) -> None:
    """Write volumes (I, J, K) on ``grid`` as they come, with the times, the intent and the description of the file they
    were made from, and with ``names`` the label names in it (Workbench's extension).

    ``layout``: the shape, (I, J, K) or (I, J, K, T), and the data type. Raises :class:`UserError` as
    :func:`~uresnet.io.write_image`, and, before the second volume at the latest, where the disk lacks the space.
    """
    path, (shape, dtype) = Path(path), layout
    extensions = names_in(source.header) if names else None
    nothing = np.broadcast_to(np.zeros((), _writable(dtype, path)), shape)  # of that shape; one voxel in memory
    image = image_of(nothing, grid, path, source.header, extensions)
    check_space(path, nothing.nbytes)
    if len(shape) == 3:
        (volume,) = volumes
        content = image_of(_as_type(volume, nothing.dtype, path), grid, path, source.header, extensions)
        with written_whole(path) as beside:
            beside.write_bytes(packed(content.to_bytes(), path))
        return
    before, after = _around(image)
    stored = nothing.dtype.newbyteorder(">" if isinstance(image, nib.MGHImage) else "<")
    with written_whole(path) as beside, beside.open("wb") as raw, _compressed(raw, path) as file:
        file.write(before)
        for t, volume in enumerate(volumes):
            file.write(_as_type(volume, stored, path).tobytes(order="F"))
            if t == 0 and is_gzip(path):
                raw.flush()
                _check_free(path, raw.tell() * (shape[3] - 1))
        file.write(after)


def check_space(path: Path, size: int) -> None:
    """Raises :class:`UserError` where ``size`` bytes of voxels do not fit beside ``path``.

    Compressed, where a hundredth does not, which is less than any image takes."""
    _check_free(path, size // 100 if is_gzip(path) else size)


def _check_free(path: Path, size: int) -> None:
    folder = path.absolute().parent
    if folder.is_dir() and (free := shutil.disk_usage(folder).free) < size:
        raise UserError(
            f"{path} would take {size / 1e9:.2g} GB, and {free / 1e9:.2g} GB are free in its folder; make room, or "
            "choose another folder."
        )


def _writable(dtype: np.dtype, path: Path) -> np.dtype:
    """The data type that the file has room for."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if path.suffix.lower() in (".mgz", ".mgh") and dtype not in (np.uint8, np.int16, np.int32, np.float32):
        return np.dtype(np.int32 if dtype.kind in "iu" else np.float32)
    return dtype


def _as_type(volume: np.ndarray, dtype: np.dtype, path: Path) -> np.ndarray:
    """Raises :class:`UserError` for whole numbers that the data type cannot hold."""
    if volume.dtype.kind in "iu" and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        if volume.min() < limits.min or volume.max() > limits.max:
            raise UserError(
                f"{path} cannot hold whole numbers above {limits.max}; give it a name that ends in .nii.gz."
            )
    return volume.astype(dtype)


def _around(image: Any) -> tuple[bytes, bytes]:
    """What stands in a file before its voxels and after them."""
    before, after = io.BytesIO(), _Footer()
    header = image.header
    if isinstance(image, nib.MGHImage):
        image.update_header()
        header.writehdr_to(before)
        header.writeftr_to(after)
    else:
        image.update_header()
        header.set_slope_inter(1, 0)
        header.write_to(before)
    return before.getvalue().ljust(header.get_data_offset(), b"\0"), after.getvalue()


class _Footer(io.BytesIO):
    """Holds what nibabel writes at the end of an image, without the image."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return 0


def _compressed(raw: BinaryIO, path: Path) -> Any:
    if not is_gzip(path):
        return contextlib.nullcontext(raw)
    file: Any = igzip.IGzipFile("", "wb", COMPRESSION, raw, mtime=0)
    return file
