"""Compiles the kernels of a registration in a process of its own, beside a first run that loads libraries, reads images
and runs the network.

Both keep what they compile in Numba's cache, where neither compiles what the other does
(:mod:`uresnet.core.kernels.compiling`), so that each is free to begin, to fall behind and to fail.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import Any

from numba.core.sigutils import normalize_signature

from uresnet.core.device import available_cores
from uresnet.core.kernels import classes, correlation, filters, folds, interpolation, packing
from uresnet.core.kernels.compiling import is_on_disk

_F1, _F2, _F3, _F4, _F5 = (f"f4[{':,' * n}::1]" for n in range(5))
_MASK, _CLASSES, _SHAPE = "b1[:,:,::1]", "u1[:,:,::1]", "UniTuple(i8, 3)"

# With the types of their arguments, but for the range; in the order in which a registration calls them.
_KERNELS: tuple[tuple[Any, tuple[str, ...]], ...] = (
    (interpolation.affine_positions, ("f8[:,::1]", "i8", _F4)),
    (interpolation.read_volume, (_F4, _F2, "b1", _F2)),
    (classes.classify, (_F3, "u1[:,::1]", _F2)),
    (classes.common, (_CLASSES, _F4, "f8[:,::1]", "f8[:,::1]")),
    (filters.separable, (_F4, _F1, _F4)),
    (interpolation.compose, (_F4, _F4, "f4", "f4", _MASK, _F4)),
    (interpolation.structure_forces, (_F2, _F2, _SHAPE, _SHAPE, _F4, _F4, _MASK, _F1, _F4, _F3, _F3)),
    (correlation.correlation_slopes, (_F3, _F3, _MASK, "i8", "f4", _F3, _F3)),
    (filters.sum_values, (_F2, "i8[::1]", _F2, _F2)),
    (filters.sum_rows, (_F3, "i8[::1]", _F2, _F3)),
    (interpolation.read_rows, (_F2, _SHAPE, _F2, _F2)),
    (interpolation.newton_half_step, (_F5, _MASK, "f4", "i8[::1]", _F5, _MASK)),
    (interpolation.accept, (_F5, "i8[::1]", _MASK, _MASK, _F5)),
    (folds.find_folds, (_F4, _MASK)),
    (interpolation.read_labels, (_CLASSES, _F2, "u1[::1]")),
    (packing.shuffled_vectors, (_F4, _F1, "f4", "u1[:,::1]")),
)

_started: list[subprocess.Popen[bytes]] = []  # whose standard input ends with this process


def signatures() -> Iterator[tuple[Any, Any]]:
    """The kernels, each with the types that a registration calls it with."""
    for kernel, types in _KERNELS:
        yield kernel, normalize_signature(f"({', '.join(types)}, i8, i8)")[0]


def compile_beside() -> bool:
    """Begin to compile what is not on disk yet, unless there is one core only; False where nothing has to be compiled,
    or nothing can be kept on disk."""
    if all(is_on_disk(kernel, types) for kernel, types in signatures()):
        return False
    if available_cores() == 1 or os.environ.get("OMP_NUM_THREADS") == "1":
        return True
    search = os.pathsep.join(folder for folder in sys.path if folder)  # -P: not the folder that the user stands in
    surroundings = {**os.environ, "PYTHONPATH": search, "OPENBLAS_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    with suppress(OSError, RuntimeError):  # no more processes or threads allowed: this process compiles
        beside = subprocess.Popen(
            [sys.executable, "-P", "-m", "uresnet.core.first_run"],
            stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, env=surroundings,
        )  # fmt: skip
        _started.append(beside)
        Thread(target=beside.wait, daemon=True).start()  # else a command that lasts would keep a dead process
    return True


def _compile_all() -> None:
    gc.set_threshold(50_000, 20, 20)
    for kernel, types in signatures():
        kernel.compile(types)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    Thread(target=_end_with_parent, daemon=True).start()
    _compile_all()
