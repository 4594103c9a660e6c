"""Files that are checked before any work begins, and written whole or not at all.

A file or folder is written beside its place and renamed when it is complete, so that an error, a full disk or Ctrl-C
leaves what was there before. Files that uresnet did not write are never touched.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uresnet.errors import UserError

RECORD = "run.json"
"""The record of a run. It is moved last and removed first: a folder that has it is complete."""


def check_exist(*paths: Path | None) -> None:
    """Raises :class:`UserError` for an input that does not exist, or is a link to nothing. None is skipped.

    ``FOLDER#2``, one series of a DICOM folder, exists where the folder does.
    """
    for path in paths:
        if path is None or path.exists():
            continue
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to a file that is not here; fetch its content first (git annex get, or copy it)."
            )
        if not split_series(path)[0].exists():
            raise UserError(f"{path} does not exist; check the path.")


def split_series(path: Path) -> tuple[Path, int | None]:
    """``FOLDER#2`` → (FOLDER, 2); a path that exists as it stands is taken as it stands."""
    folder, mark, number = str(path).rpartition("#")
    if mark and number.isdigit() and not path.exists():
        return Path(folder), int(number)
    return path, None


def check_output_folder(folder: Path, overwrite: bool) -> None:
    """Raises :class:`UserError` when ``folder`` cannot take results: it exists, is a file, or may not be written."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the results.")
    if folder.exists() and not overwrite:
        raise UserError(f"{folder} exists already; choose another folder, or replace its results with --overwrite.")
    _check_writable(folder if folder.exists() else folder.parent, folder)


def check_output_file(file: Path, suffixes: tuple[str, ...], inputs: tuple[Path, ...] = ()) -> None:
    """Raises :class:`UserError` when ``file`` cannot be written, has another ending, or is one of the ``inputs``."""
    if not file.name.endswith(suffixes):
        raise UserError(f"{file} should end in {' or '.join(suffixes)}.")
    if file.is_dir():
        raise UserError(f"{file} is a folder; give the name of a file.")
    if any(file.exists() and path.exists() and file.samefile(path) for path in inputs):
        raise UserError(f"{file} is also an input; give the result another name.")
    _check_writable(file.parent, file)
    if not file.parent.is_dir():
        raise UserError(f"{file} cannot be written because its folder does not exist; create it first.")


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the name ``path`` when the block ends well, and is removed when not.

    The name keeps its suffixes, because writers choose the format by them. Raises :class:`UserError` when the folder
    is missing, may not be written to, or is full.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written because its folder does not exist; create it first.")
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror or error}); check the folder and its free space."
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def write_text(text: str, path: str | Path) -> None:
    """Write a file in UTF-8, lines ended as ``text`` has them. Raises as :func:`written_whole`."""
    write_bytes(text.encode("utf-8"), path)


def write_bytes(content: bytes, path: str | Path) -> None:
    """Write a file. Raises as :func:`written_whole`."""
    with written_whole(path) as beside:
        beside.write_bytes(content)


@contextmanager
def fresh_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder beside ``folder`` to write into; takes its place when the block ends well, else vanishes.

    With ``overwrite``, the files of an earlier run (those that its record lists) go; all others in the folder stay.
    """
    check_output_folder(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        beside.chmod(0o777 & ~_umask())  # mkdtemp keeps others out; results follow the user's own habit
        yield beside
        if folder.exists():
            _replace_results(beside, folder)
        else:
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _replace_results(source: Path, target: Path) -> None:
    earlier = _files_of_earlier_run(target)
    (target / RECORD).unlink(missing_ok=True)
    for name in earlier:
        (target / name).unlink(missing_ok=True)
    for file in sorted(source.iterdir(), key=lambda f: f.name == RECORD):
        file.replace(target / file.name)


def _files_of_earlier_run(folder: Path) -> list[str]:
    try:
        listed = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        return [name for name in listed if name == Path(name).name]  # never follow a path out of the folder
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _check_writable(folder: Path, wanted: Path) -> None:
    existing = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise UserError(f"{wanted} cannot be written: {existing} is a file, not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{wanted} cannot be written: no permission to write in {existing}.")


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
