"""Several files that take their places together, in a folder where other files are: all of them, or none.

What they replace is put aside, and deleted only when all stand in their places. An error puts it back at once; after a
process was killed, the next one does (:func:`recover`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from uresnet.core.temporary import PREFIX, new_name, sweep
from uresnet.errors import UserError

_ASIDE = ".earlier"
_PLAN = ".uresnet-plan.json"
"""Beside what is put aside: the names of the earlier and of the new files. Without it nothing is half done."""


def exchange(source: Path, target: Path, leaving: Collection[str], last: str) -> None:
    """Move the files of ``source`` into the folder ``target``, and delete those named ``leaving``: all or nothing.

    The file named ``last``, which says that the others are whole, goes first and comes last. Raises
    :class:`UserError`, before anything is moved, where a new file has the name of a folder or of a file that is not
    ``leaving``.
    """
    with uninterrupted(), _locked(target):
        _recover(target)
        arriving = sorted((path.name for path in source.iterdir()), key=lambda name: (name == last, name))
        check_free(target, arriving, leaving)
        gone = sorted((n for n in set(leaving) if _is_plain_file(target, n)), key=lambda name: (name != last, name))
        aside = new_name(target, _ASIDE)
        try:
            aside.mkdir()
            (aside / _PLAN).write_text(json.dumps({"leaving": gone, "arriving": arriving}), encoding="utf-8")
            for name in gone:
                (target / name).replace(aside / name)
            for name in arriving:
                (source / name).replace(target / name)
            (aside / _PLAN).unlink()
        except BaseException:
            _return(arriving, target, source)
            _put_back(aside, target, last)
            raise
        shutil.rmtree(aside, ignore_errors=True)


def recover(folder: Path) -> None:
    """Undo what a process that was killed in :func:`exchange` left half done, and remove what others were writing."""
    if any(folder.glob(f"{PREFIX}*{_ASIDE}")):
        with uninterrupted(), _locked(folder):
            _recover(folder)
    sweep(folder, keep=_ASIDE)


def _recover(folder: Path) -> None:
    for aside in folder.glob(f"{PREFIX}*{_ASIDE}"):
        if aside.is_symlink() or not aside.is_dir():
            continue
        try:
            plan = json.loads((aside / _PLAN).read_text(encoding="utf-8"))
            leaving, arriving = [[n for n in plan[key] if is_plain_name(n)] for key in ("leaving", "arriving")]
        except (OSError, ValueError, KeyError, TypeError):  # before the first file was moved, or after the last
            shutil.rmtree(aside, ignore_errors=True)
            continue
        held = {path.name for path in aside.iterdir()}
        if held >= set(leaving):  # new files may have come
            for name in set(arriving) - held:
                (folder / name).unlink(missing_ok=True)
        _put_back(aside, folder, "")


def check_free(folder: Path, names: Collection[str], leaving: Collection[str]) -> None:
    """Raises :class:`UserError` where one of ``names`` is taken in ``folder`` by a folder or a file not ``leaving``."""
    for name in names:
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            raise UserError(f"{path} is a folder, and stands where a result belongs; move it away.")
        if os.path.lexists(path) and name not in leaving:
            raise UserError(f"{path} is there already and may not be replaced; choose another output, or move it away.")


def is_plain_name(name: object) -> bool:
    """Whether it names a file in a folder, and leads nowhere else."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


def _is_plain_file(folder: Path, name: str) -> bool:
    path = folder / name
    return is_plain_name(name) and os.path.lexists(path) and (path.is_symlink() or not path.is_dir())


def _return(names: list[str], target: Path, source: Path) -> None:
    """Back to where they came from, those that have been moved."""
    for name in names:
        if not os.path.lexists(source / name):
            with suppress(OSError):
                (target / name).replace(source / name)


def _put_back(aside: Path, target: Path, last: str) -> None:
    """The earlier files to their places, in place of new ones."""
    if not aside.is_dir():
        return
    for path in sorted(aside.iterdir(), key=lambda path: path.name == last):
        if path.name != _PLAN:
            with suppress(OSError):
                path.replace(target / path.name)
    left = [path for path in aside.iterdir() if path.name != _PLAN]
    if left:
        raise UserError(f"The results could not be replaced; files of the earlier run are in {aside}: move them back.")
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time, where the system has such locks; they end with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait until the block has ended, which takes some milliseconds."""
    if threading.current_thread() is not threading.main_thread():  # signals never end a block of another thread
        yield
        return
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)

    before = {int(number): signal.signal(number, wait) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
    if signal.SIGINT in waiting and before[signal.SIGINT] is signal.default_int_handler:
        raise KeyboardInterrupt("Interrupted when the results were written; they are whole.")
    for number in waiting:
        signal.raise_signal(number)
