"""What the import contracts in pyproject.toml cannot say, read from the source itself."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src"
PACKAGE = SOURCE / "uresnet"
MODULES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 450
CODE = [*MODULES, *sorted(SOURCE.parent.glob("tests/**/*.py")), *sorted(SOURCE.parent.glob("benchmarks/**/*.py"))]


def name_of(path: Path) -> str:
    """``core/sampling.py`` → ``core.sampling``; ``model/__init__.py`` → ``model``."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def room(path: Path) -> str:
    """The package, or the module beside the packages, that a file is in."""
    return name_of(path).split(".")[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def names_in(path: Path) -> set[str]:
    """Everything that is used by name: ``print``, ``grid_sample``, ``torch.cuda.is_available``."""
    nodes = list(ast.walk(parsed(path)))
    found = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute | ast.Name)}
    return found | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


def test_the_rules_see_the_whole_package() -> None:
    assert len(MODULES) > 60
    assert len(CODE) > len(MODULES) + 60


@pytest.mark.parametrize("arguments", [None, ["--help"], ["register", "--help"], ["info"], ["info", "--json"]], ids=str)
def test_help_and_info_do_not_load_torch(arguments: list[str] | None) -> None:
    run = (
        f"from uresnet.cli.main import app; app({arguments!r}, standalone_mode=False)"
        if arguments
        else "import uresnet"
    )
    heavy = ["torch", "nibabel", "h5py", "scipy", "SimpleITK", "pandas", "matplotlib"]
    heavy += ["numpy", "rich"] if arguments and "--help" in arguments else []
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


def test_a_run_loads_the_pages_only_where_it_writes_one() -> None:
    """A registration or segmentation with ``--no-report`` needs none of their modules."""
    for path in (path for path in MODULES if room(path) in ("pipeline", "results", "quality", "coupling")):
        at_import = [node for node in parsed(path).body if isinstance(node, ast.ImportFrom | ast.Import)]
        names = [getattr(node, "module", None) or node.names[0].name for node in at_import]
        assert not [name for name in names if name.startswith("uresnet.report")], path


def test_only_the_command_prints() -> None:
    printing = {"print", "sys.stdout", "sys.stderr.write", "sys.stderr.writelines"}
    assert not [name_of(p) for p in MODULES if room(p) != "cli" and names_in(p) & printing]


def test_only_the_command_picks_a_device() -> None:
    picking = {"torch.cuda.is_available", "torch.backends.mps.is_available", "torch.set_default_device"}
    checking = {"core.device"}  # whether the one that was named is there
    others = [p for p in MODULES if room(p) != "cli" and name_of(p) not in checking]
    assert not [name_of(p) for p in others if names_in(p) & picking]


def test_grid_sample_is_called_in_one_place() -> None:
    calling = [p for p in MODULES if "grid_sample" in names_in(p)]
    assert len(calling) == 1 and room(calling[0]) == "core"


def test_no_module_is_a_drawer_for_everything() -> None:
    assert not [p for p in MODULES if p.stem in ("utils", "util", "helpers", "misc", "common")]


def test_no_file_is_longer_than_a_person_reads() -> None:
    lengths = {str(p.relative_to(SOURCE.parent)): len(p.read_text(encoding="utf-8").splitlines()) for p in CODE}
    assert not {name: n for name, n in lengths.items() if n > MOST_LINES}


def test_no_module_imports_the_package_that_it_is_in() -> None:
    """A package's ``__init__`` imports its modules; a module that imports it back closes a circle.

    Only the order of loading, or an import inside a function, keeps such a circle from failing. import-linter compares
    siblings and does not see it.
    """
    for path in MODULES:
        names = name_of(path).split(".")
        above = {"uresnet." + ".".join(names[:n]): PACKAGE.joinpath(*names[:n]) for n in range(1, len(names))}
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and node.module in above:
                submodules = {child.stem for child in above[node.module].iterdir()}
                taken = {alias.name for alias in node.names} - submodules
                assert not taken, f"{name_of(path)} imports {taken} from {node.module}, which imports it"


def test_modules_are_imported_by_their_full_names() -> None:
    assert not [p for p in CODE if any(isinstance(n, ast.ImportFrom) and n.level for n in ast.walk(parsed(p)))]


def test_no_module_is_imported_by_a_string() -> None:
    """Neither import-linter nor a reader would see it. The public names in ``uresnet/__init__`` are the exception."""
    by_string = {"import_module", "__import__", "importlib.import_module"}
    assert [name_of(p) for p in MODULES if names_in(p) & by_string] == ["__init__"]
