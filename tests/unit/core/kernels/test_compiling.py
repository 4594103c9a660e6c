"""Kernels are compiled once on a machine, and never from the code of an older file."""

from __future__ import annotations

import ast
import errno
import importlib
import os
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core.caching import FunctionCache

from uresnet.core import kernels
from uresnet.core.kernels import compiling, interpolation

FILES = sorted(Path(kernels.__file__).parent.glob("*.py"))


def test_where_nothing_can_be_written_they_are_compiled_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_place(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(compiling._Cache, "__init__", no_place)

    def double(x: float) -> float:
        return 2 * x

    kernel = compiling.compiler(set())(double)
    assert kernel(3.0) == 6.0
    assert compiling.is_on_disk(kernel, ())  # nothing to be gained by another process


def test_where_the_disk_is_full_they_are_compiled_for_this_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FunctionCache, "save_overload", full)

    def double(x: float) -> float:
        return 2 * x

    assert compiling.compiler(set())(double)(3.0) == 6.0


def started() -> int:
    """A copy of this process, in which the kernels are not loaded, calls one. It ends with the number of kernels that
    it found compiled, or with 255."""
    child = os.fork()
    if child == 0:
        hits = 255
        try:
            del sys.modules[interpolation.__name__]
            kernel = importlib.import_module(interpolation.__name__).affine_positions
            kernel(np.eye(4)[:3].copy(), 0, np.zeros((3, 2, 2, 2), np.float32), 0, 2)
            hits = sum(kernel.stats.cache_hits.values())
        finally:
            os._exit(hits)
    return child


def ended(child: int) -> int:
    """How it ended."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="both processes come from this one, which has loaded Numba")
def test_a_second_process_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept on disk: the first process fills the cache, the second only reads it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert [ended(started()) for _ in range(2)] == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="both processes come from this one, which has loaded Numba")
def test_of_two_processes_at_once_one_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other waits for it. A lock that a killed process has left holds up nobody, and is removed."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    folder = Path(compiling._Cache(interpolation.affine_positions.py_func).cache_path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interpolation.affine_positions.lock").touch()
    children = [started() for _ in range(2)]
    assert sorted(map(ended, children)) == [0, 1]
    assert {file.suffix for file in folder.iterdir()} == {".nbi", ".nbc"}


def test_a_process_that_never_ends_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling, "_PATIENCE_S", 0.05)

    def double(x: float) -> float:
        return 2 * x

    kernel = compiling.compiler(set())(double)
    lock = kernel._cache._lock_path
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert kernel(3.0) == 6.0
    assert compiling.is_on_disk(kernel, kernel.signatures[0])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_kernel_stands_in_one_file_with_all_that_it_calls(path: Path) -> None:
    """Numba's cache does not notice that another file has changed: it would go on with that file's old code."""
    named = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    own = [node for node in named if (node.module or "").startswith("uresnet")]
    assert all(node.module == "uresnet.core.kernels.compiling" for node in own)
    assert [alias.name for node in own for alias in node.names] in ([], ["compiler"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_slice_is_copied_from_another(path: Path) -> None:
    """Numba compiles the error of shapes that differ with it, and all of its text formatting: four seconds for a copy
    that a loop does as fast. One value for all elements of a slice costs nothing."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
            places = target.elts if isinstance(target, ast.Tuple) else [target]
            for place, value in zip(places, values, strict=False):
                if isinstance(place, ast.Subscript) and any(isinstance(part, ast.Slice) for part in ast.walk(place)):
                    assert ast.unparse(value) == "_ZERO", ast.unparse(node)


def test_what_only_kernels_call_is_a_part_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of it is kept on disk by itself, and no way in for Python is compiled."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    kernel = compiling.compiler(set())

    @kernel
    def _double(x):
        return 2 * x

    @kernel
    def quadruple(x):
        return _double(_double(x))

    assert quadruple(3.0) == 12.0
    kept = {file.name.split(".")[3].split("-")[0] for file in tmp_path.rglob("*.nbi")}
    assert kept == {"quadruple"}
