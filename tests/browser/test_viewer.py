"""The interactive viewer in a real browser, from its own server."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from report_results import made_up_results, write_folder
from uresnet.errors import UserError
from uresnet.report.viewer import HOST, make_server, niivue_module


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Port of a running server for a made-up result."""
    try:
        niivue_module()
    except UserError as error:
        pytest.skip(str(error))
    folder = write_folder(made_up_results(), tmp_path_factory.mktemp("view") / "out")
    made = make_server(folder)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made.server_address[1]
    made.shutdown()
    made.server_close()


def answer(port: int, path: str, host: str | None = None) -> int:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"{HOST}:{port}")
    connection.endheaders()
    return connection.getresponse().status


def test_it_listens_on_the_loopback_address_only(server: int) -> None:
    assert HOST == "127.0.0.1"
    assert answer(server, "/") == 200


@pytest.mark.parametrize(
    "path",
    ["/../run.json", "/images/../run.json", "/run.json", "/%2e%2e/run.json", "//etc/passwd", "/images/", "/?x=1"],
)
def test_nothing_but_the_table_can_be_reached(server: int, path: str) -> None:
    assert answer(server, path) == 404


def test_another_site_that_points_at_this_computer_is_turned_away(server: int) -> None:
    assert answer(server, "/", host="example.org") == 421


def test_the_volumes_are_shown_and_nothing_else_is_asked_for(server: int, browser, tmp_path: Path) -> None:
    address = f"http://{HOST}:{server}/"
    browser.open(address)
    browser.wait_for(lambda: browser.run("document.body.dataset.ready") is not None)
    assert browser.run("document.body.dataset.ready") == "5", browser.run("document.body.innerText")
    asked = [url for url in browser.requests if not url.startswith("blob:")]
    assert all(url.startswith(address) for url in asked)
    assert browser.run("document.querySelectorAll('#layers input[type=range]').length") == 5
    browser.picture(tmp_path / "viewer.png", whole=False)
    drawn = browser.run("(c => [c.width, c.height])(document.getElementById('canvas'))")
    assert min(drawn) > 100


def test_a_click_moves_the_crosshair_and_the_wheel_goes_through_the_slices(server: int, browser) -> None:
    browser.open(f"http://{HOST}:{server}/")
    browser.wait_for(lambda: browser.run("document.body.dataset.ready") is not None)
    box = browser.run(
        "(r => [r.left, r.top, r.width, r.height])(document.getElementById('canvas').getBoundingClientRect())"
    )
    x, y = box[0] + 0.14 * box[2], box[1] + 0.45 * box[3]
    place = "document.getElementById('place').textContent"
    seen = [browser.run(place)]
    browser.drag((x, y), (x + 3, y + 3))
    browser.wait_for(lambda: browser.run(place) != seen[0])
    seen.append(browser.run(place))
    browser.ask("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=120)
    browser.wait_for(lambda: browser.run(place) != seen[1])
