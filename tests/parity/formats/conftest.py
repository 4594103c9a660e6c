"""The known pair as files, and what every program made of them."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from parity.formats import table
from parity.formats.known import FORMS, Known, write_known

Opened = Callable[[str, str, str, float, float], None]


@pytest.fixture(scope="session", params=FORMS)
def known(request, tmp_path_factory) -> Known:
    return write_known(request.param, tmp_path_factory.mktemp("formats"))


@pytest.fixture
def opened() -> Opened:
    """Call with (file, program, what, the largest difference, the largest allowed): checked, and kept for the table."""

    def record(file: str, program: str, what: str, difference: float, allowed: float) -> None:
        assert difference <= allowed, f"{program} on {file}, {what}: {difference:.3g}, allowed {allowed:.3g}"
        table.record(file, program, what, difference)

    return record


def pytest_sessionfinish() -> None:
    if os.environ.get("URESNET_WRITE_DOCS") and table.measured:
        table.write_document()
