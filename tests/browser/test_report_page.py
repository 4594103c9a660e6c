"""The page in a real browser: it works from disk, asks for nothing, complains of nothing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from report_results import SIDED, judged, made_up_results
from uresnet.core.files import write_text
from uresnet.report.pages.registration import registration_page
from uresnet.report.slices import SLICES_PER_PLANE

EVIL = "somewhere/<img src=x onerror=\"document.title='owned'\">.nii.gz"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page of a made-up pair whose moving image has a hostile name."""
    results = judged(made_up_results(moving_path=EVIL))
    file = tmp_path_factory.mktemp("page") / "report.html"
    write_text(registration_page(results), file)
    return file.as_uri()


@pytest.fixture(scope="module")
def sided_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of the page of a pair with all 28 structures on their sides."""
    results = judged(made_up_results(scheme=SIDED))
    file = tmp_path_factory.mktemp("sided") / "report.html"
    write_text(registration_page(results), file)
    return file.as_uri()


def middle_of(browser, selector: str) -> tuple[float, float, float, float]:
    """(x, y, width, height) of the middle of an element, scrolled into view."""
    browser.run(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
    box = browser.run(
        f"(b => [b.x + b.width / 2, b.y + b.height / 2, b.width, b.height])"
        f"(document.querySelector({selector!r}).getBoundingClientRect())"
    )
    return tuple(box)


def split(browser) -> float:
    return float(browser.run("parseFloat(document.getElementById('viewer').style.getPropertyValue('--split'))"))


def test_it_opens_from_disk_asks_for_nothing_and_complains_of_nothing(browser, page: str) -> None:
    browser.open(page)
    assert browser.requests == [page]
    assert browser.complaints == []
    assert browser.run("[...document.images].every(i => i.complete && i.naturalWidth > 1)")
    assert browser.run("[...document.images].every(i => i.hasAttribute('alt'))")


def test_a_hostile_file_name_is_just_a_name(browser, page: str) -> None:
    browser.open(page)
    assert browser.run("document.title").startswith("<img src=x onerror=")
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    assert "<img src=x" in browser.run("document.querySelector('h1').textContent")


def test_mouse_and_keyboard_move_the_slider(browser, page: str) -> None:
    browser.open(page)
    assert split(browser) == 50
    x, y, width, _ = middle_of(browser, ".viewer .stage")
    browser.drag((x, y), (x + width / 4, y))
    assert split(browser) == pytest.approx(75, abs=1.5)
    shown = browser.run("getComputedStyle(document.querySelector('.viewer .over')).clipPath")
    assert float(shown.split()[-1].rstrip("%)")) == pytest.approx(split(browser), abs=0.01)
    browser.run("document.getElementById('split').focus()")
    before = split(browser)
    browser.press("ArrowLeft", 37)
    assert split(browser) == pytest.approx(round(before) - 1)


def test_a_finger_moves_the_slider_on_a_phone_and_nothing_sticks_out(browser, page: str) -> None:
    browser.open(page, width=390, height=844)
    x, y, width, _ = middle_of(browser, ".viewer .stage")
    browser.swipe((x, y), (x - width / 4, y))
    assert split(browser) == pytest.approx(25, abs=2)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")


def test_structures_can_be_switched_off_and_on(browser, page: str) -> None:
    browser.open(page)
    shown = "getComputedStyle(document.querySelector('.warped-outline path[data-id=\"3\"]')).display"
    assert browser.run(shown) != "none"
    browser.run("document.querySelector('input[data-structure=\"3\"]').click()")
    assert browser.run(shown) == "none"
    # A structure that is off stays off in the next slice.
    browser.run("document.querySelector('input.slice').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run(shown) == "none"
    browser.run("document.querySelector('button[data-all=on]').click()")
    assert browser.run(shown) != "none"
    assert browser.complaints == []


def test_slices_change_with_the_keyboard(browser, page: str) -> None:
    browser.open(page)
    picture = "document.querySelector('.viewer img.fixed').src"
    before = browser.run(picture), browser.run("document.querySelector('output').textContent")
    browser.run("document.querySelector('input.slice').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run(picture) != before[0]
    assert browser.run("document.querySelector('output').textContent") != before[1]
    assert re.fullmatch(r"\d+ mm [AP]|\d+ mm [IS]|\d+ mm [LR]", before[1])


def test_flicker_shows_one_and_then_the_other(browser, page: str) -> None:
    browser.open(page)
    browser.run("document.querySelector('button[data-mode=flicker]').click()")
    seen = "getComputedStyle(document.querySelector('.viewer .over')).visibility"
    browser.wait_for(lambda: browser.run(seen) == "hidden")
    browser.wait_for(lambda: browser.run(seen) == "visible")
    browser.run("document.querySelector('button[data-mode=fixed]').click()")
    assert browser.run(seen) == "hidden"
    assert browser.run("document.querySelector('button[data-mode=fixed]').getAttribute('aria-pressed')") == "true"


def test_before_and_after_stand_in_one_place(browser, page: str) -> None:
    """The moving image before the registration, at the slice that is shown, and without the warped outlines."""
    browser.open(page)
    before, over = (f"getComputedStyle(document.querySelector('.viewer .{n}')).visibility" for n in ("before", "over"))
    outlines = "getComputedStyle(document.querySelector('.warped-outline')).display"
    source = "document.querySelector('.viewer img.before').src"
    assert browser.run(before) == "hidden"
    browser.run("document.querySelector('button[data-mode=before]').click()")
    assert (browser.run(before), browser.run(over), browser.run(outlines)) == ("visible", "hidden", "none")
    shown = browser.run(source)
    browser.run("document.querySelector('input.slice').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run(source) != shown
    browser.run("document.querySelector('button[data-mode=warped]').click()")
    assert (browser.run(before), browser.run(over)) == ("hidden", "visible")


def test_a_zoomed_picture_follows_the_pointer_and_reset_undoes_it(browser, page: str) -> None:
    browser.open(page)
    width = "document.querySelector('.viewer img.fixed').getBoundingClientRect().width"
    small = browser.run(width)
    browser.run(
        "(r => { r.value = '2'; r.dispatchEvent(new Event('input')); })(document.querySelector('[data-light=zoom]'))"
    )
    assert browser.run(width) == pytest.approx(2 * small)
    x, y, wide, _ = middle_of(browser, ".viewer .stage")
    left = "document.querySelector('.viewer img.fixed').getBoundingClientRect().left"
    lefts = []
    for place in (x - wide / 2 + 2, x + wide / 2 - 2):
        browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=place, y=y)
        lefts.append(browser.run(left))
    assert lefts[0] - lefts[1] == pytest.approx(small, rel=0.1)  # from one end of the picture to the other
    assert split(browser) == 50  # the line is moved by its slider alone
    browser.run("document.querySelector('button[data-reset]').click()")
    assert browser.run(width) == pytest.approx(small)


def test_all_slices_are_shown_at_once_and_lead_to_the_large_picture(browser, page: str) -> None:
    browser.open(page)
    assert browser.run("document.querySelectorAll('.slices img').length") == 0  # made when they are asked for
    browser.run("document.querySelector('#sheet summary').click()")
    browser.wait_for(lambda: browser.run("document.querySelectorAll('.slices img').length") == 3 * SLICES_PER_PLANE)
    assert browser.run("[...document.querySelectorAll('.slices button')].some(b => b.querySelector('svg path'))")
    browser.run("document.querySelectorAll('.slices')[1].children[2].click()")
    coronal = "document.querySelectorAll('.viewer .panel')[1]"
    assert browser.run(f"{coronal}.querySelector('input.slice').value") == "2"
    assert browser.run(f"{coronal}.querySelector('output').textContent") == browser.run(
        "document.querySelectorAll('.slices')[1].children[2].textContent"
    )
    assert browser.complaints == []


def test_a_small_fold_is_marked(browser, tmp_path: Path) -> None:
    """Single pixels would be lost in a compressed picture."""
    results = made_up_results()
    data = results.jacobian.data.clone()
    data[tuple(slice(n // 2 - 1, n // 2 + 1) for n in data.shape)] = -0.5
    file = tmp_path / "report.html"
    write_text(registration_page(replace(results, jacobian=replace(results.jacobian, data=data))), file)
    browser.open(file.as_uri())
    marks = "[...document.querySelectorAll('.folds path')]"
    assert browser.run(f"{marks}.length") == 3  # seen in every plane, and nowhere else
    assert min(browser.run(f"{marks}.map(p => p.getBoundingClientRect().width)")) > 1
    assert browser.run(f"getComputedStyle({marks}[0]).fill") == "rgb(255, 214, 0)"
    assert browser.run("document.querySelectorAll('img[alt^=\"log Jacobian, tissue folds\"]').length") == 3
    assert browser.complaints == []


def test_sides_are_switched_apart_and_shown_together(browser, sided_page: str) -> None:
    browser.open(sided_page)
    assert browser.complaints == []
    assert browser.run("document.querySelectorAll('input[data-structure]').length") == 28
    assert browser.run("document.querySelectorAll('.legend li').length") == 16  # 12 pairs and 4 of the middle
    named = "document.querySelector('input[data-structure=\"10\"]').getAttribute('aria-label')"
    assert browser.run(named) == "Left Thalamus"
    shown = "getComputedStyle(document.querySelector('.areas path[data-id=\"{}\"]')).display"
    present = "[...document.querySelectorAll('.areas path')].map(p => p.dataset.id)"
    sides = [i for i in browser.run(present) if i in ("4", "43", "10", "49", "11", "50", "12", "51", "28", "60")][:1]
    assert sides, "a structure with a side is in the middle slices"
    browser.run(f"document.querySelector('input[data-structure=\"{sides[0]}\"]').click()")
    assert browser.run(shown.format(sides[0])) == "none"
    assert (
        browser.run(
            f"{present}.filter(i => getComputedStyle(document.querySelector(`.areas path[data-id='${{i}}']`))"
            ".display !== 'none').length"
        )
        > 0
    )


def test_many_structures_leave_room_on_a_phone(browser, sided_page: str) -> None:
    browser.open(sided_page, width=390, height=844)
    legend = "document.querySelector('details.legend')"
    assert browser.run(f"{legend}.open") is False
    browser.run(f"{legend}.querySelector('summary').click()")
    assert browser.run(f"{legend}.open") is True
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run(f"{legend}.getBoundingClientRect().height") < 844
    heights = f"[...{legend}.querySelectorAll('label')].map(l => l.getBoundingClientRect().height)"
    assert min(browser.run(heights)) >= 24  # WCAG 2.2, target size
    # What the table says is explained in the page's full width, not in a column of the table.
    assert browser.run("document.querySelector('section[aria-labelledby=table] p').getBoundingClientRect().width") > 300


def test_the_table_has_every_structure_and_its_asymmetry(browser, sided_page: str) -> None:
    browser.open(sided_page)
    rows = browser.run(
        "[...document.querySelectorAll('section[aria-labelledby=table] tbody tr')].map(r => r.innerText)"
    )
    assert len(rows) == 28
    assert browser.run("document.querySelectorAll('section[aria-labelledby=table] td[rowspan=\"2\"]').length") == 24
    assert browser.run("document.querySelectorAll('section[aria-labelledby=table] meter').length") == 28
    order = [row.split("\t")[0].strip() for row in rows]
    assert order[order.index("Left Thalamus") + 1] == "Right Thalamus"


def test_it_prints_everything_on_white(browser, sided_page: str) -> None:
    browser.open(sided_page, width=700, dark=True)  # A4 less its margins
    browser.ask("Emulation.setEmulatedMedia", media="print")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("document.getElementById('split').getClientRects().length") == 0
    signs = "[...document.querySelectorAll('details')].at(-1).querySelector('tbody td')"
    assert browser.run(f"{signs}.checkVisibility({{contentVisibilityAuto: true}})")
    pdf = browser.ask("Page.printToPDF", printBackground=False)["data"]
    assert len(pdf) > 10_000


CONTRAST = """(() => {
  const numbers = (c) => (c.match(/[0-9.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = numbers(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0.99) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll('h1,h2,p,li,td,th,dt,dd,figcaption,caption,button,label,code,small')) {
    if (!e.textContent.trim() || !e.getClientRects().length) continue;
    const a = light(numbers(getComputedStyle(e).color)), b = light(behind(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) poor.push([e.tagName, e.textContent.trim().slice(0, 30), ratio]);
  }
  return poor;
})()"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_stands_out(browser, page: str, sided_page: str, dark: bool) -> None:
    for address in (page, sided_page):
        browser.open(address, dark=dark)
        assert browser.run(CONTRAST) == []


def test_it_can_be_used_without_a_mouse(browser, page: str) -> None:
    browser.open(page)
    unnamed = (
        "[...document.querySelectorAll('input,button')].filter(e => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || (e.labels && e.labels.length))).length"
    )
    assert browser.run(unnamed) == 0
    assert browser.run("document.querySelectorAll('h1').length") == 1
    assert browser.run("document.documentElement.lang") == "en"


def test_nothing_can_leave_even_if_asked_to(browser, page: str) -> None:
    browser.open(page)
    asked = "fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')"
    assert browser.run(asked) == "refused"
    assert any("Content Security Policy" in text for text in browser.complaints)


def test_the_page_is_small_and_holds_everything(page: str) -> None:
    file = Path(page.removeprefix("file://"))
    assert file.stat().st_size < 5_000_000
    text = file.read_text(encoding="utf-8")
    assert 'http-equiv="Content-Security-Policy"' in text
    assert 'src="http' not in text and "url(http" not in text
