"""The interactive viewer of a result: NiiVue in the browser, served to this computer alone.

NiiVue comes from the ``ipyniivue`` package (an extra), whose JavaScript module is served unchanged;
``templates/viewer.js`` drives it as a notebook does. Nothing is fetched from the network. The server answers only for a
fixed table of addresses, which lead to the result's own files and to an image that the user names, so that neither an
address nor what the record says can reach any other file. Structures have the colours of
``core/labels.py``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from uresnet.core.image import Image
from uresnet.core.labels import FREESURFER
from uresnet.errors import UserError
from uresnet.io import nifti_bytes
from uresnet.report.html import TEMPLATES, viewer_html
from uresnet.results.inputs import read_input
from uresnet.results.record import read_record, record_path
from uresnet.results.record_text import image_name, image_names
from uresnet.results.segmentation import is_segmentation

HOST = "127.0.0.1"
POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; connect-src 'self' data: blob:; worker-src blob:; font-src data:; base-uri 'none'"
)
_SHOWN = ("warped", "fixed_dseg", "warped_dseg", "jacobian")

TIMEOUT_S = 30
"""How long a browser may take to say or to take something."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}


@dataclass(frozen=True)
class Served:
    """One answer: bytes, or a file to read when it is asked for."""

    kind: str
    content: bytes | Path


def niivue_widget() -> Path:
    """NiiVue's JavaScript module, as the ``ipyniivue`` package ships it.

    Raises :class:`UserError` where the package is not installed.
    """
    spec = find_spec("ipyniivue")
    module = Path(spec.origin).parent / "static" / "widget.js" if spec is not None and spec.origin is not None else None
    if module is None or not module.is_file():
        raise UserError("The viewer needs NiiVue; install it with: pip install 'uresnet[view]'")
    return module


def label_colours() -> dict[str, Any]:
    """The colours and names of all structures (:data:`~uresnet.core.labels.FREESURFER`) as NiiVue's lookup table.

    ``lut`` holds red, green, blue and opacity, 0–255, of every value from ``min`` to ``max``; the background and values
    that are no structure are transparent. ``labels`` are the names in the same order.
    """
    highest = max(FREESURFER)
    lut, names = [0, 0, 0, 0] * (highest + 1), ["?"] * (highest + 1)
    for structure in FREESURFER.values():
        names[structure.id] = structure.name
        lut[4 * structure.id : 4 * structure.id + 4] = [*structure.colour, 255 if structure.id else 0]
    return {"lut": lut, "min": 0, "max": highest, "labels": names}


def served_files(folder: Path, fixed: Path | None = None) -> dict[str, Served]:
    """Everything that the viewer of an output folder may ask for, by path.

    The fixed image lies elsewhere, where the record says or ``fixed``. A folder may come from somebody else, and its
    record name any file: so it is read as an image, has to have the shape of the fixed image, and only its voxels are
    served. Raises :class:`UserError` for a folder without a registration, for a ``fixed`` that is not its fixed image,
    and where NiiVue is missing.
    """
    record = read_record(folder)
    alone = is_segmentation(record)
    place = record_path(folder).parent
    names = {"fixed": image_name(record)} if alone else image_names(record)
    files = {
        "/": Served("text/html; charset=utf-8", viewer_html(names).encode()),
        "/viewer.js": Served("text/javascript", TEMPLATES / "viewer.js"),
        "/page.css": Served("text/css", TEMPLATES / "page.css"),
        "/niivue.js": Served("text/javascript", niivue_widget()),
    }
    layers = []
    background = read_input(place, record, "image" if alone else "fixed", fixed)
    labels = (record.files or ("dseg.nii.gz",))[0] if folder.is_dir() else folder.name
    shown = {"fixed_dseg": labels} if alone else {name: f"{name}.nii.gz" for name in _SHOWN}
    found = _layers(place, background, shown)
    if not found or (len(found) == 1 and background is not None):
        raise UserError(f"{folder} holds no images to show; give what uresnet register or segment wrote.")
    for name, content in found:
        ending = ".mgz" if isinstance(content, Path) and content.suffix.lower() in (".mgz", ".mgh") else ".nii.gz"
        address = f"/images/{name}{ending}"
        files[address] = Served("application/octet-stream", content)
        layers.append({"name": name, "url": address})
    settings = {"layers": layers, "labels": label_colours()}
    files["/layers.json"] = Served("application/json", json.dumps(settings).encode())
    return files


class Server(ThreadingHTTPServer):
    """Says nothing when a browser goes away in the middle of an answer."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Errors of a connection end the connection; others are shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


def make_server(folder: Path, port: int = 0, fixed: Path | None = None) -> ThreadingHTTPServer:
    """A server for the viewer of one output folder, bound to the loopback address; ``port`` 0 takes a free one.

    It is not started. Raises :class:`UserError` as :func:`served_files` does, and for a port that is taken.
    """
    files = served_files(folder, fixed)
    try:
        return Server((HOST, port), _handler(files))
    except OSError as error:
        raise UserError(f"Port {port} cannot be used ({error.strerror}); choose another with --port.") from error


def _layers(folder: Path, fixed: Image | None, shown: Mapping[str, str]) -> list[tuple[str, bytes | Path]]:
    """The ``fixed`` image and those of ``shown``, layer → file, that are there."""
    found: list[tuple[str, bytes | Path]] = [] if fixed is None else [("fixed", nifti_bytes(fixed))]
    return found + [(name, path) for name, file in shown.items() if _is_own(path := folder / file)]


def _is_own(path: Path) -> bool:
    """Whether it is a file of the folder, and no link that leads out of it."""
    return path.is_file() and path.resolve().is_relative_to(path.parent.resolve())


def _handler(files: Mapping[str, Served]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        """Answers GET for the addresses in the table, and only under this server's own name."""

        server_version = "uresnet"
        timeout = TIMEOUT_S
        sys_version = ""

        def do_GET(self) -> None:
            port = self.connection.getsockname()[1]
            # A web site whose name was made to lead to this computer (DNS rebinding) is refused.
            if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
                self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
                return
            served = files.get(self.path)
            if served is None:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            try:
                content = served.content.read_bytes() if isinstance(served.content, Path) else served.content
            except OSError:
                self.send_error(HTTPStatus.GONE)
                return
            self.send_response(HTTPStatus.OK)
            for name, value in {"Content-Type": served.kind, "Content-Length": str(len(content)), **HEADERS}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Write no log of requests."""

    return Handler
