"""What ``uresnet info`` says of the installed models."""

from __future__ import annotations

import json
import re

from command import run
from uresnet import __version__


def test_info_for_people_and_programs() -> None:
    assert __version__ in run("info").stdout
    facts = json.loads(run("info", "--json").stdout)
    assert facts["version"] == __version__
    assert facts["default_model"] == (facts["models"][0]["name"] if facts["models"] else None)
    assert facts["brain_finder"]["name"] == "brain"
    text = " ".join(run("info").stdout.split())
    for model in (*facts["models"], facts["brain_finder"]):
        assert f"{model['name']} (" in text or f"model {model['name']} " in text
        assert f"licence {model['licence']} " in text
        assert re.fullmatch(r"[0-9a-f]{64}", model["sha256"]) and model["licence"]
    assert run("--version").stdout.strip() == f"uresnet {__version__}"
