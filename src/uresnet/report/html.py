"""From templates to pages: a page holds everything it needs, requests nothing, and escapes all text from outside."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from uresnet.errors import counted
from uresnet.report.structures import words

TEMPLATES = Path(__file__).parent / "templates"


def render(template: str, extra_style: str = "", **values: Any) -> str:
    """A page from one of ``templates/``.

    The style sheet, with ``extra_style`` after it, and the script of the page are put inside it, and its
    content security policy allows these two (by their hash), pictures that are in the file, and nothing else: no
    request can leave the page.
    """
    style, script = _file("page.css") + extra_style, _file("page.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = _environment().get_template(template)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["signed"] = _signed
    environment.filters["words"] = words
    environment.filters["counted"] = counted
    return environment


@cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a typographic minus, and no sign where it rounds to zero."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return ("+" if value > 0 else "−") + text


def viewer_html(names: dict[str, str]) -> str:
    """The page of the interactive viewer; :mod:`uresnet.report.viewer` serves what it loads."""
    return _environment().get_template("viewer.html.j2").render(names=names)
