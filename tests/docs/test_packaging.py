"""The conda recipe asks for what the package asks for, and the workflows are workflows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import uresnet

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def project() -> dict[str, Any]:
    return pyproject()["project"]


def test_the_conda_recipe_has_the_dependencies_and_commands_of_the_package() -> None:
    recipe = yaml.safe_load((ROOT / "contrib/conda/recipe.yaml").read_text(encoding="utf-8"))
    listed = {line.replace(" ", "") for line in recipe["requirements"]["run"]}
    names = {"torch": "pytorch", "isal": "python-isal"}  # conda-forge's
    asked = [line.split(";")[0].replace(" ", "") for line in project()["dependencies"]]
    wanted = {re.sub(r"^[\w-]+", lambda name: names.get(name[0], name[0]), line) for line in asked}
    assert listed == wanted | {f"python{project()['requires-python']}"}
    commands = dict(line.split(" = ") for line in recipe["build"]["python"]["entry_points"])
    assert commands == project()["scripts"]
    assert recipe["context"]["version"] == uresnet.__version__
    assert recipe["about"]["license"] == project()["license"]
    builders = {re.split(r"[ >]", line)[0] for line in recipe["requirements"]["host"]} - {"python", "pip"}
    assert builders == {re.split(r"[ >]", line)[0] for line in pyproject()["build-system"]["requires"]}


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


def test_the_readme_of_the_package_has_absolute_links_only() -> None:
    """As hatch-fancy-pypi-readme applies the substitutions, one after the other."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    relative = r"\]\((?!https?://|#)"
    assert len(re.findall(relative, text)) > 10
    for rule in pyproject()["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert not re.findall(relative, text)
    assert re.search(r"!\[[^]]*\]\(https://[^)]*/raw/main/docs/images/report\.png\)", text)
    assert "/blob/main/docs/first-pair.md)" in text
