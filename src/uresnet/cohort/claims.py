"""Who works on what: locks that end with the process that holds them, so that two runs share a folder in peace."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uresnet.cohort.jobs import HIDDEN


@contextmanager
def claim(folder: Path, name: str) -> Iterator[bool]:
    """Whether ``name`` is free to be worked on; while the block lasts no other process gets it.

    Where the file system has no locks everything is free: then two runs may do the same work, and the later result of
    the two, which is the same, is left out.
    """
    place = folder / HIDDEN / "claims"
    place.mkdir(parents=True, exist_ok=True)
    # By hash, so that names that differ in case only are two everywhere.
    handle = os.open(place / hashlib.sha256(name.encode()).hexdigest()[:32], os.O_CREAT | os.O_RDWR, 0o666)
    try:
        yield _taken(handle)
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Lock an open file, unless another process has locked it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
