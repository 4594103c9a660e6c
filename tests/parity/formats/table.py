"""What opens where: filled by the suite, shown in ``docs/conventions.md``."""

from __future__ import annotations

from pathlib import Path

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "conventions.md"
START, END = "<!-- written by tests/parity/formats: begin -->", "<!-- written by tests/parity/formats: end -->"
HEADER = "| file | opened by | what was compared | farthest apart |\n|---|---|---|---|\n"

measured: dict[tuple[str, str, str], tuple[float, str]] = {}
"""(file, program, what) → (largest difference, its unit)."""


def record(file: str, program: str, what: str, difference: float) -> None:
    unit = "mm" if "points" in what else "of an image from −3 to 3"
    key = (file, program, what)
    measured[key] = (max(difference, measured[key][0] if key in measured else 0), unit)


def table() -> str:
    rows = [
        f"| `{file}` | {program} | {what} | {_rounded_up(worst)} {unit} |"
        for (file, program, what), (worst, unit) in sorted(measured.items())
    ]
    return HEADER + "\n".join(rows) + "\n"


def _rounded_up(value: float) -> str:
    """To the next 1, 2 or 5: what is written does not change with the last bits of a platform."""
    steps = [step * 10.0**exponent for exponent in range(-6, 3) for step in (1, 2, 5)]
    return f"{next((step for step in steps if value <= step), value):g}"


def documented() -> str:
    text = DOCUMENT.read_text(encoding="utf-8")
    return text[text.index(START) + len(START) : text.index(END)].strip() + "\n"


def write_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, after = text[: text.index(START) + len(START)], text[text.index(END) :]
    DOCUMENT.write_text(f"{before}\n\n{table()}\n{after}", encoding="utf-8")
