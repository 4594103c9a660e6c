"""Tables in the documentation that a program of ``tests`` writes."""

from __future__ import annotations

import re
from pathlib import Path


def write_part(page: Path, name: str, text: str) -> None:
    """Replaces what stands between the marks ``<!-- NAME: written by make NAME -->`` and ``<!-- NAME: end -->``."""
    begin, end = f"<!-- {name}: written by make {name} -->", f"<!-- {name}: end -->"
    old = page.read_text(encoding="utf-8")
    assert begin in old and end in old, f"{page} has no place for {name}"
    pattern = f"{re.escape(begin)}.*{re.escape(end)}"
    new = re.sub(pattern, lambda _: f"{begin}\n\n{text}\n\n{end}", old, flags=re.DOTALL)
    page.write_text(new, encoding="utf-8")
