"""Kernels are compiled once on a machine, and never from the code of an older file."""

from __future__ import annotations

import ast
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from uresnet.core import kernels
from uresnet.core.kernels import compiling, interpolation

FILES = sorted(Path(kernels.__file__).parent.glob("*.py"))


def test_where_nothing_can_be_written_they_are_compiled_in_every_run(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_it = numba.njit

    def no_place(*functions: Any, cache: bool = False, **how: Any) -> Callable[..., object]:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compile_it(*functions, **how)

    monkeypatch.setattr(numba, "njit", no_place)

    def double(x: float) -> float:
        return 2 * x

    assert compiling.compiler(set())(double)(3.0) == 6.0


def taken_from_disk() -> int:
    """How many kernels a copy of this process, in which the kernels are not loaded, finds compiled; −1: it failed."""
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
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return -1 if status == 255 else status


@pytest.mark.skipif(not hasattr(os, "fork"), reason="both processes come from this one, which has loaded Numba")
def test_a_second_process_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept on disk: the first process fills the cache, the second only reads it."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert [taken_from_disk() for _ in range(2)] == [0, 1]


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
