"""Model files: networks with everything that is needed to use them; files that do not fit are refused.

A file is safetensors (tensors and text, no code): the weights, and the :class:`~uresnet.model.catalogue.ModelCard` that
says which network they belong to, what its channels mean and how images are conformed for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from uresnet.config import (
    ConformSpec,
    ModelConfig,
    conform_spec_from_dict,
    model_config_from_dict,
    segmenter_config_from_dict,
    to_dict,
)
from uresnet.core.files import write_bytes
from uresnet.core.labels import SCHEMES, LabelScheme, label_scheme
from uresnet.errors import UserError, quoted
from uresnet.model.catalogue import BRAIN, METADATA_KEY, ModelCard, ModelFile, find_model
from uresnet.model.christodoulidis import pair_network
from uresnet.model.coarse_segmenter import CoarseSegmenter
from uresnet.model.network import placed
from uresnet.model.published import load_published
from uresnet.model.segmenter import Segmenter

PAIR = "uresnet"
"""The kind of the paper's network: a pair in, spatial gradients, an affine and a segmentation of the moving image
out."""

CHRISTODOULIDIS = "christodoulidis"
"""The kind of the learned baseline of 2018: as ``PAIR``, without a segmentation."""

MIDSPACE = "midspace"
"""The default model's kind: a network that segments each image on its own, and a solver that finds the deformation in a
mid-space, half-way between both."""

TRANSLATION = "translation"
"""The paper's rigid baseline: centre of mass onto centre of mass. There are no weights."""


_STEP = ".step"  # added to the name of weights of 8 bits, for their steps
_MOST_STEPS = 127


@dataclass(frozen=True, eq=False)
class Model:
    """A network ready for inference: ``scheme`` is None when it does not segment; ``sha256`` is that of its file;
    ``general`` is as in :class:`~uresnet.model.catalogue.ModelFile`. ``specialist`` is a model for T1-weighted images
    whose opinion of such an image, or of the one that this model predicts, counts too."""

    card: ModelCard
    network: nn.Module
    scheme: LabelScheme | None
    conform: ConformSpec
    sha256: str
    general: Model | None = None
    specialist: Model | None = None

    @property
    def name(self) -> str:
        """Its name in reports."""
        return self.card.name

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.network.parameters()).device

    @property
    def is_coarse(self) -> bool:
        """Whether its network sees voxels larger than those of the images that are conformed for it."""
        return bool(self.card.network.get("downsampling", 1) > 1)

    def to(self, device: str | torch.device) -> Model:
        """The same model on another device."""
        general = None if self.general is None else self.general.to(device)
        return replace(self, network=placed(self.network, device), general=general)


def _build_pair_network(configuration: dict[str, Any], where: str) -> nn.Module:
    return pair_network(model_config_from_dict(configuration, where))


def _build_segmenter(configuration: dict[str, Any], where: str) -> nn.Module:
    config = segmenter_config_from_dict(configuration, where)
    return CoarseSegmenter(config) if config.downsampling > 1 else Segmenter(config)


def _build_nothing(configuration: dict[str, Any], where: str) -> nn.Module:
    return nn.Identity()


NETWORKS: dict[str, Callable[[dict[str, Any], str], nn.Module]] = {
    PAIR: _build_pair_network,
    CHRISTODOULIDIS: _build_pair_network,
    MIDSPACE: _build_segmenter,
    TRANSLATION: _build_nothing,
    BRAIN: _build_segmenter,
}
"""How a network of each kind is built from the configuration in its card; ``coupling`` knows how each is used."""


def load_model(model: ModelFile | str | Path | None = None) -> Model:
    """Load a model that :func:`~uresnet.model.catalogue.find_model` has found, or would find under this name or path.

    None is the default model. The file is read once. Raises :class:`UserError` for an unknown name, a file that is no
    model, and weights that do not fit their network.
    """
    file = model if isinstance(model, ModelFile) else find_model(model)
    content = file.path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    if file.card is None:
        return _load_published(file, content, sha256)
    loaded = _load_with_card(file.card, str(file.path), content, sha256)
    return loaded if file.general is None else replace(loaded, general=load_model(file.general))


def save_model(path: str | Path, network: nn.Module, card: ModelCard, bits: Literal[8, 16, 32] = 32) -> None:
    """Write weights (on the CPU) and card to a safetensors file, whole or not at all.

    16 ``bits`` of each weight are enough for inference; 8 are kept as whole numbers of steps, each output channel with
    its own step. Loading gives float32 in any case.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        weights = value.detach().cpu().float().contiguous()
        if bits == 8 and weights.ndim > 1:
            step = weights.flatten(1).abs().amax(dim=1).clamp_min(1e-12) / _MOST_STEPS
            tensors[name] = (weights / _along_first(step, weights)).round().to(torch.int8)
            tensors[name + _STEP] = step
        else:
            tensors[name] = weights if bits == 32 else weights.half()
    write_bytes(save(tensors, metadata={METADATA_KEY: card.to_json()}), path)


def _in_full(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights by name, those that were kept in 8 bits multiplied by their steps."""
    full = {name: value for name, value in tensors.items() if not name.endswith(_STEP)}
    for name, value in full.items():
        step = tensors.get(name + _STEP)
        if step is not None:
            full[name] = value.float() * _along_first(step.float(), value)
    return full


def _along_first(step: Tensor, weights: Tensor) -> Tensor:
    return step.view(len(weights), *(1,) * (weights.ndim - 1))


def uresnet_card(name: str, config: ModelConfig, conform: ConformSpec, **about: Any) -> ModelCard:
    """The card of a network of the paper's kind; ``about`` are licence, trained_on and figures."""
    scheme = label_scheme(config.scheme) if config.segmentation else None
    return ModelCard(
        name=name,
        kind=config.network,
        network=to_dict(config),
        conform=asdict(conform),
        scheme=scheme.name if scheme else "",
        classes=[(structure.name, list(structure.ids)) for structure in scheme.classes] if scheme else [],
        **about,
    )


def _load_with_card(card: ModelCard, where: str, content: bytes, sha256: str) -> Model:
    if card.kind not in NETWORKS:
        raise UserError(
            f"{where} holds a network of kind {quoted(card.kind)}, which this version of uresnet does not know."
        )
    scheme, conform = _scheme(card, where), conform_spec(card, where)
    try:
        weights = _in_full(load(content))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise UserError(f"{where} is damaged: its weights cannot be read; copy or download it again.") from error
    with torch.device("meta"):  # the shapes alone: a damaged description may be of a network that fills the memory
        described = NETWORKS[card.kind](card.network, where).state_dict()
    if {name: value.shape for name, value in described.items()} != {name: w.shape for name, w in weights.items()}:
        raise UserError(f"The weights in {where} do not fit the network that the file describes.")
    network = NETWORKS[card.kind](card.network, where)
    network.load_state_dict(weights)
    numbers = all(value.is_floating_point() for value in weights.values())
    if not numbers or not all(bool(value.isfinite().all()) for value in network.state_dict().values()):
        raise UserError(f"{where} holds weights that are not numbers; its training failed.")
    if scheme and isinstance(network, Segmenter) and network.synthesis is not None:
        network.mirrored = scheme.mirrored  # a T1-weighted image gains nothing by it, others do
    return Model(card, _for_inference(network), scheme, conform, sha256)


def _load_published(file: ModelFile, content: bytes, sha256: str) -> Model:
    network = load_published(file.path, content)
    card = uresnet_card(
        file.path.name,
        network.config,
        ConformSpec(),
        licence="none stated by its authors",
        trained_on="OASIS-3, by the authors of the paper (2019)",
    )
    scheme = SCHEMES[card.scheme] if card.scheme else None
    return Model(card, _for_inference(network), scheme, ConformSpec(), sha256)


def _scheme(card: ModelCard, where: str) -> LabelScheme | None:
    if not card.scheme:
        return None
    scheme = SCHEMES.get(card.scheme)
    recorded = [(name, tuple(ids)) for name, ids in card.classes]
    if scheme is None or recorded != [(structure.name, structure.ids) for structure in scheme.classes]:
        raise UserError(
            f"The structures in {where} ({quoted(card.scheme)}) are not those that this version of uresnet knows."
        )
    return scheme


def conform_spec(card: ModelCard, where: str) -> ConformSpec:
    """How images are conformed for a model. Raises :class:`UserError` naming ``where`` for a card with impossible
    values."""
    return conform_spec_from_dict(card.conform, f"{where} asks for images conformed in an impossible way")


def _for_inference(network: nn.Module) -> nn.Module:
    return placed(network.eval().requires_grad_(False), "cpu")
