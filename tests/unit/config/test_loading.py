"""Configurations from YAML: every key is checked, and an error names the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from uresnet.config import Config, Stage, config_from_dict, load_config, to_dict
from uresnet.errors import UserError


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_written_comes_back() -> None:
    tree = {
        "model": {"channels": [2, 4], "negative_slope": 0.1},
        "training": {"stages": [{"downsampling": 2, "fraction": 0.25}, {"fraction": 0.75}], "max_minutes": 5},
    }
    config = config_from_dict(tree)
    assert config.training.stages == (Stage(2, 0.25), Stage(1, 0.75))
    assert config.training.max_minutes == 5.0
    assert config_from_dict(to_dict(config)) == config


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "")) == Config()


def test_numbers_that_yaml_reads_as_text_are_numbers(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "training: {learning_rate: 1e-3}")).training.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("modell: {}", r"config\.yaml: unknown key 'modell'; known are data, model"),
        ("model: {depth: 3}", r"unknown key 'model\.depth'"),
        ("model: {channels: [4, 8.5]}", r"model\.channels\[1\] must be a whole number, not 8\.5"),
        ("training: {optimiser: sgd}", r"training\.optimiser must be one of adam, soap, muon, not 'sgd'"),
        ("training: {epochs: true}", r"training\.epochs must be a whole number, not True"),
        ("training: {stages: [{fraction: 0.5}]}", "the fractions must add up to 1"),
        ("losses: 3", "losses must be a mapping of names to values"),
        ("- 1", "the file must be a mapping of names to values"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_a_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_config(written(tmp_path, text))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read the configuration"):
        load_config(tmp_path / "no.yaml")
