"""How a configuration checks its own values."""

from __future__ import annotations


class BadValue(Exception):
    """A value that does not fit. :mod:`uresnet.config.loading` turns it into a ``UserError`` that names the file."""


def require(condition: bool, sentence: str) -> None:
    """Raises :class:`BadValue` with ``sentence`` unless ``condition`` holds."""
    if not condition:
        raise BadValue(sentence)
