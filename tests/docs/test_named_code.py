"""The pages name files, functions and packages that exist."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, DOCS = ROOT / "src" / "uresnet", ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "tests/README.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

# `folder/file.py::Name` is below src/uresnet; `folder/file.py` there or at the root. Capitals: a name to choose.
CODE = sorted(
    {(page, *found) for page, text in TEXTS.items() for found in re.findall(r"`([\w/]+\.py)::([\w.]+)`", text)}
)
FILES = sorted(
    {
        (page, path)
        for page, text in TEXTS.items()
        for path in re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|yaml|toml))`", text)
        if not Path(path).stem.isupper()
    }
)


def defined(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """What a module or class defines, each name with the body in which its own names stand."""
    names: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names[node.name] = node.body
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names[node.target.id] = []
        elif isinstance(node, ast.Assign):
            names.update({target.id: [] for target in node.targets if isinstance(target, ast.Name)})
    return names


def test_pages_name_code() -> None:
    for page, least in (("docs/method.md", 20), ("docs/architecture.md", 20), ("docs/how-to/transform-format.md", 5)):
        assert sum(named[0] == page for named in CODE) >= least, page


@pytest.mark.parametrize(("page", "file", "name"), CODE)
def test_named_code_exists(page: str, file: str, name: str) -> None:
    body = ast.parse((PACKAGE / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        names = defined(body)
        assert part in names, f"{page}: {file} has no {name}"
        body = names[part]


@pytest.mark.parametrize(("page", "path"), FILES)
def test_named_files_exist(page: str, path: str) -> None:
    assert (ROOT / path).is_file() or (PACKAGE / path).is_file(), f"{page} names {path}"


def test_every_package_has_a_page_of_the_reference() -> None:
    packages = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()}
    shown = {name for text in TEXTS.values() for name in re.findall(r"^::: uresnet\.(\w+)", text, re.MULTILINE)}
    assert packages <= shown


def test_every_page_is_in_the_menu() -> None:
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = set(re.findall(r"[\w./-]+\.md", yaml.safe_dump(menu)))
    assert listed == {page.relative_to(DOCS).as_posix() for page in PAGES if page.is_relative_to(DOCS)}


def test_the_map_has_the_levels_of_the_import_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    allowed = [set(layer.replace(":", "|").split(" | ")) - {"__main__", "_version"} for layer in layers]
    shown: dict[str, set[str]] = {}
    for level, package in re.findall(r"^\| (\d+) \| `(\w+)` \|", TEXTS["docs/architecture.md"], re.MULTILINE):
        shown.setdefault(level, set()).add(package)
    assert list(shown) == [str(level) for level in range(len(shown), 0, -1)]
    assert list(shown.values()) == [packages for packages in allowed if packages]
