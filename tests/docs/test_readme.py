"""What README and the documentation tell people to type works, and the links of README lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from uresnet.cli.main import app
from uresnet.core.files import LOG, RECORD
from uresnet.model import catalogue
from uresnet.pipeline.names import DEFAULT_OUTPUTS, OUTPUTS

ROOT = Path(__file__).resolve().parents[2]
FRONT = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "tests/README.md", "CHANGELOG.md")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = sorted(
    {
        line.split("  ")[0].split(" #")[0].strip()
        for page in PAGES
        for line in re.findall(r"^ {4}(uresnet .+)$|`(uresnet .+?)`", page.read_text(encoding="utf-8"), re.MULTILINE)
        for line in line
        if line
    }
)
LINKS = [
    (page, target)
    for page in FRONT
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8"))
    if "://" not in target
]


VERBS: Any = typer.main.get_command(app)


def test_there_is_something_to_check() -> None:
    assert len(COMMANDS) > 20
    assert len(LINKS) > 10


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_their_options_exist(command: str) -> None:
    verb = VERBS
    words = shlex.split(re.sub(r"[\[\]…\\]", " ", command))[1:]
    while words and hasattr(verb, "commands") and not words[0].startswith("-"):
        assert words[0] in verb.commands
        verb = verb.commands[words.pop(0)]
    known = {"--help", *(name for option in verb.params for name in (*option.opts, *option.secondary_opts))}
    assert {word.split("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= known


@pytest.mark.parametrize(("page", "target"), LINKS, ids=lambda value: getattr(value, "name", value))
def test_links_lead_to_files(page: Path, target: str) -> None:
    assert (page.parent / target).exists()


def test_python_of_the_readme_runs(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("SimpleITK")
    tiny = catalogue.read_model_file(tiny_model)
    monkeypatch.setattr(catalogue, "packaged_models", lambda: {"tiny": tiny})
    monkeypatch.chdir(tmp_path)
    for name, view in (("moving", "RAS"), ("fixed", "LPS"), ("image", "LAS")):
        grid = FIELDS_OF_VIEW[view]
        write_nifti(brain_on(grid), grid, tmp_path / f"{name}.nii.gz")
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in ("README.md", "docs/commands.md"))
    blocks = re.findall(r"```python\n(.+?)```", pages, re.DOTALL)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "a page", "exec"), names)
    assert names["labels"].data.shape == FIELDS_OF_VIEW["LAS"].shape
    assert names["warped"].GetSize() == FIELDS_OF_VIEW["LPS"].shape


def test_the_figures_of_the_paper_are_those_of_its_card() -> None:
    lines = (ROOT / "docs/commands.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in lines if line.startswith("| `paper`, as shipped |"))
    shown = [float(cell.strip(" %")) for cell in row.split("|")[2:-1]]
    card = catalogue.packaged_models()["paper"].card
    assert card is not None
    structures = ("Cerebral-White-Matter", "Cerebral-Cortex", "Lateral-Ventricle")
    names = ("registration Dice, 15 structures, ten val pairs", *(f"segmentation Dice, {name}" for name in structures))
    assert shown[:-1] == [card.figures[name] for name in names]
    assert shown[-1] == round(100 * card.figures["folding fraction of the brain"], 1)


def test_the_table_of_outputs_names_every_file() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    written = {name for output in DEFAULT_OUTPUTS for name in OUTPUTS[output]} | {RECORD, LOG}
    assert not sorted(name for name in written if f"`{name}`" not in page)
