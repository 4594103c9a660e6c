"""The table of a campaign, and its place in the documentation."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from fuzz.trials import MOST_MEMORY
from pages import write_part

Result = tuple[tuple[str, int, int], Counter[str], list[str]]

FAILURES = ("exception", "message", "memory", "believed", "promise", "hang", "crash", "undamaged")


def table(results: list[Result]) -> str:
    """Markdown: a line for each reader and one for all."""
    by_reader: dict[str, Counter[str]] = {}
    for (name, _, _), counts, _ in results:
        by_reader.setdefault(name, Counter()).update(counts)
    total: Counter[str] = sum(by_reader.values(), Counter())
    kinds = ("read", "refused", *FAILURES)
    lines = [f"| reader | files | {' | '.join(kinds)} |", "|---|" + "--:|" * (len(kinds) + 1)]
    for name, counts in [*by_reader.items(), ("**all**", total)]:
        cells = " | ".join(str(counts[kind]) for kind in kinds)
        lines.append(f"| {name} | {sum(counts.values())} | {cells} |")
    return "\n".join(lines)


def write_page(page: Path, results: list[Result], seed: int) -> None:
    """Replaces what stands between the marks of a page."""
    files = sum(sum(counts.values()) for _, counts, _ in results)
    failed = sum(counts[kind] for _, counts, _ in results for kind in FAILURES)
    failing = "None of them failed" if failed == 0 else f"{failed} of them failed"
    text = (
        f"{files:,} damaged files, from seed {seed}, in {len({name for (name, _, _), _, _ in results})} readers. "
        f"{failing}. A read may add at most {MOST_MEMORY >> 20} MiB to what the process holds, and may take 20 s.\n\n"
        f"{table(results)}"
    )
    write_part(page, "fuzz", text)
