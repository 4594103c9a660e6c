"""The version is said once, and whatever repeats it agrees."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import uresnet

ROOT = Path(__file__).resolve().parents[2]
DATED = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d{2}-\d{2}$", re.MULTILINE)


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == uresnet.__version__


def test_the_changelog_has_a_section_for_this_version() -> None:
    """Released versions with their dates, the newest first; what is not released stands above them."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = DATED.findall(text)
    assert released[0] == uresnet.__version__
    assert released == sorted(released, key=lambda version: [int(n) for n in version.split(".")], reverse=True)
    assert 0 < text.index("## [Unreleased]") < text.index(f"## [{released[0]}]")


def test_the_build_reads_the_version_where_the_package_does() -> None:
    (line,) = re.findall(r'^__version__ = "(.+)"$', (ROOT / "src/uresnet/_version.py").read_text(), re.MULTILINE)
    assert line == uresnet.__version__
    assert 'path = "src/uresnet/_version.py"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_every_dependency_is_pinned() -> None:
    """``constraints.txt`` is made by ``make lock``; this finds what was added to pyproject.toml without it."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = re.findall(
        r'^    "([A-Za-z0-9_-]+)(?:\[.*\])?(?:[><=].*)?",', project.split("[project.scripts]")[0], re.MULTILINE
    )
    pinned = re.findall(r"^([A-Za-z0-9_-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(asked) > 30
    missing = {name.lower().replace("_", "-") for name in asked} - {name.lower().replace("_", "-") for name in pinned}
    assert not missing, f"run make lock: {missing}"
