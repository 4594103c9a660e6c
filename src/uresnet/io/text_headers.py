"""The text headers of MetaImage and NRRD files, checked before ITK reads them.

ITK's readers believe these headers: they allocate what a header claims, open whatever file it names, and can end the
process over a field that no image has; and they do not compare the checksums of compressed voxels. What is refused here
never gets to them.
"""

from __future__ import annotations

import bz2
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from isal import igzip

from uresnet.errors import InputWarning, UserError, quoted
from uresnet.io.contents import DEFLATE, check_voxels, truncated

_LONGEST_HEADER, _LONGEST_LINE, _LONGEST_FIELD = 1 << 20, 10_000, 400  # bytes
_LONGEST_WORDS = 200  # characters of a text in MetaImage: its reader copies some into 255 bytes
_MOST_AXES, _MOST_VALUES = 5, 1000  # values of one voxel
_PIECE = 1 << 20
_META_BYTES = {"char": 1, "uchar": 1, "short": 2, "ushort": 2, "int": 4, "uint": 4, "long": 4, "ulong": 4} | {
    "long_long": 8,
    "ulong_long": 8,
    "float": 4,
    "double": 8,
}
_NRRD_BYTES = {
    **dict.fromkeys(("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"), 1),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), 2),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), 2),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t"), 4),
    **dict.fromkeys(("longlong", "long long", "long long int", "signed long long", "int64", "int64_t"), 8),
    **dict.fromkeys(("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"), 8),
    **{"float": 4, "double": 8},
}
_NRRD_ENCODINGS = {"raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2"} | dict.fromkeys(
    ("ascii", "text", "txt", "hex"), "text"
)


_NRRD_SPACES = ("right-anterior-superior", "ras", "left-anterior-superior", "las", "left-posterior-superior", "lps")
_NRRD_FIELDS = {
    *("dimension", "type", "blocksize", "encoding", "endian", "content", "oldmin", "oldmax", "datafile", "lineskip"),
    *("byteskip", "number", "sampleunits", "sizes", "spacings", "thicknesses", "axismins", "axismaxs", "centers"),
    *("centerings", "labels", "units", "min", "max", "kinds", "space", "spacedimension", "spaceunits", "spaceorigin"),
    *("spacedirections", "measurementframe"),
}


@dataclass(frozen=True)
class _Stored:
    """Where the voxels are: ``claimed`` bytes in ``file`` from ``start`` on, in an ``encoding``."""

    file: Path
    start: int
    claimed: int
    encoding: str


def check_text_header(path: Path) -> None:
    """Raises :class:`UserError` for a MetaImage or NRRD file with a header that cannot be right.

    Also for one whose voxels are not in it or beside it, are fewer than it claims, or do not fit their checksum.
    """
    with path.open("rb") as file:
        content = file.read(_LONGEST_HEADER)
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    if is_nrrd and not content.startswith(b"NRRD"):
        raise _refused(path, "it does not begin with NRRD")
    _check_voxels(path, (_nrrd if is_nrrd else _meta)(path, content))


def _meta(path: Path, content: bytes) -> _Stored:
    fields: dict[str, str] = {}
    begin = 0
    for line, start in _lines(path, content):
        begin = start
        key, mark, value = (part.strip() for part in line.partition("="))
        if not mark:
            raise _refused(path, "a line of its header is not KEY = VALUE")
        _add(path, fields, key.lower(), value)
        if len(value) > _LONGEST_WORDS and not re.fullmatch(r"[\d\s.eE+-]+", value):
            raise _refused(path, f"a text in its header is longer than {_LONGEST_WORDS} characters")
        if key.lower() == "elementdatafile":
            break
    _whole_number(path, fields, "ndims", 1, _MOST_AXES)
    shape = _shape(path, fields, "ndims", "dimsize")
    size = _META_BYTES.get(fields.get("elementtype", "").lower().removeprefix("met_").removesuffix("_array"))
    if size is None:
        raise _refused(path, "its ElementType is none that an image has")
    channels = _whole_number(path, fields, "elementnumberofchannels", 1, _MOST_VALUES, 1)
    data, start = _data_file(path, fields.get("elementdatafile", ""), begin)
    packed = fields.get("compresseddata", "").lower() == "true"
    encoding = "text" if fields.get("binarydata", "true").lower() == "false" else "zlib" if packed else "raw"
    start += max(0, _whole_number(path, fields, "headersize", -1, 1 << 40, 0))
    return _Stored(data, start, math.prod(shape) * size * channels, encoding)


def _nrrd(path: Path, content: bytes) -> _Stored:
    fields: dict[str, str] = {}
    begin = 0
    for line, start in _lines(path, content):
        begin = start
        if not line:
            break
        if line.startswith(("#", "NRRD000")) or ":=" in line:
            continue
        key, _, value = line.partition(":")
        key = key.lower().replace(" ", "")
        if key not in _NRRD_FIELDS:
            raise _refused(path, "a line of its header is none that NRRD has")
        _add(path, fields, key, value.strip())
    _check_space(path, fields)
    shape = _shape(path, fields, "dimension", "sizes")
    size = _NRRD_BYTES.get(fields.get("type", "").lower())
    encoding = _NRRD_ENCODINGS.get(fields.get("encoding", "").lower())
    if size is None or encoding is None:
        raise _refused(path, "its type or encoding is none that an image has")
    data, start = _data_file(path, fields.get("datafile", "LOCAL"), begin)
    lines = _whole_number(path, fields, "lineskip", 0, 0, 0)
    skipped = _whole_number(path, fields, "byteskip", -1, 1 << 40, 0)
    return _Stored(
        data, start + lines + (max(0, skipped) if encoding == "raw" else 0), math.prod(shape) * size, encoding
    )


def _check_space(path: Path, fields: dict[str, str]) -> None:
    """What ITK leaves out: it takes every length for millimetres, and axes that it does not know for LPS."""
    units = {unit.strip().lower() for unit in re.findall(r'"([^"]*)"', fields.get("spaceunits", ""))}
    if units - {"mm", "millimeter", "millimetre", "", "???"}:
        raise UserError(f"{path} states lengths that are not in mm (space units); write it again in mm.")
    space = fields.get("space", "").lower().removesuffix("-time")
    if space and space not in _NRRD_SPACES:
        warnings.warn(
            f"{path} does not say which of its axes points left or right (its space is {quoted(space, 40)}); they are "
            "taken for LPS. Look where left and right are.",
            InputWarning,
            stacklevel=2,
        )


def _lines(path: Path, content: bytes) -> Iterator[tuple[str, int]]:
    """Each line of a header, and the byte after it; none of what follows a header is looked at."""
    start = 0
    while start < len(content):
        end = content.find(b"\n", start, start + _LONGEST_LINE)
        if end < 0 and len(content) - start >= _LONGEST_LINE:
            raise _refused(path, f"a line of its header is longer than {_LONGEST_LINE:,} bytes")
        end = len(content) if end < 0 else end
        yield content[start:end].decode("utf-8", "replace").rstrip("\r"), end + 1
        start = end + 1


def _add(path: Path, fields: dict[str, str], key: str, value: str) -> None:
    if len(value) > _LONGEST_FIELD or len(key) > _LONGEST_FIELD:
        raise _refused(path, f"a field of its header is longer than {_LONGEST_FIELD} characters")
    if key in fields:
        raise _refused(path, "a field of its header is there twice")
    fields[key] = value


def _whole_number(path: Path, fields: dict[str, str], key: str, low: int, high: int, default: int | None = None) -> int:
    text = fields.get(key, "" if default is None else str(default))
    if not re.fullmatch(r"[+-]?\d{1,15}", text, re.ASCII) or not low <= int(text) <= high:
        raise _refused(path, f"the field {key} of its header is not a number from {low} to {high}")
    return int(text)


def _shape(path: Path, fields: dict[str, str], count: str, sizes: str) -> list[int]:
    axes = _whole_number(path, fields, count, 1, _MOST_AXES)
    words = fields.get(sizes, "").split()
    if len(words) != axes or not all(re.fullmatch(r"\d{1,9}", word, re.ASCII) for word in words):
        raise _refused(path, f"the field {sizes} of its header is not {axes} sizes")
    shape = [int(word) for word in words]
    if min(shape) < 1:
        raise _refused(path, f"the field {sizes} of its header has no voxels")
    check_voxels(path, shape)
    return shape


def _data_file(path: Path, name: str, start: int) -> tuple[Path, int]:
    """The file with the voxels, and where in it they start."""
    if name.upper() == "LOCAL":
        return path, start
    if not name or name.upper().startswith("LIST") or "%" in name or len(name) > 255 or not name.isprintable():
        raise _refused(path, "its voxels are not in one file")
    if name != Path(name).name or "\\" in name or name in (".", ".."):
        raise _refused(path, "it names a file in another folder")
    data = path.with_name(name)
    if not data.is_file():
        raise UserError(f"{path} has its voxels in {name}, which is not beside it; copy both files.")
    return data, 0


def _check_voxels(path: Path, stored: _Stored) -> None:
    available = stored.file.stat().st_size - stored.start
    if stored.encoding == "text":
        if stored.claimed > 16 * available:  # a number and a space are two bytes, and at most eight once read
            raise truncated(path)
        return
    if stored.claimed > available * (1 if stored.encoding == "raw" else DEFLATE**2):
        raise truncated(path)
    if stored.encoding == "raw":
        return
    with stored.file.open("rb") as file:
        file.seek(stored.start)
        length = _unpacked(file, stored.encoding, stored.claimed)
    if length < stored.claimed:
        raise truncated(path)


def _unpacked(file: BinaryIO, encoding: str, claimed: int) -> int:
    """How many bytes come out, read to the end, where the checksum is; a little more than ``claimed`` at most."""
    if encoding == "zlib":
        return _inflated(file, claimed)
    if encoding == "bzip2":
        return _counted(bz2.BZ2File(file).read, claimed)
    unpacked: Any = igzip.IGzipFile(fileobj=file)
    return _counted(unpacked.read, claimed)


def _counted(read: Callable[[int], bytes], claimed: int) -> int:
    length = 0
    while (piece := read(_PIECE)) and length <= claimed + 16 * _PIECE:
        length += len(piece)
    return length


def _inflated(file: BinaryIO, claimed: int) -> int:
    unpacker, length = zlib.decompressobj(47), 0
    while not unpacker.eof and length <= claimed + 16 * _PIECE:
        packed = unpacker.unconsumed_tail or file.read(_PIECE)
        if not packed:
            raise EOFError
        length += len(unpacker.decompress(packed, _PIECE))
    return length


def _refused(path: Path, why: str) -> UserError:
    return UserError(f"{path} is not an image that can be read: {why}; convert it to NIfTI, or copy it again.")
