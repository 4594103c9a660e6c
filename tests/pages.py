"""Tables in the documentation that a program of ``tests`` writes."""

from __future__ import annotations

import re
from pathlib import Path


def write_part(page: Path, name: str, text: str) -> None:
    """Replaces what stands between the marks ``<!-- NAME: written by … -->`` and ``<!-- NAME: end -->``."""
    old = page.read_text(encoding="utf-8")
    pattern = f"(<!-- {re.escape(name)}: written by [^>]*-->).*(<!-- {re.escape(name)}: end -->)"
    new, count = re.subn(pattern, lambda marks: f"{marks[1]}\n\n{text}\n\n{marks[2]}", old, flags=re.DOTALL)
    assert count == 1, f"{page} has no place for {name}"
    page.write_text(new, encoding="utf-8")
