"""``uresnet info``: the version, and the models that are installed. Loads no torch."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from uresnet._version import __version__
from uresnet.cli.session import session
from uresnet.model.catalogue import packaged_models


def info(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False) -> None:
    """Print the version and the packaged models with their measured figures."""
    with session():
        facts = _facts()
        print(json.dumps(facts, indent=2, ensure_ascii=False) if as_json else _text(facts))


def _facts() -> dict[str, Any]:
    models = packaged_models()
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "default_model": next(iter(models), None),
        "models": [
            {
                "name": name,
                "kind": model.card.kind,
                "structures": model.card.scheme,
                "licence": model.card.licence,
                "trained_on": model.card.trained_on,
                "figures": model.card.figures,
                "sha256": model.sha256,
                "file": str(model.path),
            }
            for name, model in models.items()
            if model.card is not None
        ],
    }


def _text(facts: dict[str, Any]) -> str:
    lines = [f"uresnet {facts['version']} (Python {facts['python']})"]
    if not facts["models"]:
        lines.append("No model is packaged; give one with --model FILE.")
    for model in facts["models"]:
        default = " (default)" if model["name"] == facts["default_model"] else ""
        lines.append(f"\nmodel {model['name']}{default}")
        named = {name.replace("_", " "): model[name] for name in ("structures", "licence", "trained_on") if model[name]}
        lines += [f"  {name:<12}{value}" for name, value in named.items()]
        width = max(map(len, model["figures"]), default=0) + 2
        lines += [f"  {name:<{width}}{value}" for name, value in model["figures"].items()]
        lines.append(f"  {'sha256':<12}{model['sha256']}")
    return "\n".join(lines)
