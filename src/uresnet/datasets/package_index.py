"""Files of Python packages, from the package indexes that this computer's pip and uv are configured to use.

A mirror or a folder of wheels is therefore found where ``pip install`` and ``uv pip install`` find it, also in an
environment without pip. Nothing is installed, and no code of a package runs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator, Mapping
from configparser import ConfigParser, Error
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import platformdirs
import requests

PYPI = "https://pypi.org/simple"
"""The index that pip and uv use where nothing else is configured."""

_TIMEOUT_S = 30.0
_FALSE = ("", "0", "false", "no", "off")
_HTML = "application/vnd.pypi.simple.v1+html, text/html;q=0.9"


@dataclass(frozen=True)
class PackageIndexes:
    """Where packages come from: ``indexes`` are simple repositories (PEP 503), ``find_links`` folders or pages that
    link to files; both are URLs or paths. ``certificates`` is a file of trusted ones."""

    indexes: tuple[str, ...] = (PYPI,)
    find_links: tuple[str, ...] = ()
    certificates: str | None = None
    timeout_s: float = _TIMEOUT_S

    @property
    def names(self) -> tuple[str, ...]:
        """What a message calls them: hosts and folders, without credentials."""
        return tuple(dict.fromkeys(urlsplit(place).hostname or place for place in (*self.find_links, *self.indexes)))

    def download(self, project: str, file_name: str, target: Path) -> bool:
        """Write a file of a project to ``target``; False where no index has it or none can be reached."""
        for link, auth in self._candidates(project, file_name):
            try:
                self._copy(link, auth, target)
            except OSError:  # among them every error of requests
                continue
            return True
        return False

    def _candidates(self, project: str, file_name: str) -> Iterator[tuple[str, tuple[str, str] | None]]:
        pages = [*self.find_links, *(f"{index.rstrip('/')}/{project}/" for index in self.indexes)]
        # Those on this computer first: they answer at once.
        for page in sorted(pages, key=lambda page: _local_path(page) is None):
            try:
                links = self._links(page)
            except OSError:
                continue
            yield from ((link, _credentials(page, link)) for link in links if _file_name(link) == file_name)

    def _links(self, page: str) -> list[str]:
        """The links of a page, or the files of a folder."""
        folder = _local_path(page)
        if folder is None:
            headers = {"Accept": _HTML}
            response = requests.get(page, headers=headers, timeout=self.timeout_s, verify=self._verify)
            response.raise_for_status()
            return links_of(response.text, response.url)
        if folder.is_dir() and not (folder / "index.html").is_file():
            return [path.absolute().as_uri() for path in folder.iterdir()]
        file = folder / "index.html" if folder.is_dir() else folder
        return links_of(file.read_text(encoding="utf-8"), file.absolute().as_uri())

    def _copy(self, link: str, auth: tuple[str, str] | None, target: Path) -> None:
        path = _local_path(link)
        if path is not None:
            shutil.copyfile(path, target)
            return
        with (
            requests.get(link, auth=auth, timeout=self.timeout_s, verify=self._verify, stream=True) as response,
            target.open("wb") as file,
        ):
            response.raise_for_status()
            for block in response.iter_content(1 << 20):
                file.write(block)

    @property
    def _verify(self) -> str | bool:
        return self.certificates or True


def configured_indexes() -> PackageIndexes:
    """The indexes that the environment variables and configuration files of uv and pip name; PyPI where none does.

    uv: ``UV_DEFAULT_INDEX``, ``UV_INDEX``, ``UV_FIND_LINKS``, ``UV_NO_INDEX``, ``UV_OFFLINE``, the older
    ``UV_INDEX_URL`` and ``UV_EXTRA_INDEX_URL``, and ``uv.toml``. pip: ``index-url``, ``extra-index-url``,
    ``find-links``, ``no-index``, ``cert`` and ``timeout``, each as ``PIP_…`` or in ``pip.conf``.
    """
    pip, uv = _pip_settings(os.environ), _uv_settings(os.environ)
    default = uv.get("default-index") or uv.get("index-url") or pip.get("index-url") or PYPI
    extra = [*_words(uv.get("index")), *_words(uv.get("extra-index-url")), *_words(pip.get("extra-index-url"))]
    indexes = dict.fromkeys(_without_name(index) for index in [*extra, default])
    offline = any(_is_true(value) for value in (pip.get("no-index"), uv.get("no-index"), uv.get("offline")))
    links = [*_words(uv.get("find-links")), *_words(pip.get("find-links"))]
    try:
        timeout_s = float(pip.get("timeout", _TIMEOUT_S))
    except ValueError:
        timeout_s = _TIMEOUT_S
    certificates = os.path.expanduser(pip["cert"]) if pip.get("cert") else None  # noqa: PTH111  a path of the user's
    return PackageIndexes(() if offline else tuple(indexes), tuple(dict.fromkeys(links)), certificates, timeout_s)


def links_of(html: str, address: str) -> list[str]:
    """The targets of a page's links, made absolute by the page's ``address``."""
    parser = _Links()
    parser.feed(html)
    base = urljoin(address, parser.base)
    return [urljoin(base, target) for target in parser.targets]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href")
        if target and tag == "base":
            self.base = target
        elif target and tag == "a":
            self.targets.append(target)


def _file_name(link: str) -> str:
    return unquote(urlsplit(link).path).rpartition("/")[2]


def _credentials(page: str, link: str) -> tuple[str, str] | None:
    """A name and a password in the address of an index are also for the files on the same host."""
    index, file = urlsplit(page), urlsplit(link)
    if index.username is None or (index.scheme, index.hostname, index.port) != (file.scheme, file.hostname, file.port):
        return None
    return unquote(index.username), unquote(index.password or "")


def _local_path(place: str) -> Path | None:
    """A place on this computer as a path; None for an address on the network."""
    parts = urlsplit(place)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme in ("http", "https") else Path(place).expanduser()


# -- what is configured ------------------------------------------------------------------------------------------------


def _pip_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """pip's settings by name: of its configuration files, later ones first, and above them ``PIP_…``."""
    found: dict[str, str] = {}
    for file in _pip_files(environment):
        parser = ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(file, encoding="utf-8")
        except (Error, UnicodeDecodeError):
            continue
        for section in ("global", "download"):
            if parser.has_section(section):
                found |= {key.replace("_", "-"): value for key, value in parser.items(section)}
    for key, value in environment.items():
        if key.startswith("PIP_"):
            found[key.removeprefix("PIP_").lower().replace("_", "-")] = value
    found.setdefault("timeout", found.get("default-timeout", str(_TIMEOUT_S)))
    return found


def _pip_files(environment: Mapping[str, str]) -> list[Path]:
    chosen = environment.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    name = "pip.ini" if os.name == "nt" else "pip.conf"
    shared = platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep)
    files = [Path(folder) / name for folder in reversed(shared)]
    if os.name != "nt":
        files.append(Path("/etc") / name)
    files += [Path.home() / ".pip" / name, Path.home() / ".config" / "pip" / name]
    files.append(platformdirs.user_config_path("pip", appauthor=False, roaming=True) / name)
    files.append(Path(sys.prefix) / name)
    return [*files, *([Path(chosen)] if chosen else [])]


def _uv_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """uv's settings by name, lists joined by spaces: of its configuration files, and above them ``UV_…``."""
    found: dict[str, str] = {}
    for file in _uv_files(environment):
        try:
            tree = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for table in (tree, tree.get("pip", {})):
            found |= {
                key: _joined(table[key]) for key in ("index-url", "extra-index-url", "find-links") if key in table
            }
            found |= {key: str(table[key]) for key in ("no-index", "offline") if key in table}
        for entry in tree.get("index", []):
            name = "default-index" if entry.get("default") else "index"
            found[name] = f"{found.get(name, '')} {entry['url']}".strip() if name == "index" else entry["url"]
    for key, value in environment.items():
        if key.startswith("UV_"):
            found[key.removeprefix("UV_").lower().replace("_", "-")] = value
    return found


def _uv_files(environment: Mapping[str, str]) -> list[Path]:
    if environment.get("UV_CONFIG_FILE"):
        return [Path(environment["UV_CONFIG_FILE"])]
    if _is_true(environment.get("UV_NO_CONFIG")):
        return []
    # uv keeps to ~/.config on macOS too.
    configuration = environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    user = platformdirs.user_config_path(roaming=True) if os.name == "nt" else Path(configuration)
    return [Path("/etc/uv/uv.toml"), user / "uv" / "uv.toml"]


def _joined(value: Any) -> str:
    return value if isinstance(value, str) else " ".join(map(str, value))


def _words(value: str | None) -> list[str]:
    return (value or "").replace(",", " ").split()


def _without_name(index: str) -> str:
    """uv allows ``name=address``."""
    name, mark, address = index.partition("=")
    return address if mark and "/" not in name else index


def _is_true(value: str | None) -> bool:
    return (value or "").strip().lower() not in _FALSE
