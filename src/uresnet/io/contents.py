"""What an image file claims, held against its size and a limit before anything is allocated; damage as a sentence."""

from __future__ import annotations

import contextlib
import gzip
import math
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.fileholders import FileHolder
from nibabel.imageglobals import logger

from uresnet.core.grid import Grid
from uresnet.errors import UserError

MOST_VOXELS = 1 << 29
"""The most voxels of one volume: 800 along each axis."""
DEFLATE = 1032  # deflate makes nothing smaller than this part of it
_FOOTER = 16 << 20  # bytes that may follow the last voxel
_PIECE = 1 << 20


class Volume(NamedTuple):
    """Voxels (I, J, K) in the file's own or its scaled dtype, their grid, whether the file says how it lies, and which
    part of it was taken, in words, where it can hold several."""

    values: np.ndarray
    grid: Grid
    oriented: bool
    chosen: str = ""


@contextlib.contextmanager
def reading(path: Path, sentence: Callable[[Path, BaseException], UserError] | None = None) -> Iterator[None]:
    """Every exception that a file makes a reader raise, as a :class:`UserError` that names the file: that of
    :func:`damaged`, or another ``sentence``.

    The libraries that parse images raise nearly anything on damaged ones. Nothing that they log is printed: what
    matters is warned about by us.
    """
    try:
        with _silent_log(), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.filterwarnings("ignore", module=r"nibabel\.")
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{path} does not fit into the memory that is free; close other programs, or resample it to larger voxels."
        ) from error
    except PermissionError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    except Exception as error:
        raise (sentence or damaged)(path, error) from error


@contextlib.contextmanager
def _silent_log() -> Iterator[None]:
    """Without nibabel's log: a logger without handlers, which is what nibabel's own suppressor leaves, prints."""
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def damaged(path: Path, error: BaseException) -> UserError:
    """The sentence for what a library raised while it read ``path``."""
    of_truncation = ("Expected", "end-of-stream", "too small", "wrong size")
    if isinstance(error, EOFError) or any(words in str(error) for words in of_truncation):
        return truncated(path)
    if isinstance(error, gzip.BadGzipFile | zlib.error | isal_zlib.error):
        return UserError(f"{path} is damaged (its compressed content does not unpack); copy or download it again.")
    if isinstance(error, FileNotFoundError) and error.filename and Path(error.filename).name != path.name:
        return UserError(
            f"{path} is one of two files, and {Path(error.filename).name} is not beside it; copy both of them."
        )
    return UserError(f"{path} is not an image that can be read; check that it is the file you mean, or copy it again.")


def truncated(path: Path) -> UserError:
    """The sentence for a file that ends too early."""
    return UserError(f"{path} is truncated: it ends before its last voxel; copy or download it again.")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The nibabel image of a file, its claims checked, whose voxels are read while the block lasts.

    Raises :class:`UserError` for a header that is damaged, or that claims more than the file or the limit holds.
    """
    if not is_gzip(path):
        with reading(path):
            image: Any = nib.load(path, mmap=False)
            place = Path(image.file_map["image"].filename)
            check_claim(path, image, place.stat().st_size)
        yield image
        return
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(igzip.open(path, "rb"))
            kind = _class_of(path, file.read(540))
            file.seek(0)
            image = kind.from_file_map({"image": FileHolder(fileobj=file)})
            check_claim(path, image, path.stat().st_size * DEFLATE)
        yield image


def check_claim(path: Path, image: Any, available: int) -> None:
    """Raises :class:`UserError` where ``available`` bytes cannot hold the voxels of a nibabel image, or where a volume
    has more than ``MOST_VOXELS``."""
    shape = [int(n) for n in image.shape]
    check_voxels(path, shape[:3])
    end = data_end(image)
    if not end >= 0 or min(shape, default=0) < 1:
        raise UserError(f"{path} has {len(shape)} dimensions of {shape} voxels; give a 3D image.")
    if end > available:
        raise truncated(path)


def check_voxels(path: Path, shape: list[int]) -> None:
    """Raises :class:`UserError` for a volume of more than ``MOST_VOXELS``."""
    if math.prod(shape) > MOST_VOXELS:
        raise UserError(
            f"{path} claims {' × '.join(map(str, shape))} voxels, more than the {MOST_VOXELS:,} that are read; check "
            "the file, or resample it to larger voxels."
        )


def data_end(image: Any) -> int:
    """The byte after the last voxel of a nibabel image."""
    return int(image.dataobj.offset) + math.prod(int(n) for n in image.shape) * int(image.get_data_dtype().itemsize)


def check_to_the_end(path: Path, image: Any) -> None:
    """Read an :func:`opened` compressed file on to its end, where its checksum is.

    Raises :class:`UserError` for damage, and for a file that holds much more than its header says."""
    if not is_gzip(path):
        return
    with reading(path):
        file: BinaryIO = image.file_map["image"].fileobj
        end = data_end(image)
        while file.read(_PIECE):
            if file.tell() > end + _FOOTER:
                raise UserError(f"{path} holds much more than its header says; check that it is the right file.")
        if file.tell() < end:
            raise truncated(path)


def is_gzip(path: Path) -> bool:
    """Whether a name says that the file is compressed."""
    return path.name.lower().endswith((".nii.gz", ".mgz"))


def _class_of(path: Path, start: bytes) -> Any:
    if path.name.lower().endswith(".mgz"):
        return nib.MGHImage
    return nib.Nifti2Image if nib.Nifti2Header.may_contain_header(start) else nib.Nifti1Image
