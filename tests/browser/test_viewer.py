"""The interactive viewer in a real browser, from its own server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report_results import made_up_results, write_folder
from uresnet.report.viewer import HOST, make_server


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running server for a made-up result."""
    folder = write_folder(made_up_results(), tmp_path_factory.mktemp("view") / "out")
    server = make_server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def open_viewer(browser, address: str) -> None:
    """Open the page and wait until the images are shown."""
    browser.open(address, 800, 600)  # drawn by the processor: fewer pixels
    browser.wait_for(lambda: browser.run("document.body.dataset.ready") is not None)
    assert browser.run("document.body.dataset.ready") == "5", browser.run("document.body.innerText")


def test_the_volumes_are_shown_and_nothing_else_is_asked_for(address: str, browser, tmp_path: Path) -> None:
    open_viewer(browser, address)
    asked = [url for url in browser.requests if not url.startswith("blob:")]
    assert all(url.startswith(address) for url in asked)
    assert sum("/images/" in url for url in asked) == 5
    assert not [text for text in browser.complaints if "Content Security Policy" in text or "exceptionDetails" in text]
    assert browser.run("document.querySelectorAll('#layers input[type=range]').length") == 5
    drawn = browser.run("(c => [c.width, c.height])(document.querySelector('#screen canvas'))")
    assert min(drawn) > 100


def test_structures_have_the_colours_of_the_label_table_and_a_slider_hides_them(
    address: str, browser, tmp_path: Path
) -> None:
    def coloured_pixels(name: str) -> int:
        """Pixels of the axial slice that have a colour, the crosshair's red aside."""
        browser.picture(tmp_path / name, whole=False)
        pixels = np.asarray(Image.open(tmp_path / name).convert("RGB")).astype(int)
        x, y, width, height = (int(n) for n in browser.run(BOX))
        red, green, blue = np.moveaxis(pixels[y : y + height, x : x + width // 3], -1, 0)
        return int(((np.maximum(red, blue) - green > 20) & ~((red > 150) & (green < 60) & (blue < 60))).sum())

    open_viewer(browser, address)
    assert coloured_pixels("shown.png") > 500  # cortex is red, the ventricle purple
    browser.run(
        "(r => { r.value = '0'; r.dispatchEvent(new Event('input')); })"
        "(document.querySelectorAll('#layers input[type=range]')[3])"
    )
    browser.wait_for(lambda: coloured_pixels("hidden.png") < 50)


def test_a_click_moves_the_crosshair_and_the_wheel_goes_through_the_slices(address: str, browser) -> None:
    open_viewer(browser, address)
    box = browser.run(BOX)
    x, y = box[0] + 0.14 * box[2], box[1] + 0.45 * box[3]
    place = "document.getElementById('place').textContent"
    seen = [browser.run(place)]
    browser.drag((x, y), (x + 3, y + 3))
    browser.wait_for(lambda: browser.run(place) != seen[0])
    seen.append(browser.run(place))
    browser.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=120)
    browser.wait_for(lambda: browser.run(place) != seen[1])


def test_the_place_names_the_structures_at_the_crosshair(address: str, browser) -> None:
    open_viewer(browser, address)
    x, y, width, height = browser.run(BOX)
    place = "document.getElementById('place').textContent"
    browser.drag((x + width / 6, y + height / 2), (x + width / 6 + 1, y + height / 2))
    browser.wait_for(lambda: "Cerebral" in browser.run(place) or "Ventricle" in browser.run(place))


BOX = "(r => [r.left, r.top, r.width, r.height])(document.querySelector('#screen canvas').getBoundingClientRect())"
