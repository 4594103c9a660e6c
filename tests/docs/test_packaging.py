"""The conda recipe asks for what the package asks for, and the workflows are workflows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_conda_recipe_has_the_dependencies_and_commands_of_the_package() -> None:
    recipe = (ROOT / "contrib/conda/meta.yaml").read_text(encoding="utf-8")
    text = (
        re.sub(r"^{%.*%}$", "", recipe, flags=re.MULTILINE)
        .replace("{{ version }}", "0")
        .replace("{{ PYTHON }}", "python")
    )
    listed = {line.replace(" ", "") for line in yaml.safe_load(text)["requirements"]["run"]}
    wanted = {
        re.sub(r"^torch(?=\W)", "pytorch", line.split(";")[0]).replace(" ", "") for line in project()["dependencies"]
    }
    assert listed == wanted | {f"python{project()['requires-python']}"}
    commands = dict(line.split(" = ") for line in yaml.safe_load(text)["build"]["entry_points"])
    assert commands == project()["scripts"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_what_is_there(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert steps and all("uses" in step or "run" in step for step in steps)
    commands = "\n".join(step.get("run", "") for step in steps)
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)", commands)) <= targets
    extras = {name for names in re.findall(r"-e \"?\.\[(.*?)\]", commands) for name in names.split(",")}
    assert extras <= set(project()["optional-dependencies"])


def test_the_matrix_is_that_of_the_classifiers() -> None:
    matrix = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))["jobs"]["test"][
        "strategy"
    ]
    versions = [line.rsplit(" ", 1)[1] for line in project()["classifiers"] if re.search(r"Python :: 3\.\d+", line)]
    assert matrix["matrix"]["python"] == versions
