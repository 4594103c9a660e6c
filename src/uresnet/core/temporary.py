"""The hidden names under which results are written before they take their places, and what killed processes left.

A name says who writes under it: ``.uresnet-SYSTEM-PROCESS-RANDOM.ending``. SYSTEM stands for a running system and its
count of processes: another computer, a container and the same computer after a restart have another one. A process that
is stopped removes what it was writing; one that is killed cannot. Every command that writes into a folder therefore
first removes there (:func:`sweep`)

- what a process of this system was writing that no longer runs, and
- what a process of another system was writing, which cannot be asked for from here, once it has not changed for
  :data:`DAYS`: a result is written within minutes.

Where the number of a process is in use again, what it left stays until the new process has ended.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import socket
import time
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path

PREFIX = ".uresnet-"
LONGEST_NAME = 80
"""Bytes of such a name, at most."""
DAYS = 7
_NAME = re.compile(r"\.uresnet-([0-9a-f]{12})-(\d+)-[0-9a-f]{16}((?:\.\w{1,15}){1,2})?")


def new_name(folder: Path, ending: str) -> Path:
    """A hidden name in ``folder`` that nobody can guess, of this process."""
    return folder / f"{PREFIX}{_system()}-{os.getpid()}-{secrets.token_hex(8)}{ending}"


def sweep(folder: Path, keep: str) -> None:
    """Remove what killed processes were writing in ``folder``, by the rule above; never what ends in ``keep``."""
    with suppress(OSError):
        for path in list(folder.glob(f"{PREFIX}*")):
            named = _NAME.fullmatch(path.name)
            if named and named[3] != keep and _is_abandoned(path, named[1], int(named[2])):
                _remove(path)


def _is_abandoned(path: Path, system: str, process: int) -> bool:
    if system == _system() and os.name != "nt":  # Windows has no signal that only asks
        return not _runs(process)
    try:
        changed = max(place.lstat().st_mtime for place in (path, *_within(path)))
    except OSError:  # gone, or not to be looked at
        return False
    return changed < time.time() - DAYS * 86_400


def _within(path: Path) -> list[Path]:
    return list(path.rglob("*")) if path.is_dir() and not path.is_symlink() else []


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or no number of a process
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@cache
def _system() -> str:
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        who = f"{start} {Path('/proc/self/ns/pid').readlink()}"
    except (OSError, ValueError):  # not Linux
        who = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(who.encode()).hexdigest()[:12]
