"""The documents show the bounds that the tests hold."""

from __future__ import annotations

from parity.formats import bounds


def test_the_document_shows_the_bounds():
    assert bounds.documented() == bounds.table(), "write the table with: python tests/parity/formats/bounds.py"
