"""Every message of the code stands on the page that explains messages."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "uresnet"


@pytest.fixture(scope="module")
def lister() -> ModuleType:
    spec = importlib.util.spec_from_file_location("list_messages", ROOT / "docs" / "list_messages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def lines(lister: ModuleType) -> list[str]:
    """All messages; to read the whole package takes a second."""
    return [line for lines in lister.messages().values() for line in lines]


def test_the_page_lists_every_message(lister: ModuleType, lines: list[str]) -> None:
    page = (ROOT / "docs" / "messages.md").read_text(encoding="utf-8")
    missing = [line for line in lines if f"- {line}\n" not in page]
    assert not missing, f"run make messages: {missing}"
    assert lister.listed() in page, "messages stand on the page that the code no longer has: run make messages"


def test_every_package_that_raises_is_explained(lister: ModuleType) -> None:
    raising = {
        path.relative_to(PACKAGE).parts[0]
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and node.exc is not None and ast.unparse(node.exc).startswith("UserError(")
    }
    assert raising == set(lister.PARTS)


@pytest.mark.parametrize(
    "sentence",
    [
        "… is truncated: it ends before its last voxel; copy or download it again.",  # an f-string of two parts
        "… does not exist; check the path.",
        "… does not say how it is oriented (no qform or sform); its axes are assumed",  # a warning
        "do not overlap where their headers place them",  # a warning that says its class
    ],
)
def test_known_sentences_are_found(lines: list[str], sentence: str) -> None:
    """The list is not empty by a fault of the one that makes it."""
    assert len(lines) > 300
    assert any(sentence in line for line in lines)
