"""How the API reference reads the source: Markdown in docstrings, and every name once."""

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
    """Changes what griffe has read before it is rendered."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Hands every docstring to :func:`as_markdown`."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Shows names in the modules that define them, and not again in the packages that pass them on."""
        for module in pkg.modules.values():
            if not module.is_alias:
                module.exports = None
                self.on_package(pkg=module)
