"""A browser for the tests of pages; without an installed Chromium they are skipped."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _driver() -> ModuleType:
    place = Path(__file__).with_name("chromium.py")
    spec = importlib.util.spec_from_file_location("uresnet_tests_chromium", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium, one for the session."""
    driver = _driver()
    path = driver.find_chromium()
    if path is None:
        pytest.skip("no Chromium is installed (apt-get install chromium, or set CHROMIUM to its path)")
    tab = driver.Browser(path)
    yield tab
    tab.close()
