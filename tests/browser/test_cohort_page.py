"""The index of a cohort in a real browser: it sorts, and it escapes what files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from uresnet.core.files import write_text
from uresnet.report.pages.cohort import CohortRow, cohort_page
from uresnet.report.pictures import data_uri

ORDER = "[...document.querySelectorAll('tbody tr')].map(row => row.cells[1].textContent.trim())"


def click(browser: Any, name: str) -> list[str]:
    """The ids in their order after a click on the head of a column."""
    browser.run(f"[...document.querySelectorAll('th button')].find(b => b.textContent === '{name}').click()")
    found: list[str] = browser.run(ORDER)
    return found


def test_a_click_sorts(browser: Any, tmp_path: Path) -> None:
    picture = data_uri(np.full((64, 64), 90, dtype=np.uint8), 60)
    evil = "<img src=x onerror=\"document.title='owned'\">"
    rows = [
        CohortRow("s10", "good", dice=0.9, seconds=20.0, thumbnail=picture),
        CohortRow("s9", "look", ("The brains do not match.",), dice=0.7, seconds=5.0, warnings=(evil, "Odd.")),
        CohortRow("s1", "failed", dice=0.3, seconds=100.0),
        CohortRow("bad", "", error=evil),
    ]
    write_text(cohort_page(tmp_path, rows, 3), tmp_path / "index.html")
    address = (tmp_path / "index.html").as_uri()
    browser.open(address, width=390, height=844)
    assert browser.requests == [address] and browser.complaints == []
    assert browser.run("document.title") != "owned" and evil in browser.run("document.body.textContent")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(ORDER) == ["bad", "s1", "s9", "s10"]  # the gravest first
    assert click(browser, "Id") == ["bad", "s1", "s9", "s10"]  # by number within a name
    assert click(browser, "Dice") == ["bad", "s1", "s9", "s10"]
    assert click(browser, "Dice") == ["s10", "s9", "s1", "bad"]
    assert click(browser, "Seconds") == ["bad", "s9", "s10", "s1"]
    assert click(browser, "Verdict") == ["s10", "s9", "s1", "bad"]


def test_a_thousand_results_stay_quick(browser: Any, tmp_path: Path) -> None:
    """Seconds of the processor, which other work on the computer does not change: to open the page, and to sort it."""
    picture = data_uri((np.indices((64, 64)).sum(axis=0) * 2).astype(np.uint8), 60)
    levels = ("good", "look", "failed")
    rows = [
        CohortRow(f"sub-{n}", levels[n % 3], dice=n * 617 % 1000 / 1000, seconds=n % 90.0, thumbnail=picture)
        for n in range(1000)
    ]
    write_text(cohort_page(tmp_path, rows, 3), tmp_path / "index.html")

    def spent() -> float:
        browser.run("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        metrics = browser.ask("Performance.getMetrics")["metrics"]
        return float(next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration"))

    browser.ask("Performance.enable", timeDomain="threadTicks")
    browser.open((tmp_path / "index.html").as_uri())
    begun = spent()
    assert begun < 3
    for name in ("Id", "Dice", "Verdict"):
        order = click(browser, name)
        assert len(order) == 1000 and spent() - begun < 1, name
        begun = spent()
    browser.ask("Performance.disable")
    assert click(browser, "Id") == [f"sub-{n}" for n in range(1000)]
