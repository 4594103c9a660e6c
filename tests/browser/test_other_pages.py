"""The pages of a segmentation, of a training and of many registrations, in a real browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from report_results import SIDED, judged, made_up_results, made_up_segmentation, write_folder
from small_training import blobs, config
from uresnet.core.files import write_text
from uresnet.core.labels import SCHEMES
from uresnet.quality.signs import measure_signs
from uresnet.report.pages import write_pages
from uresnet.report.pages.segmentation import segmentation_page
from uresnet.training.context import TrainingContext
from uresnet.training.log import Logbook
from uresnet.training.pair_trainer import PairTrainer

EVIL = "somewhere/<img src=x onerror=\"document.title='owned'\">.nii.gz"


def assert_quiet(browser: Any, address: str) -> None:
    """It asked for nothing but itself, complained of nothing, shows every picture and fits a phone."""
    browser.open(address, width=390, height=844)
    assert browser.requests == [address]
    assert browser.complaints == []
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 1 && i.alt)")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("document.querySelectorAll('h1').length") == 1


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> str:
    results = made_up_results(scheme=SIDED)
    page = segmentation_page(made_up_segmentation(results, EVIL))
    file = tmp_path_factory.mktemp("segmentation") / "dseg_report.html"
    write_text(page, file)
    return file.as_uri()


def test_a_segmentation_is_outlined_filled_and_judged(browser, segmentation: str) -> None:
    assert_quiet(browser, segmentation)
    browser.open(segmentation)
    assert "<img src=x" in browser.run("document.querySelector('h1').textContent")
    assert browser.run("document.querySelector('.verdict .level').textContent") in ("good", "look", "failed")
    assert len(browser.run("[...document.querySelectorAll('tbody tr')].map(r => r.innerText)")) >= 28
    filled = "getComputedStyle(document.querySelector('.outlines path')).fillOpacity"
    assert browser.run(filled) == "0"
    browser.run("document.querySelector('input[data-fill]').click()")
    assert browser.run(filled) == "0.5"
    before = browser.run("document.querySelector('.viewer img.fixed').src")
    browser.run("document.querySelector('input.slice').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run("document.querySelector('.viewer img.fixed').src") != before
    assert browser.complaints == []


def test_a_training_shows_curves_and_pairs(browser, tmp_path: Path) -> None:
    settings = config(epochs=2)
    logbook = Logbook(tmp_path, SCHEMES[settings.model.scheme])
    PairTrainer(settings, blobs(4), blobs(2, 9), TrainingContext(tmp_path, logbook, report_every=1)).run()
    page = write_pages(tmp_path)
    assert_quiet(browser, page.as_uri())
    titles = browser.run("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    assert {"Loss and its terms", "Dice on validation pairs", "Validation pairs"} <= set(titles)
    # Swatches of a chart's keys are as small as text: a rule for the chart once made them as large as the chart.
    browser.open(page.as_uri())
    sizes = browser.run("[...document.querySelectorAll('.swatch')].map(s => s.getBoundingClientRect().width)")
    assert len(sizes) > 3
    assert max(sizes) < 30
    assert browser.run("document.querySelectorAll('.samples figure').length") == 6  # two pairs, three images
    assert (
        browser.run("[...document.querySelectorAll('.samples .outlines')].filter(s => s.querySelector('path')).length")
        >= 4
    )


def test_the_doubtful_come_first_in_an_index(browser, tmp_path: Path) -> None:
    for name, dice in (("b good", 0.9), ("a also good", 0.8), ("z failed", 0.1)):
        results = made_up_results()
        usual: dict[str, Any] = {"brain_ml": 1300.0, "width": 0.8, "height": 0.78, "distance": 1.0, "handedness": 0.4}
        image = replace(measure_signs(results).fixed, **usual, deep_over_rim=0.2, lopsided=None)
        good = judged(results, moving=image, fixed=image, mean_dice=dice, overlap=0.97, correlation=0.9)
        write_folder(good, tmp_path / name / "out")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{", encoding="utf-8")
    (tmp_path / "broken" / "warped.nii.gz").write_bytes(b"")
    page = write_pages(tmp_path)
    assert page.name == "index.html"
    assert_quiet(browser, page.as_uri())
    cards = browser.run(
        "[...document.querySelectorAll('.card')].map(c => [c.classList[1], c.querySelector('h3').innerText])"
    )
    assert cards == [
        ["failed", "z failed/out"],
        ["failed", "broken"],
        ["good", "a also good/out"],
        ["good", "b good/out"],
    ]
    links = browser.run("[...document.querySelectorAll('.card a')].map(a => a.href)")
    assert len(links) == 3
    browser.open(links[0])
    assert browser.run("document.querySelector('.kind').textContent") == "Registration report"
    assert browser.complaints == []
