"""What every reader of transform files builds on: a file's bytes, and one sentence for whatever damage makes of them.

A file is read only after its size, or what its header claims, has been held against the bytes that are really there
and a stated limit. Compressed files are unpacked to their end, where their checksum is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from isal import igzip

from uresnet.errors import UserError
from uresnet.io.contents import DEFLATE
from uresnet.io.contents import reading as reading_file

LARGEST_TEXT = 64 << 20
"""Bytes of a transform in text, of a table, of a MATLAB file."""
LARGEST_VECTORS = 2 << 30
"""Bytes of the vectors of a dense warp: 560 voxels along each axis."""
_FOOTER = 16 << 20  # bytes that may stand before or after the voxels


def reading(path: Path) -> AbstractContextManager[None]:
    """Turns everything that a damaged file makes a reader raise into a :class:`UserError` that names the file.

    The readers themselves raise it only where they know more than that the file is damaged.
    """
    return reading_file(path, _damaged)


def _damaged(path: Path, error: BaseException) -> UserError:
    return UserError(
        f"{path} cannot be read: it is damaged, truncated or of another kind; copy it again, or check that it is the "
        "right file."
    )


def no_transform(path: Path, what: str) -> UserError:
    """The sentence for a file that is ``what``, where a transform belongs: most often arguments that are swapped."""
    return UserError(
        f"{path} is {what}, not a transform; transforms come first, as in uresnet apply TRANSFORM IMAGE and uresnet "
        "invert TRANSFORM."
    )


def small_content(path: Path) -> bytes:
    """All bytes of a file that holds no more than numbers in text. ``UserError`` above ``LARGEST_TEXT``."""
    if path.stat().st_size > LARGEST_TEXT:
        raise UserError(
            f"{path} is larger than {LARGEST_TEXT >> 20} MB, which no transform in this kind of file is; check that it "
            "is the right file, or write it as .h5."
        )
    return path.read_bytes()


def volume_content(path: Path, zipped: bool, start: int, size_of: Callable[[bytes], int]) -> bytes:
    """All bytes of a header and its voxels, and what follows them, unpacked where ``zipped``.

    ``size_of`` tells from the first ``start`` bytes how many bytes header and voxels claim. ``UserError`` where the
    file cannot hold them; the checksum of a compressed file raises where it does not fit.
    """
    opened: Any = igzip.open(path, "rb") if zipped else path.open("rb")
    with opened as file:
        header = bytes(file.read(start))
        claimed = size_of(header)
        check_claim(path, claimed, path.stat().st_size, deflated=zipped)
        content = header + bytes(file.read(max(0, claimed - len(header))))
        if len(content) < claimed:
            raise UserError(f"{path} is truncated: it ends before its last vector; copy or download it again.")
        footer = bytes(file.read(_FOOTER + 1))  # also reads the checksum
    if len(footer) > _FOOTER:
        raise UserError(f"{path} holds much more than its header says; check that it is the right file.")
    return content + footer


def volume_bytes(path: Path, offset: float, shape: Sequence[int], itemsize: int) -> int:
    """Bytes of a header of ``offset`` and so many voxels. ``UserError`` for dimensions that no image can have."""
    if len(shape) < 3 or min(shape) < 1 or not 0 <= offset <= _FOOTER:
        raise UserError(f"{path} claims dimensions that no warp can have; it is damaged or of another kind.")
    return int(offset) + math.prod(int(n) for n in shape) * itemsize


def check_claim(path: Path, claimed: int, stored: int, deflated: bool) -> None:
    """``UserError`` where ``stored`` bytes cannot hold the ``claimed`` ones, or those are above ``LARGEST_VECTORS``."""
    if claimed > stored * (DEFLATE if deflated else 1):
        raise UserError(
            f"{path} claims {_megabytes(claimed)} MB of numbers and does not hold them; it is truncated or damaged: "
            "copy or download it again."
        )
    if claimed > LARGEST_VECTORS:
        raise UserError(
            f"{path} holds {_megabytes(claimed)} MB of numbers; warps are read up to {LARGEST_VECTORS >> 20} MB."
        )


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f}"
