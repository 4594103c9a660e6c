"""Model files: what is written comes back, what does not fit is refused in a sentence."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from brains import COARSE, write_tiny_model
from uresnet.errors import UserError
from uresnet.model import catalogue
from uresnet.model.catalogue import METADATA_KEY, ModelCard, find_model
from uresnet.model.checkpoint import load_model, save_model


def rewritten(source: Path, target: Path, weights: dict[str, torch.Tensor] | None = None, **changes: Any) -> Path:
    """A copy of a model file with other weights or other fields on its card."""
    with safe_open(source, framework="numpy") as content:
        card = json.loads(content.metadata()[METADATA_KEY])
    save_file(weights or load_file(source), target, metadata={METADATA_KEY: json.dumps(card | changes)})
    return target


def test_what_is_saved_is_loaded(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    assert model.name == "tiny" and model.card.licence == "none" and model.conform == COARSE
    assert model.scheme is not None and model.scheme.ids == (2, 3, 4)
    for name, value in load_file(tiny_model).items():
        assert torch.equal(model.network.state_dict()[name], value)
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())


def test_weights_of_eight_bits_come_back_within_half_a_step_of_their_channel(tiny_model: Path, tmp_path: Path) -> None:
    model, path = load_model(tiny_model), tmp_path / "small.safetensors"
    save_model(path, model.network, model.card, bits=8)
    again = load_model(path).network.state_dict()
    for name, value in model.network.state_dict().items():
        if value.ndim < 2:
            torch.testing.assert_close(again[name], value, rtol=1e-3, atol=1e-6)
            continue
        most = value.flatten(1).abs().amax(dim=1)
        assert ((again[name] - value).flatten(1).abs().amax(dim=1) <= most / 254 * 1.001 + 1e-9).all()
        assert again[name].dtype == torch.float32
    kept = load_file(path)
    short = {name: value[:1] if name.endswith(".step") else value for name, value in kept.items()}
    lacking = {name: value for name, value in kept.items() if not name.endswith(".step")}
    for weights, message in ((short, "its weights cannot be read"), (lacking, "weights that are not numbers")):
        with pytest.raises(UserError, match=message):
            load_model(rewritten(path, tmp_path / "damaged.safetensors", weights))


def test_the_sha256_is_that_of_the_file(tiny_model: Path) -> None:
    assert load_model(tiny_model).sha256 == hashlib.sha256(tiny_model.read_bytes()).hexdigest()


def test_a_model_that_was_found_is_loaded_by_one_read_of_its_file(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, reads, read_bytes = find_model(tiny_model), list[Path](), Path.read_bytes

    def counted(path: Path) -> bytes:
        reads.append(path)
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    monkeypatch.setattr("uresnet.model.checkpoint.find_model", None)  # not looked up again
    model = load_model(found)
    assert model.name == found.name and len(model.sha256) == 64
    assert reads == [tiny_model]


def test_a_registration_only_model_has_no_scheme(tmp_path: Path) -> None:
    model = load_model(write_tiny_model(tmp_path / "r.safetensors", deforms=True, segmentation=False))
    assert model.scheme is None and model.card.classes == []


def test_cards_survive_json(tiny_model: Path) -> None:
    card = find_model(tiny_model).card
    assert card is not None
    again = ModelCard.from_json(card.to_json(), "here")
    assert asdict(again) == asdict(card)


def test_fields_of_a_newer_writer_are_ignored(tiny_model: Path, tmp_path: Path) -> None:
    assert load_model(rewritten(tiny_model, tmp_path / "m.safetensors", colour="blue")).name == "tiny"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kind": "transformer"}, "kind transformer"),
        ({"format": 99}, "later version"),
        ({"format": "x"}, "no readable"),
        ({"scheme": "atlas"}, "structures"),
        ({"classes": [["Thalamus", [10]]]}, "structures"),
        ({"conform": {"shape": [40, 44, 52], "rotation": 3}}, "conformed"),
        ({"conform": {"shape": [40, 44]}}, "conformed"),
        ({"network": {"channels": [2, 4], "depth": 3}}, "unknown key 'model.depth'"),
        ({"network": {"channels": [4, 8]}}, "do not fit"),
        ({"network": {"channels": [2, 4], "segmentation": False}}, "do not fit"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_refused(tiny_model: Path, tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_model(rewritten(tiny_model, tmp_path / "m.safetensors", **changes))


def test_weights_that_are_no_numbers_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    weights = load_file(tiny_model)
    next(iter(weights.values())).view(-1)[0] = float("nan")
    with pytest.raises(UserError, match="not numbers"):
        load_model(rewritten(tiny_model, tmp_path / "m.safetensors", weights))


def test_files_that_are_no_models(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(UserError, match="no model file"):
        load_model(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(UserError, match="not a readable"):
        load_model(tmp_path / "text.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(tiny_model.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable"):
        load_model(tmp_path / "cut.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a uresnet model"):
        load_model(tmp_path / "other.safetensors")
    (tmp_path / "keras.hdf5").write_text("hello")
    with pytest.raises(UserError, match=r"keras.hdf5"):
        load_model(tmp_path / "keras.hdf5")


def test_an_unknown_name_lists_the_known(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    known = find_model(tiny_model)
    monkeypatch.setattr(catalogue, "packaged_models", lambda: {"paper": known, "default": known})
    with pytest.raises(UserError, match=r"no model nobody\. Known: auto, paper, default"):
        find_model("nobody")
    assert find_model("paper") is known


def test_the_default_is_the_first_preference(monkeypatch: pytest.MonkeyPatch, tiny_model: Path, tmp_path: Path) -> None:
    for name in ("zebra", "paper", "default"):
        rewritten(tiny_model, tmp_path / f"{name}.safetensors", name=name)
    (tmp_path / "weights").mkdir()
    for file in tmp_path.glob("*.safetensors"):
        file.rename(tmp_path / "weights" / file.name)
    monkeypatch.setattr(catalogue, "files", lambda package: tmp_path)
    catalogue.packaged_models.cache_clear()
    try:
        assert list(catalogue.packaged_models()) == ["default", "paper", "zebra"]
        assert find_model().name == "default"
    finally:
        catalogue.packaged_models.cache_clear()


def test_no_packaged_model_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "packaged_models", dict)
    with pytest.raises(UserError, match="carries no model"):
        find_model()


def test_a_failed_write_leaves_nothing(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from uresnet.model import checkpoint

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    model = load_model(tiny_model)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoint.save_model(tmp_path / "m.safetensors", model.network, replace(model.card, name="x"))
    assert not list(tmp_path.iterdir())


@pytest.mark.real
@pytest.mark.parametrize(("name", "weights", "classes"), [("segmentation", 39_183, 4), ("use_mask", 24_631, 0)])
def test_published_checkpoints_load(shared_reference: Path, name: str, weights: int, classes: int) -> None:
    model = load_model(shared_reference / "published_weights" / f"{name}.hdf5")
    assert sum(p.numel() for p in model.network.parameters()) == weights
    assert (model.scheme.number_of_classes if model.scheme else 0) == classes
    assert model.card.network["convention"] == "published_2019"
