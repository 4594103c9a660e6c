"""Packages come from where pip and uv are told to take them: every setting, folders, pages, servers, credentials."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from uresnet.datasets.package_index import PYPI, PackageIndexes, configured_indexes, links_of

FILE = "thing-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "configuration"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "shared"))
    monkeypatch.setattr("sys.prefix", str(tmp_path / "environment"))


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration file of this computer is read."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("settings", "indexes"),
    [
        ({}, (PYPI,)),
        ({"PIP_INDEX_URL": "https://m.example/simple"}, ("https://m.example/simple",)),
        (
            {"PIP_EXTRA_INDEX_URL": "https://a.example https://b.example"},
            ("https://a.example", "https://b.example", PYPI),
        ),
        ({"PIP_NO_INDEX": "1", "PIP_INDEX_URL": "https://m.example"}, ()),
        ({"PIP_NO_INDEX": "0"}, (PYPI,)),
        ({"UV_INDEX_URL": "https://old.example"}, ("https://old.example",)),
        (
            {"UV_DEFAULT_INDEX": "https://u.example", "UV_INDEX": "mine=https://v.example"},
            ("https://v.example", "https://u.example"),
        ),
        ({"UV_DEFAULT_INDEX": "https://u.example/?a=b"}, ("https://u.example/?a=b",)),
        ({"UV_OFFLINE": "true"}, ()),
    ],
)
def test_environment_variables(
    plain: None, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], indexes: tuple[str, ...]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert configured_indexes().indexes == indexes


def test_the_rest_of_pips_settings(plain: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels https://links.example/page.html")
    monkeypatch.setenv("PIP_CERT", "~/ours.pem")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "7")
    found = configured_indexes()
    assert found.find_links == ("/wheels", "https://links.example/page.html")
    assert found.certificates == str(Path.home() / "ours.pem") and found.timeout_s == 7


@pytest.mark.skipif(os.name == "nt", reason="the places of files are those of Unix")
def test_configuration_files_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "shared" / "pip" / "pip.conf", "[global]\nindex-url = https://shared.example\ntimeout = 5\n")
    assert configured_indexes().indexes[-1] == "https://shared.example"
    write(tmp_path / "home" / ".config" / "pip" / "pip.conf", "[global]\nindex_url = https://user.example\n")
    write(
        tmp_path / "environment" / "pip.conf",
        "[download]\nextra-index-url =\n  https://one.example\n  https://two.example\n",
    )
    found = configured_indexes()
    assert found.indexes == ("https://one.example", "https://two.example", "https://user.example")
    assert found.timeout_s == 5
    monkeypatch.setenv("PIP_INDEX_URL", "https://variable.example")
    assert configured_indexes().indexes[-1] == "https://variable.example"
    chosen = write(tmp_path / "chosen.conf", "[global]\nextra-index-url = https://chosen.example\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(chosen))
    assert configured_indexes().indexes == ("https://chosen.example", "https://variable.example")
    write(chosen, "this is not a configuration")
    assert configured_indexes().indexes[-1] == "https://variable.example"


@pytest.mark.skipif(os.name == "nt", reason="the places of files are those of Unix")
def test_configuration_files_of_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    entries = '[[index]]\nurl = "https://first.example"\n[[index]]\nurl = "https://main.example"\ndefault = true\n'
    user = write(tmp_path / "configuration" / "uv" / "uv.toml", f'find-links = ["/a", "/b"]\n{entries}')
    found = configured_indexes()
    assert found.indexes == ("https://first.example", "https://main.example") and found.find_links == ("/a", "/b")
    write(user, '[pip]\nindex-url = "https://pip.example"\n')
    assert configured_indexes().indexes == ("https://pip.example",)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    assert configured_indexes().indexes == (PYPI,)


def test_links_are_made_absolute() -> None:
    page = '<a href="../../files/a%20b.whl#sha256=0">x</a><a>no link</a><A HREF="https://o.example/c.whl">y</A>'
    there = "https://m.example/simple/thing/"
    assert links_of(page, there) == ["https://m.example/files/a%20b.whl#sha256=0", "https://o.example/c.whl"]
    assert links_of('<base href="/root/"><a href="d.whl">', there) == ["https://m.example/root/d.whl"]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """An index in a folder, as mirrors on a disk are laid out."""
    write(tmp_path / "index" / "files" / FILE, "the wheel")
    page = f'<a href="../../files/{FILE}#sha256=0">{FILE}</a><a href="../../files/thing-2.0-py3-none-any.whl">later</a>'
    write(tmp_path / "index" / "simple" / "thing" / "index.html", page)
    return tmp_path / "index"


def test_a_folder_of_wheels_and_an_index_on_this_computer(index: Path, tmp_path: Path) -> None:
    target = tmp_path / "got.whl"
    for place in (
        PackageIndexes((), (str(index / "files"),)),
        PackageIndexes(((index / "simple").as_uri(),)),
        PackageIndexes(("http://127.0.0.1:9/simple", f"{(index / 'simple').as_uri()}/")),  # nobody answers the first
    ):
        target.unlink(missing_ok=True)
        assert place.download("thing", FILE, target)
        assert target.read_text(encoding="utf-8") == "the wheel"
    assert not PackageIndexes((), (str(index / "files"),)).download("thing", "thing-3.0-py3-none-any.whl", target)


class Guarded(SimpleHTTPRequestHandler):
    """Serves a folder to those who give the name and the password of the index."""

    EXPECTED = "Basic " + base64.b64encode(b"me:se cret").decode()

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == self.EXPECTED:
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(index: Path) -> Iterator[int]:
    """The port of a server of the index that asks for a name and a password."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Guarded, directory=str(index))) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_address[1]
        found.shutdown()


def test_a_mirror_with_a_password(server: int, tmp_path: Path) -> None:
    target = tmp_path / "got.whl"
    assert not PackageIndexes((f"http://127.0.0.1:{server}/simple",)).download("thing", FILE, target)
    mirror = PackageIndexes((f"http://me:se%20cret@127.0.0.1:{server}/simple",))
    assert mirror.download("thing", FILE, target) and target.read_text(encoding="utf-8") == "the wheel"
    assert mirror.names == ("127.0.0.1",)  # what messages say holds no password
