"""``uresnet info``: the version, and the models that are installed. Loads no torch."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer

from uresnet._version import __version__
from uresnet.cli.session import session
from uresnet.errors import UserError
from uresnet.model.catalogue import ModelFile, brain_finder, packaged_models


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Print the version and the packaged models with their measured figures."""
    with session():
        facts = _facts()
        print(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else _text(facts))


def _facts() -> dict[str, Any]:
    models = packaged_models()
    finder = None
    with suppress(UserError):  # an installation may carry none
        finder = _of_model(brain_finder())
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "default_model": next(iter(models), None),
        "models": [_of_model(model) for model in models.values()],
        "brain_finder": finder,
    }


def _of_model(model: ModelFile) -> dict[str, Any]:
    card = model.card
    assert card is not None  # packaged files have one
    return {
        "name": card.name,
        "kind": card.kind,
        "structures": card.scheme,
        "licence": card.licence,
        "trained_on": card.trained_on,
        "figures": card.figures,
        "sha256": model.sha256,
        "file": str(model.path),
    }


def _text(facts: dict[str, Any]) -> str:
    lines = [f"uresnet {facts['version']} (Python {facts['python']})"]
    if not facts["models"]:
        lines.append("No model is packaged; give one with --model FILE.")
    for model in facts["models"]:
        default = " (default)" if model["name"] == facts["default_model"] else ""
        lines += ["", f"model {model['name']}{default}", *_lines(model)]
    if facts["brain_finder"]:
        finder = facts["brain_finder"]
        lines += ["", f"network {finder['name']} (finds the brain in heads, for every model)", *_lines(finder)]
    return "\n".join(lines)


def _lines(model: dict[str, Any]) -> list[str]:
    named = {name.replace("_", " "): model[name] for name in ("structures", "licence", "trained_on") if model[name]}
    width = max(map(len, model["figures"]), default=0) + 2
    return [
        *(f"  {name:<12}{value}" for name, value in named.items()),
        *(f"  {name:<{width}}{value}" for name, value in model["figures"].items()),
        f"  {'sha256':<12}{model['sha256']}",
    ]
