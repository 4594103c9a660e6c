"""The known pair as files, and the bounds for what every program makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from parity.formats.bounds import FORMS, rows_of
from parity.formats.known import Known, write_known

Opened = Callable[[str, str, str, float], None]


@pytest.fixture(scope="session", params=FORMS)
def known(request, tmp_path_factory) -> Known:
    return write_known(request.param, tmp_path_factory.mktemp("formats"))


@pytest.fixture
def opened(request, known) -> Iterator[Opened]:
    """Call with (file, program, what, the largest difference): held against its bound. In the end, the test has to
    have compared all that the table of bounds says of it."""
    bounds = rows_of(request.node.originalname, known.form)
    compared = set()

    def compare(file: str, program: str, what: str, difference: float) -> None:
        bound = bounds[file, program, what]
        assert difference <= bound, f"{program} on {file}, {what}: {difference:.3g}, allowed {bound:.3g}"
        compared.add((file, program, what))

    yield compare
    missing = set(bounds) - compared
    assert not missing, f"in the table of bounds, but not compared: {missing}"
