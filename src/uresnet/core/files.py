"""Files that are checked before any work begins, and written whole or not at all.

A file or folder is written beside its place and renamed when it is complete, so that an error, a full disk or Ctrl-C
leaves what was there before. Files that uresnet did not write are never touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from uresnet.core.exchange import check_free, exchange, is_plain_name, recover, uninterrupted
from uresnet.core.temporary import LONGEST_NAME, new_name
from uresnet.errors import UserError, quoted

RECORD = "run.json"
"""The record of a run. It is moved last and removed first: a folder that has it is complete."""

LOG = "log.txt"
"""What the command said while it made the results."""

_ADDED_LATER = ("report.html", LOG)
"""What other commands write into the folder of a run, whose record does not list it."""


def check_exist(*paths: Path | None) -> None:
    """Raises :class:`UserError` for an input that does not exist, may not be read, is a link to nothing, or is neither
    a file nor a folder. None is skipped.

    ``FOLDER#2``, one series of a DICOM folder, exists where the folder does.
    """
    for path in paths:
        if path is None:
            continue
        if _exists(path):
            if not (path.is_file() or path.is_dir()):  # to open a pipe would wait for somebody to write into it
                raise UserError(f"{quoted(path, 200)} is a device, a pipe or a socket; save its content as a file.")
            continue
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to a file that is not here; fetch its content first (git annex get, or copy it)."
            )
        if not _exists(split_series(path)[0]):
            raise UserError(f"{quoted(path, 200)} does not exist; check the path.")


def _exists(path: Path) -> bool:
    check_utf8(path)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{quoted(path, 200)} cannot be read ({error.strerror}); check the path.") from error
    return True


def check_utf8(*names: str | Path) -> None:
    """Raises :class:`UserError` for a name that is no text: the record of a run, which is UTF-8, could not hold it."""
    for name in names:
        try:
            os.fsencode(name)
            str(name).encode("utf-8")
        except UnicodeEncodeError:
            shown = quoted(ascii(str(name)), 200)
            raise UserError(
                f"{shown} is a name that is not UTF-8, or that this system cannot write; rename it."
            ) from None
        if "\0" in str(name):
            raise UserError(f"{quoted(ascii(str(name)), 200)} is no name: it holds a zero byte; check the path.")


def check_name(path: Path) -> None:
    """Raises :class:`UserError` for a path that is too long for its file system, or is no text."""
    check_utf8(path)
    place = _existing(path)
    longest, deepest = _limits(place)
    for part in path.parts[len(path.parts) - 1 :] if path.parent == place else path.parts:
        size = len(os.fsencode(part))
        if size > longest:
            raise UserError(
                f"{quoted(part, 200)} is too long a name: {size} bytes, and at most {longest} fit here; choose a "
                "shorter one."
            )
    if len(os.fsencode(path.absolute())) + LONGEST_NAME > deepest:
        raise UserError(f"{quoted(path, 200)} is too long a path for this system; choose a shorter one.")


def _limits(folder: Path) -> tuple[int, int]:
    """(bytes of a name, bytes of a path) that the file system takes."""
    try:
        return os.pathconf(folder, "PC_NAME_MAX"), os.pathconf(folder, "PC_PATH_MAX")
    except (AttributeError, OSError, ValueError):  # Windows, or a file system that does not say
        return 255, 4096


def split_series(path: Path) -> tuple[Path, int | None]:
    """``FOLDER#2`` → (FOLDER, 2); a path that exists as it stands is taken as it stands."""
    folder, mark, number = str(path).rpartition("#")
    if mark and number.isdigit() and not path.exists():
        return Path(folder), int(number)
    return path, None


def check_output_folder(
    folder: Path, overwrite: bool, inputs: Sequence[Path | None] = (), names: Sequence[str] = ()
) -> None:
    """Raises :class:`UserError` when ``folder`` cannot take results: it exists, is a file, may not be written, holds
    one of the ``inputs``, or holds a file of somebody else whose name is one of the results'.

    ``names`` are those of the results; ``*`` stands for anything.
    """
    check_name(folder)
    if folder.is_symlink() and not folder.exists():
        raise UserError(f"{folder} is a link to a folder that is not here; choose another folder.")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; give a folder for the results.")
    if folder.exists() and not overwrite:
        raise UserError(f"{folder} exists already; choose another folder, or replace its results with --overwrite.")
    _check_writable(folder if folder.exists() else folder.parent, folder)
    if folder.parent.is_dir():
        recover(folder.parent)
    if not folder.exists():
        return
    for path in inputs:
        if path is not None and path.exists() and folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise UserError(f"{path} is an input, and lies in the folder for the results; choose another folder.")
    recover(folder)
    taken = [path.name for path in folder.iterdir() if any(fnmatch(path.name, pattern) for pattern in (*names, RECORD))]
    check_free(folder, taken, _files_of_earlier_run(folder))


def check_output_file(
    file: Path, suffixes: tuple[str, ...], inputs: Sequence[Path | None] = (), overwrite: bool = False
) -> None:
    """Raises :class:`UserError` when ``file`` cannot be written, has another ending, is one of the ``inputs``, or
    exists without ``overwrite``."""
    check_utf8(file)
    if not file.name.lower().endswith(suffixes):
        raise UserError(f"{quoted(file, 200)} should end in {' or '.join(suffixes)}.")
    check_output_files([file], overwrite, inputs)


def check_output_files(
    files: Sequence[Path], overwrite: bool, inputs: Sequence[Path | None] = (), makes_folder: bool = False
) -> None:
    """The same for files that are written together, of any ending; ``makes_folder``: their folder need not exist."""
    for file in files:
        check_name(file)
    for folder in {file.parent for file in files}:
        first = next(file for file in files if file.parent == folder)
        _check_writable(folder, first)
        if not folder.is_dir():
            if makes_folder:
                continue
            raise UserError(f"{first} cannot be written because its folder does not exist; create it first.")
        recover(folder)
    for file in files:
        if file.is_dir():
            raise UserError(f"{file} is a folder; give the name of a file.")
        if file.exists() and not file.is_file():
            raise UserError(f"{file} is a device, a pipe or a socket; give the name of a file.")
        if any(path is not None and file.exists() and path.exists() and file.samefile(path) for path in inputs):
            raise UserError(f"{file} is also an input; give the result another name.")
    taken = [] if overwrite else [str(file) for file in files if os.path.lexists(file)]
    if taken:
        more, them = (f", and so do {len(taken) - 1} more of its files", "them") if len(taken) > 1 else ("", "it")
        raise UserError(
            f"{quoted(taken[0], 200)} exists already{more}; choose another name, or replace {them} with --overwrite."
        )


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the name ``path`` when the block ends well, and is removed when not.

    An empty file is there already, under a name that nobody can guess, so that no link planted there is followed. The
    name keeps its suffixes, because writers choose the format by them. Raises :class:`UserError` when the folder is
    missing, may not be written to, or is full.
    """
    path = Path(path)
    check_name(path)
    if not path.parent.is_dir():
        raise UserError(f"{path} cannot be written because its folder does not exist; create it first.")
    beside = new_name(path.parent, _ending(path))
    try:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(beside, flags, 0o666))
        yield beside
        beside.replace(path)
    except UserError:
        raise
    except Exception as error:
        reason = _reason(error, path.parent)
        if reason is None:
            raise
        raise UserError(f"{path} cannot be written ({reason}); check the folder and its free space.") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def _ending(path: Path) -> str:
    """What of a name says the format; nothing of a suffix so long that it says none."""
    last = path.suffix if len(os.fsencode(path.suffix)) <= 16 else ""
    return ".nii" + last if path.name.lower().endswith(".nii.gz") else last


def _reason(error: BaseException, folder: Path) -> str | None:
    """Why the system did not write, in words; None where the system was not the reason.

    Libraries hide it: HDF5 gives a number in its message, or none where a file is closed.
    """
    known: BaseException | None = error
    while known is not None:
        number = re.search(r"errno = (\d+)", str(known))
        if number:
            return os.strerror(int(number[1]))
        if isinstance(known, OSError) and known.strerror:
            return quoted(known.strerror, 200)
        known = known.__cause__ or known.__context__
    probe = new_name(folder, ".probe")
    try:
        with probe.open("xb") as file:
            file.write(bytes(2**20))
    except OSError as full:
        return full.strerror
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return quoted(error, 200) if isinstance(error, OSError) else None


def write_text(text: str, path: str | Path) -> None:
    """Write a file in UTF-8, lines ended as ``text`` has them. Raises as :func:`written_whole`."""
    write_bytes(text.encode("utf-8"), path)


def write_bytes(content: bytes, path: str | Path) -> None:
    """Write a file. Raises as :func:`written_whole`."""
    with written_whole(path) as beside:
        beside.write_bytes(content)


@contextmanager
def fresh_folder(folder: Path, overwrite: bool = False) -> Iterator[Path]:
    """A temporary folder to write into, which becomes ``folder`` when the block ends well, and vanishes when not.

    With ``overwrite``, the files of an earlier run (those that its record lists) go; all others in the folder stay, and
    a new file in the place of one of them is an error. So is a folder that came while the block ran. Raises
    :class:`UserError`.
    """
    check_output_folder(folder, overwrite)
    if folder.exists():
        with _temporary_folder(folder) as beside:
            with _named(beside, folder):
                yield beside
            _take_places(beside, folder, _files_of_earlier_run(folder), RECORD)
        return
    with _temporary_folder(folder.parent) as beside:
        with _named(beside, folder):
            yield beside
        try:
            with uninterrupted():
                beside.rename(folder)
        except OSError as error:
            if not os.path.lexists(folder):
                raise UserError(f"{folder} cannot be written ({error.strerror}); check the folder.") from error
            raise UserError(
                f"{folder} was written by another run in the meantime, and is left as it is; choose another folder."
            ) from error


@contextmanager
def fresh_files(folder: Path, overwrite: bool = False, record: str = "") -> Iterator[Path]:
    """A temporary folder to write into, whose files all move into ``folder`` when the block ends well; none if not.

    With ``overwrite`` they take the places of files of the same names, and the other files that an earlier ``record``
    lists go; without it an existing file is an error. The record comes last. Raises :class:`UserError`.
    """
    with _temporary_folder(folder) as beside:
        with _named(beside, folder):
            yield beside
        _settle(beside, folder, overwrite, record)


@contextmanager
def fresh_outputs(files: Sequence[Path], overwrite: bool = False, stale: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Paths to write to in place of ``files``, which all take those names when the block ends well; none if not.

    Without ``overwrite`` a file that has come in the meantime is an error. ``stale`` files go in the same moment.
    Raises :class:`UserError`.
    """
    folders = list(dict.fromkeys(file.parent for file in files))
    with ExitStack() as opened:
        beside = {folder: opened.enter_context(_temporary_folder(folder)) for folder in folders}
        with ExitStack() as named:
            for folder in folders:
                named.enter_context(_named(beside[folder], folder))
            yield [beside[file.parent] / file.name for file in files]
        if not overwrite:  # before any of them takes its place
            for folder in folders:
                check_free(folder, [path.name for path in beside[folder].iterdir()], ())
        for folder in folders:
            _settle(beside[folder], folder, overwrite, "", [path.name for path in stale if path.parent == folder])


def _settle(beside: Path, folder: Path, overwrite: bool, record: str, stale: Sequence[str] = ()) -> None:
    names = [path.name for path in beside.iterdir()]
    _take_places(beside, folder, {*names, *stale, *_listed(folder / record)} if overwrite else set(), record)


def _take_places(source: Path, target: Path, leaving: set[str], last: str) -> None:
    try:
        exchange(source, target, leaving, last)
    except OSError as error:
        raise UserError(
            f"The results in {target} cannot be written ({error.strerror or error}); check the folder."
        ) from error


@contextmanager
def _temporary_folder(place: Path) -> Iterator[Path]:
    """A folder in ``place`` that is gone in the end, unless it has been renamed."""
    made = [path for path in (place, *place.parents) if not path.exists()]
    beside = new_name(place, ".partial")
    try:
        place.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
    except OSError as error:
        raise UserError(f"{place} cannot be written ({error.strerror}); check the folder.") from error
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        with suppress(OSError):  # what was made for nothing
            for path in made:
                path.rmdir()


@contextmanager
def _named(beside: Path, folder: Path) -> Iterator[None]:
    """Errors name the place that the user knows."""
    try:
        yield
    except UserError as error:
        within = str(error).replace(f"{beside}{os.sep}", str(folder / "x")[:-1])
        raise UserError(within.replace(str(beside), str(folder))) from error


def _files_of_earlier_run(folder: Path) -> set[str]:
    """The names in ``folder`` that an earlier run wrote, as its record says; none without a record."""
    listed = _listed(folder / RECORD)
    return {*listed, RECORD, *_ADDED_LATER} if listed else set()


def _listed(record: Path) -> list[str]:
    """The names that a record lists; never one that leads out of its folder."""
    try:
        listed = json.loads(record.read_text(encoding="utf-8"))["files"] if record.is_file() else []
        return [name for name in listed if is_plain_name(name)]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def _existing(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    for place in (path.absolute(), *path.absolute().parents):
        with suppress(OSError):
            if os.path.lexists(place):
                return place
    return Path("/")


def _check_writable(folder: Path, wanted: Path) -> None:
    """By trying: permissions say nothing of a full disk, or of a file system that takes no files."""
    existing = _existing(folder)
    if not existing.is_dir():
        raise UserError(f"{wanted} cannot be written: {existing} is a file, not a folder.")
    probe = new_name(existing, ".probe")
    try:
        probe.mkdir()
        probe.rmdir()
    except PermissionError as error:
        raise UserError(f"{wanted} cannot be written: no permission to write in {existing}.") from error
    except OSError as error:
        raise UserError(
            f"{wanted} cannot be written: {existing} takes no new files ({error.strerror}); choose another place."
        ) from error
