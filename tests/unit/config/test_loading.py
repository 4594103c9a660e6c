"""Configurations from YAML: every key is checked, and an error names the file and the key."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

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


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (BOMB, r"config\.yaml is not YAML that a configuration may hold: line 1 has an anchor or alias"),
        ("data: &x somewhere", "line 1 has an anchor or alias"),
        ("data: !!python/object:os.system x", r"line 1 has a tag \(!\)"),
        ("data: !!timestamp 2020-99-99", "line 1 has a tag"),
        ("[" * 5000, "nested too deep"),
        ("training: {seed: 0x_}", "invalid literal"),
        ("training: {epochs: 3, epochs: 4}", "a mapping has the name 'epochs' two times"),
        ("training: {epochs: 2020-01-01}", r"training\.epochs must be a whole number, not '2020-01-01'"),
        ("model: {channels: [4, 4, 4, 4, 4, 4, 4, 4, 4]}", "needs 2 to 8 levels"),
        ("blocks: {knots: [3]}", r"blocks\.knots must be a list of 2, not of 1"),
        ("blocks: {knots: [8, 3]}", "are two numbers each, from and to"),
        ("augment: {ventricle_growth: [3, 2]}", r"augment\.ventricle_growth must be two numbers, from and to"),
    ],
)
def test_yaml_that_could_do_harm_or_mislead_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        load_config(written(tmp_path, text))
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_a_date_is_text(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "data: 2020-99-99")).data == "2020-99-99"


def test_a_file_too_long_for_a_configuration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has more than 262,144 bytes"):
        load_config(written(tmp_path, "#" * 300_000))


@pytest.mark.parametrize("text", ["data: {long}", "model: {{scheme: [{long}]}}", "{long}: 1", "model: {{{long}: 1}}"])
def test_messages_quote_little(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(written(tmp_path, text.format(long="[" + "x" * 200_000 + "]")))
    assert len(str(caught.value).replace(str(tmp_path), "")) < 600


def numbers(kind: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The way to every field of a configuration that is a number, or a list of numbers."""
    found = []
    for name, hint in typing.get_type_hints(kind).items():
        options = [option for option in (typing.get_args(hint) or (hint,)) if option is not type(None)]
        if dataclasses.is_dataclass(options[0]):
            found += numbers(options[0], (*path, name))
        elif options[0] in (int, float):
            found.append((*path, name))
    return found


NUMBERS = numbers(Config)


def test_every_number_is_found() -> None:
    assert len(NUMBERS) > 60
    assert ("losses", "lcc_window") in NUMBERS and ("training", "stages", "fraction") in NUMBERS


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -3, 1e300, 10**40])
@pytest.mark.parametrize("path", NUMBERS, ids=".".join)
def test_no_number_is_absurd(path: tuple[str, ...], value: float) -> None:
    """Every number of every configuration is finite, has a plausible size, and is not negative unless it may be."""
    needed = {name: ("segmenter", name) for name in ("segmenter", "contrasts", "heads")} | {"abnormal": ("abnormal",)}
    default = config_from_dict({block: {} for block in needed.get(path[0], ())})
    tree = to_dict(default)
    place = tree
    for name in path[:-1]:
        place = place[name][0] if isinstance(place[name], list) else place[name]
    old = place[path[-1]]
    place[path[-1]] = [value] * len(old) if isinstance(old, list) else value
    if value == -3 and path[-1] == "ventricle_growth":  # mm by which they may also shrink
        assert config_from_dict(tree) != default
        return
    with pytest.raises(UserError, match=rf"{path[0]}.*{path[-1]}"):
        config_from_dict(tree)
