"""The viewer's server: what it serves, to whom, and from where. No browser is needed."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from report_results import made_up_results, write_folder
from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.core.labels import FREESURFER
from uresnet.errors import UserError
from uresnet.io import write_image
from uresnet.report import viewer
from uresnet.report.viewer import HOST, label_colours, make_server, niivue_widget, served_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(made_up_results(), tmp_path_factory.mktemp("view") / "out")


@pytest.fixture(scope="module")
def port(folder: Path) -> Iterator[int]:
    """Port of a running server for a made-up result."""
    server = make_server(folder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def get(port: int, path: str, host: str | None = None) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host or f"{HOST}:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def test_it_listens_on_the_loopback_address_only(folder: Path) -> None:
    with make_server(folder) as server:
        assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path",
    ["/../run.json", "/images/../run.json", "/run.json", "/%2e%2e/run.json", "//etc/passwd", "/images/", "/?x=1"],
)
def test_nothing_but_the_table_can_be_reached(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


def test_another_site_that_points_at_this_computer_is_refused(port: int) -> None:
    assert get(port, "/", host="example.org")[0] == 421
    assert get(port, "/", host=f"localhost:{port}")[0] == 200


def test_every_address_that_the_page_needs_is_served_from_here(port: int, folder: Path) -> None:
    status, page, headers = get(port, "/")
    assert status == 200
    assert b"http:" not in page and b"https:" not in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    for address in ("/page.css", "/viewer.js"):
        assert address.encode() in page
        assert get(port, address)[0] == 200
    layers = json.loads(get(port, "/layers.json")[1])["layers"]
    assert [layer["name"] for layer in layers] == ["fixed", "warped", "fixed_dseg", "warped_dseg", "jacobian"]
    for layer in layers:
        file = folder.parent / "fixed.nii.gz" if layer["name"] == "fixed" else folder / f"{layer['name']}.nii.gz"
        assert get(port, layer["url"])[1] == file.read_bytes()


def test_niivue_is_served_as_its_package_ships_it(port: int) -> None:
    module = get(port, "/niivue.js")[1]
    assert module == niivue_widget().read_bytes()
    assert b'from "/niivue.js"' in get(port, "/viewer.js")[1]


def test_structures_have_the_colours_of_the_label_table() -> None:
    table = label_colours()
    assert table["min"] == 0
    assert len(table["lut"]) == 4 * len(table["labels"]) == 4 * (table["max"] + 1)
    assert table["lut"][4 * 4 : 5 * 4] == [120, 18, 134, 255]  # the left lateral ventricle is purple
    assert table["labels"][4] == "Left-Lateral-Ventricle"
    assert table["lut"][:4] == [0, 0, 0, 0]
    assert table["lut"][4 * 6 : 7 * 4] == [0, 0, 0, 0]  # 6 is no structure
    shown = {value for value in range(table["max"] + 1) if table["lut"][4 * value + 3]}
    assert shown == set(FREESURFER) - {0}


def test_only_the_result_is_served(tmp_path: Path) -> None:
    """No other file that its record names, nor what its links lead to: the folder may come from somebody else."""
    folder = write_folder(made_up_results(), tmp_path / "out")
    private = tmp_path / "private.nii.gz"
    private.write_bytes(b"secret")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["inputs"]["fixed"]["path"] = str(private)
    record["files"] = [str(private), "../private.nii.gz"]
    (folder / "run.json").write_text(json.dumps(record))
    (folder / "jacobian.nii.gz").unlink()
    (folder / "jacobian.nii.gz").symlink_to(private)
    files = served_files(folder)
    inside = [found.content for found in files.values() if isinstance(found.content, Path)]
    assert not [path for path in inside if path.resolve() == private]
    assert sorted(address for address in files if address.startswith("/images/")) == [
        "/images/fixed_dseg.nii.gz",
        "/images/warped.nii.gz",
        "/images/warped_dseg.nii.gz",
    ]
    asked = served_files(folder, tmp_path / "fixed.nii.gz")["/images/fixed.nii.gz"].content
    assert asked == (tmp_path / "fixed.nii.gz").read_bytes()
    with pytest.raises(UserError, match="private"):
        served_files(folder, private)
    other = tmp_path / "other.nii.gz"
    write_image(Image(torch.zeros(3, 4, 5), Grid((3, 4, 5), np.eye(4))), other)
    with pytest.raises(UserError, match="is not the fixed image"):
        served_files(folder, other)
    record["inputs"]["fixed"]["path"] = str(other)
    (folder / "run.json").write_text(json.dumps(record))
    assert "/images/fixed.nii.gz" not in served_files(folder)


def test_a_browser_that_says_nothing_is_let_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "TIMEOUT_S", 0.2)
    with make_server(folder) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with socket.create_connection((HOST, server.server_address[1]), timeout=20) as silent:
            silent.sendall(b"GET / HTTP/1.1\r\nHost:")
            assert silent.recv(1) == b""  # closed by the server
        server.shutdown()


def test_what_is_missing_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"run\.json"):
        make_server(tmp_path)
    with make_server(folder) as server, pytest.raises(UserError, match="choose another with port="):
        make_server(folder, server.server_address[1])
    monkeypatch.setattr(viewer, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'uresnet\[view\]'"):
        make_server(folder)
