"""The documents show what the suite measured. ``URESNET_WRITE_DOCS=1 pytest tests/parity/formats`` writes the table."""

from __future__ import annotations

import pytest

from parity.formats import table


def test_the_documented_table_is_what_was_measured():
    measured = set(table.measured)
    if len({program for _, program, _ in measured}) < 7:
        pytest.skip("only a part of the suite has run")
    cells = [[cell.strip() for cell in row.strip("|\n").split("|")] for row in table.documented().splitlines()[2:]]
    assert {(file.strip("`"), program, what) for file, program, what, _ in cells} == measured
