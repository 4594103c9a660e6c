"""How many workers fit into the cores and the memory."""

from __future__ import annotations

import re

from uresnet.core.device import available_cores
from uresnet.errors import UserError, quoted

WORKER_BYTES = 5_000_000_000
"""Of a worker, at most, while it computes one pair and writes another, with images of 1 mm: 2.3 to 3.9 GB were measured
over ten pairs of stripped brains; in an earlier version a pair of raw heads of 256³ voxels took half a gigabyte
more."""


def read_bytes(text: str, option: str) -> int:
    """``8GB``, ``800 MB``, ``1.5g``: bytes. Raises :class:`UserError` for another text."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if found is None:
        raise UserError(f"{option} is {quoted(text, 40)}; give a size such as 8GB or 500MB.")
    power = " kmgt".index(found[2].lower() or " ")
    return int(float(found[1]) * (1024 if found[3] else 1000) ** power)


def workers_and_threads(jobs: int, workers: int | None, threads: int | None, memory: int | None) -> tuple[int, int]:
    """How many workers, and threads of each: a worker with one thread for every core, as far as ``memory`` (bytes)
    goes. Raises :class:`UserError` where that does not suffice for one worker, or for as many as were asked for."""
    fitting = None if memory is None else memory // WORKER_BYTES
    needed = f"a worker takes up to {WORKER_BYTES / 1e9:.1f} GB"
    if fitting is not None and fitting < (workers or 1):
        many = "one worker" if (workers or 1) == 1 else f"{workers} workers"
        raise UserError(f"--memory is too little for {many}: {needed}; give more, or fewer workers.")
    wanted = workers or max(1, available_cores() // (threads or 1))
    count = max(1, min(wanted, jobs if jobs else 1, wanted if fitting is None else fitting))
    return count, threads or max(1, available_cores() // count)
