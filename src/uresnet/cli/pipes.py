"""``-`` on the command line: an image from standard input, a result to standard output."""

from __future__ import annotations

import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from uresnet.errors import UserError

_PIECE = 1 << 20  # bytes in memory at a time


def is_piped(path: Path) -> bool:
    return str(path) == "-"


@contextmanager
def piped(image: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """(image, output) with temporary files in place of ``-``; the result goes to standard output when all went well."""
    if not is_piped(image) and not is_piped(output):
        yield image, output
        return
    with tempfile.TemporaryDirectory(prefix="uresnet-") as folder:
        source = _saved_input(Path(folder)) if is_piped(image) else image
        target = Path(folder) / "standard-output.nii.gz" if is_piped(output) else output
        yield source, target
        if is_piped(output):
            with target.open("rb") as file:  # a series may be larger than the memory
                shutil.copyfileobj(file, sys.stdout.buffer, _PIECE)


def _saved_input(folder: Path) -> Path:
    start = sys.stdin.buffer.read(_PIECE)
    if not start:
        raise UserError("- : standard input is empty; pipe an image into it.")
    path = folder / f"standard-input{_suffix_of(start)}"
    with path.open("wb") as file:
        file.write(start)
        shutil.copyfileobj(sys.stdin.buffer, file, _PIECE)
    return path


def _suffix_of(content: bytes) -> str:
    """The file type of an image that came without a name, from its first bytes; NIfTI where they say nothing else."""
    zipped = content.startswith(b"\x1f\x8b")
    start = content[:4]
    if zipped:
        with suppress(zlib.error):
            start = zlib.decompressobj(wbits=31).decompress(content[:4096], 4)
    if start == b"\x00\x00\x00\x01":  # the version of an MGH file; NIfTI starts with its header's size, 348 or 540
        return ".mgz" if zipped else ".mgh"
    if start == b"PK\x03\x04":
        return ".zip"
    if start == b"NRRD":
        return ".nrrd"
    return ".nii.gz" if zipped else ".nii"
