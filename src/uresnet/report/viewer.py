"""An interactive look at a result: NiiVue in the browser, served to this computer alone.

NiiVue comes from the ``ipyniivue`` package (an extra), as its authors built it; nothing is fetched from anywhere. The
server answers for a fixed table of names, so that no address can reach any other file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uresnet.core.labels import FREESURFER
from uresnet.errors import UserError
from uresnet.report.html import TEMPLATES, viewer_html
from uresnet.report.pages.registration import image_names
from uresnet.results.registration import read_record

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src blob:; font-src data:; base-uri 'none'"
)


@dataclass(frozen=True)
class Served:
    """One answer: bytes, or a file to read when it is asked for."""

    kind: str
    content: bytes | Path


def niivue_module() -> bytes:
    """NiiVue as a JavaScript module that exports the class ``NiiVue``.

    The package's bundle exports a notebook widget only; a last line that exports the class too is added on the way.
    Raises :class:`UserError` where the package is not installed or is another version.
    """
    spec = find_spec("ipyniivue")
    if spec is None or spec.origin is None:
        raise UserError("The viewer needs NiiVue; install it with: pip install 'uresnet[view]'")
    bundle = Path(spec.origin).parent / "static" / "widget.js"
    text = bundle.read_text(encoding="utf-8")
    # The widget makes its one viewer with `variable = new Class(…)` and later attaches that variable to the canvas.
    # The search starts from rare words: a bundle holds long lines in which a pattern alone would lose itself.
    attached = [name for at in _places(text, ".attachToCanvas(") if (name := _attached(text[at - 64 : at + 128]))]
    made = (
        [text[at + len(f"{attached[-1]}=new ") :] for at in _places(text, f"{attached[-1]}=new ")] if attached else []
    )
    names = [found[1] for rest in made if (found := re.match(r"([\w$]+)\(", rest[:64]))]
    if not names:
        raise UserError("This version of ipyniivue is not the one that uresnet knows; install 'uresnet[view]'.")
    return f"{text}\nexport{{{names[-1]} as NiiVue}};\n".encode()


def served_files(folder: Path) -> dict[str, Served]:
    """Everything that the viewer of an output folder may ask for, by path.

    Raises :class:`UserError` for a folder without a registration and where NiiVue is missing.
    """
    record = read_record(folder)
    if not (folder / "warped.nii.gz").exists():
        raise UserError(f"{folder} holds no registration; give the output folder of uresnet register.")
    files = {
        "/": Served("text/html; charset=utf-8", viewer_html(image_names(record)).encode()),
        "/viewer.js": Served("text/javascript", TEMPLATES / "viewer.js"),
        "/page.css": Served("text/css", TEMPLATES / "page.css"),
        "/niivue.js": Served("text/javascript", niivue_module()),
    }
    layers = []
    for name, path in _layers(folder, record):
        address = f"/images/{name}{'.mgz' if path.name.endswith('.mgz') else '.nii.gz'}"
        if path.name.endswith(".nii"):
            address = address.removesuffix(".gz")
        files[address] = Served("application/octet-stream", path)
        layers.append({"name": name, "url": address})
    table = {str(one.id): {"name": one.name, "colour": list(one.colour)} for one in FREESURFER.values()}
    files["/layers.json"] = Served("application/json", json.dumps({"layers": layers, "labels": table}).encode())
    return files


def make_server(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """A server for the viewer of one output folder, bound to the loopback address; ``port`` 0 takes a free one.

    It is not started. Raises :class:`UserError` as :func:`served_files` does, and for a port that is taken.
    """
    files = served_files(folder)
    try:
        return ThreadingHTTPServer((HOST, port), _handler(files))
    except OSError as error:
        raise UserError(f"Port {port} cannot be used ({error.strerror}); choose another with --port.") from error


def _places(text: str, word: str) -> list[int]:
    """Where a word occurs in a text and does not go on from another."""
    found, at = [], text.find(word)
    while at >= 0:
        if word.startswith(".") or not re.match(r"[\w$]", text[at - 1 : at]):
            found.append(at)
        at = text.find(word, at + 1)
    return found


def _attached(around: str) -> str | None:
    """``x`` of ``x.attachToCanvas(element, x.opts``."""
    found = re.search(r"(?<![\w$])([\w$]{1,60})\.attachToCanvas\([\w$]+,\1\.opts", around)
    return found[1] if found else None


def _layers(folder: Path, record: dict[str, Any]) -> list[tuple[str, Path]]:
    found = []
    given = Path(str(record.get("inputs", {}).get("fixed", {}).get("path") or ""))
    for place in (given, folder / given):
        if place.is_file() and place.name.endswith((".nii", ".nii.gz", ".mgz")):
            found.append(("fixed", place.resolve()))
            break
    names = ("warped", "fixed_dseg", "warped_dseg", "jacobian")
    return found + [(name, folder / f"{name}.nii.gz") for name in names if (folder / f"{name}.nii.gz").exists()]


def _handler(files: Mapping[str, Served]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET for the names in the table, to pages of this server only."""

        server_version = "uresnet"
        sys_version = ""

        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            # Another site that points its name at this computer is turned away.
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
                return
            one = files.get(self.path)
            if one is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                content = one.content.read_bytes() if isinstance(one.content, Path) else one.content
            except OSError:
                self.send_error(HTTPStatus.GONE)
                return
            self.send_response(HTTPStatus.OK)
            headers = {"Content-Type": one.kind, "Content-Length": str(len(content)), "Content-Security-Policy": POLICY}
            headers |= {"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin"}
            for name, value in {**headers, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests are nobody's business."""

    return Handler
