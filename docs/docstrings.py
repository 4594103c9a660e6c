"""Makes Markdown of the few marks of reStructuredText in docstrings, for the API reference."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:attr|class|data|exc|func|meth|mod):`~?([\w.]+)`")
SESSION = re.compile(r"^>>> .*(?:\n(?!\n).*)*", re.MULTILINE)


def as_markdown(text: str) -> str:
    """``:func:`a.b.c``` becomes code, and a session of the interpreter a block of code."""
    text = ROLE.sub(lambda found: f"`{found[1].rpartition('.')[2]}`", text)
    return SESSION.sub(lambda found: f"```python\n{found[0]}\n```", text)


class Docstrings(griffe.Extension):
    """Hands every docstring to :func:`as_markdown`."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
