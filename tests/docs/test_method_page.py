"""The table in ``docs/method.md`` names code that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.findall(r"`([\w/]+\.py)::([\w.]+)`", (ROOT / "docs" / "method.md").read_text(encoding="utf-8"))


def test_the_page_names_code() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize(("file", "name"), NAMED, ids=lambda value: value)
def test_named_code_exists(file: str, name: str) -> None:
    body: list[ast.stmt] = ast.parse((ROOT / "src" / "uresnet" / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        assert found, f"{file} has no {name}"
        body = found[0].body
