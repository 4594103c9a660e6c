"""The rules that keep the house natural, read from the source itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGE = SOURCE / "uresnet"

# A module may import from its own level and from any level before it. A folder stands for all that is in it.
LEVELS = [
    {"__init__"},
    {"errors"},
    {"core"},
    {"config"},
    {"io", "transform", "preprocess", "measures", "model", "datasets"},
    {"transform_files", "solver"},
    {"coupling"},
    {"results"},
    {"quality"},
    {"report"},
    {"pipeline", "training"},
    {"evaluation"},
    {"cli"},
    {"__main__"},
]
RANK = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
MODULES = sorted(PACKAGE.rglob("*.py"))
FILE_LIBRARIES = {"nibabel", "SimpleITK", "h5py"}
FILE_ROOMS = {"io", "transform_files"}  # and model.published, the reader of the 2019 checkpoints


def name_of(path: Path) -> str:
    """``transform/export.py`` → ``transform.export``; ``model/__init__.py`` → ``model``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names in an import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively; name the module in full"
            assert node.module is not None
            yield node.module
            # `from uresnet import x` names the module x, or something in the package itself
            if node.module == "uresnet":
                yield from (f"uresnet.{a.name}" for a in node.names if (PACKAGE / f"{a.name}.py").exists())


def own_imports(path: Path) -> set[str]:
    """The package's own modules among the imports, without the leading ``uresnet.``."""
    found = {name.removeprefix("uresnet.") for name in imports(path) if name.startswith("uresnet.")}
    return found | ({"__init__"} if "uresnet" in set(imports(path)) else set())


def room(module: str) -> str:
    return module.split(".")[0]


def ids(path: Path) -> str:
    return name_of(path)


def test_the_rules_see_the_whole_package() -> None:
    assert len(MODULES) > 20
    unplaced = {room(name_of(path)) for path in MODULES} - set(RANK)
    assert not unplaced, f"give {unplaced} a level"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rule_1_imports_point_one_way(path: Path) -> None:
    here = name_of(path)
    if here == "__init__":  # it names the public API by their homes and loads them when they are asked for
        return
    later = {other for other in own_imports(path) if RANK[room(other)] > RANK[room(here)]}
    assert not later, f"{here} imports {later}, which comes after it"


def test_rule_1_no_two_modules_import_each_other() -> None:
    edges = {name_of(path): {o for o in own_imports(path) if o != "__init__"} for path in MODULES}
    edges.pop("__init__")

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for other in edges.get(todo.pop(), set()) - seen:
                seen.add(other)
                todo.append(other)
        return seen

    in_a_circle = sorted(module for module in edges if module in reached(module))
    assert not in_a_circle


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rule_2_networks_and_transforms_meet_only_in_coupling(path: Path) -> None:
    forbidden = {
        "model": {"io", "preprocess", "transform", "transform_files", "coupling"},
        "solver": {"io", "preprocess", "transform_files", "coupling"},
        "transform": {"io", "model", "coupling", "preprocess"},
    }.get(room(name_of(path)), set())
    assert not {room(other) for other in own_imports(path)} & forbidden


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rule_3_inference_never_imports_training(path: Path) -> None:
    if room(name_of(path)) in ("training", "evaluation", "cli"):  # cli has the verb; it loads training only inside it
        return
    assert "training" not in {room(other) for other in own_imports(path)}


@pytest.mark.parametrize("arguments", [None, ["--help"], ["register", "--help"], ["info"], ["info", "--json"]], ids=str)
def test_rule_3_help_and_info_do_not_load_torch(arguments: list[str] | None) -> None:
    run = (
        f"from uresnet.cli.main import app; app({arguments!r}, standalone_mode=False)"
        if arguments
        else "import uresnet"
    )
    heavy = "['torch', 'nibabel', 'h5py', 'scipy', 'SimpleITK', 'deepbet', 'pandas', 'matplotlib']"
    code = f"import sys\ntry:\n  {run}\nexcept SystemExit: pass\n"
    code += f"print('loaded:', [m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        encoding="utf-8",  # text=True would go by the locale, which libraries of other tests change
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rule_4_file_libraries_stay_in_their_rooms(path: Path) -> None:
    named = {name.split(".")[0] for name in imports(path)} & FILE_LIBRARIES
    assert not named or room(name_of(path)) in FILE_ROOMS or name_of(path) == "model.published"


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rule_5_only_cli_prints(path: Path) -> None:
    if room(name_of(path)) == "cli":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"print", "sys.stdout.write", "sys.stderr.write"}
    assert not {name.split(".")[0] for name in imports(path)} & {"typer", "click"}


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_rule_5_only_cli_picks_a_device(path: Path) -> None:
    if room(name_of(path)) == "cli":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"torch.cuda.is_available", "torch.backends.mps.is_available", "torch.set_default_device"}


@pytest.mark.parametrize("path", MODULES, ids=ids)
def test_there_is_one_grid_sample_and_no_utils(path: Path) -> None:
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert "grid_sample" not in used or name_of(path) == "core.sampling"
