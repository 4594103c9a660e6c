"""Which models there are and what their files say about them; reads headers only, without torch.

A model file is safetensors: tensors and one JSON text, no code. The JSON is a :class:`ModelCard`: the kind of network
and its configuration, the label scheme, how images are conformed, and where the weights come from.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from uresnet.core.reading import is_file, parse_json
from uresnet.errors import UserError, quoted

FORMAT = 1
"""Version of the card. A file of a later format is refused: its meaning may have changed."""

METADATA_KEY = "uresnet"
"""Under which the card stands in the metadata of a safetensors file."""

PUBLISHED_SUFFIXES = (".hdf5", ".h5")
"""Endings of the Keras checkpoints of 2019, which carry no card."""

_MOST_CHARACTERS = 10_000

PREFERENCE = ("default", "any", "paper")
"""The model that commands use when none is named: the first of these that is packaged."""

AUTO = "auto"
"""For the model that commands use when none is named, together with ``GENERAL``."""

GENERAL = "any"
"""The packaged model that knows every contrast and abnormal tissue."""

BRAIN = "brain"
"""The kind of the network that finds the brain in a head. It is no choice of the user's, and not listed."""


@dataclass(frozen=True)
class ModelCard:
    """What a model file says about its network.

    ``network`` is the configuration of a network of ``kind``; ``classes`` are (name, FreeSurfer ids) of the label
    scheme ``scheme`` in channel order without the background, and no classes when the network does not segment;
    ``conform`` are the fields of a ``ConformSpec``. ``figures`` are measured numbers, each under the name of what was
    measured.
    """

    name: str
    kind: str
    network: dict[str, Any]
    conform: dict[str, Any]
    scheme: str = ""
    classes: list[tuple[str, list[int]]] = field(default_factory=list)
    licence: str = ""
    trained_on: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        """The text that goes into the file."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> ModelCard:
        """Reads a card; raises :class:`UserError` naming ``where`` for another text or a card of a later version."""
        try:
            content = parse_json(text)
            if content["format"] > FORMAT:
                raise UserError(f"{where} was written by a later version of uresnet; update uresnet to use it.")
            known = {f.name for f in fields(cls)}
            card = cls(**{key: value for key, value in content.items() if key in known})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{where} holds no readable uresnet model description.") from error
        wrong = next((f.name for f in fields(cls) if not _is_of_type(f.name, getattr(card, f.name))), None)
        if wrong is not None:
            raise UserError(f"{where} holds a uresnet model description that is damaged: its {wrong} cannot be right.")
        return card


def _is_of_type(name: str, value: object) -> bool:
    """Whether a field of a card can have such a value."""
    if name == "format":
        return type(value) is int and 1 <= value <= FORMAT
    if name in ("network", "conform", "figures"):
        return isinstance(value, dict)
    if name == "classes":
        return isinstance(value, list) and all(map(_is_class, value))
    required = name in ("name", "kind")
    return isinstance(value, str) and len(value) < _MOST_CHARACTERS and (bool(value) or not required)


def _is_class(value: object) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    name, ids = value
    return isinstance(name, str) and isinstance(ids, list | tuple) and all(type(i) is int for i in ids)


@dataclass(frozen=True)
class ModelFile:
    """A model file and its card, found and not yet loaded; ``card`` is None for a published Keras checkpoint.

    ``general`` is the model that first looks at an image, says what contrast it has and whether tissue is abnormal, and
    takes over where this model, made for one contrast, does not know it; None where this model is used for everything.
    """

    path: Path
    card: ModelCard | None
    general: ModelFile | None = None

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.card.name if self.card else self.path.name

    @property
    def sha256(self) -> str:
        """Of the whole file, which is read for it; a loaded model knows its own."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


@cache
def packaged_models() -> dict[str, ModelFile]:
    """The models inside the package that register or segment, by name, the default first."""
    found = [model for model in _packaged() if model.card and model.card.kind != BRAIN]
    rank = {name: position for position, name in enumerate(PREFERENCE)}
    found.sort(key=lambda model: rank.get(model.name, len(rank)))
    return {model.name: model for model in found}


def brain_finder() -> ModelFile:
    """The packaged network that finds the brain in a head. Raises :class:`UserError` where there is none."""
    found = next((model for model in _packaged() if model.card and model.card.kind == BRAIN), None)
    if found is None:
        raise UserError("This installation carries no network that finds brains; give brain masks.")
    return found


def _packaged() -> tuple[ModelFile, ...]:
    folder = Path(str(files("uresnet") / "weights"))
    return tuple(read_model_file(path) for path in sorted(folder.glob("*.safetensors")))


def find_model(name_or_path: str | Path | None = None) -> ModelFile:
    """The model that a user means: a packaged name, a ``.safetensors`` or published ``.hdf5`` file; "auto" or None for
    the default, with the model for any contrast beside it.

    Raises :class:`UserError` for an unknown name (the known ones are listed), a missing file or one that is no model.
    """
    packaged = packaged_models()
    if name_or_path in (None, AUTO):
        if not packaged:
            raise UserError("This installation carries no model; name a model file with --model FILE.safetensors.")
        first = next(iter(packaged.values()))
        return replace(first, general=packaged.get(GENERAL)) if first.name != GENERAL else first
    if str(name_or_path) in packaged:
        return packaged[str(name_or_path)]
    path = Path(name_or_path)
    if path.suffix in (".safetensors", *PUBLISHED_SUFFIXES) or is_file(path):
        model = read_model_file(path)
        if model.card and model.card.kind == BRAIN:
            raise UserError(f"{path} finds brains in heads; it neither registers nor segments. Give another model.")
        return model
    known = f"Known: {', '.join((AUTO, *packaged))}; or" if packaged else "No model is packaged;"
    raise UserError(f"There is no model {quoted(str(name_or_path))}. {known} give a .safetensors or .hdf5 file.")


def check_segments(card: ModelCard | None) -> None:
    """Raises :class:`UserError` for the card of a model that does not segment; a file without a card is looked at when
    it is loaded."""
    if card is not None and not card.scheme:
        raise UserError(f"The model {card.name} registers only; choose one that segments with --model.")


def read_model_file(path: Path) -> ModelFile:
    """Reads the header of a model file; raises :class:`UserError` when it is missing or no model."""
    if not is_file(path):
        raise UserError(f"There is no model file {quoted(str(path), 300)}; check the path.")
    if path.suffix in PUBLISHED_SUFFIXES:
        return ModelFile(path, None)
    try:
        with safe_open(path, framework="numpy") as content:
            metadata = content.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable .safetensors file.") from error
    if METADATA_KEY not in metadata:
        raise UserError(f"{path} is a .safetensors file, but not a uresnet model.")
    return ModelFile(path, ModelCard.from_json(metadata[METADATA_KEY], str(path)))
