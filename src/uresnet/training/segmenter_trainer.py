"""The training of a midspace model's segmenter: random blocks, some of them synthetic, judged in every structure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uresnet.config import Config, SegmenterConfig, to_dict
from uresnet.core.labels import ABNORMAL, SCHEMES, LabelScheme, label_scheme
from uresnet.errors import UserError
from uresnet.measures.overlap import dice_per_class
from uresnet.model.catalogue import ModelCard
from uresnet.model.checkpoint import MIDSPACE, save_model
from uresnet.model.network import placed
from uresnet.model.segmenter import Segmenter, blocks_to_channels
from uresnet.training.context import TrainingContext
from uresnet.training.data.classes import class_table
from uresnet.training.data.label_maps import read_label_maps, read_shapes
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.any_contrast import AnyContrastMaker, Remapper, Sources
from uresnet.training.examples.blocks import Block, BlockMaker
from uresnet.training.loop import Trainer
from uresnet.training.objective import segmentation_terms, t1_terms
from uresnet.training.optimisers.muon import Muon
from uresnet.training.samples import EXAMPLES, PAIRS, Sample, sample_alone, sample_example
from uresnet.training.validation import Validation, mean_per_structure

SCHEME, ANY_SCHEME = SCHEMES["freesurfer32"], SCHEMES["freesurfer34"]
"""The structures of the segmenter, and those of one for any contrast, which sees abnormal tissue too."""

_NEW_CLASS = -1.0  # how much less likely than any other a class is that the weights to start from lack

_ADAM_RATE = 0.7


class SegmenterTrainer(Trainer[Segmenter]):
    """Trains a :class:`~uresnet.model.segmenter.Segmenter` on the scans of a store and on label maps."""

    def __init__(
        self, config: Config, training: DeviceStore, validation: DeviceStore | None, context: TrainingContext
    ) -> None:
        settings = config.segmenter or SegmenterConfig()
        scheme = self.scheme_of(config)
        if settings.classes != scheme.number_of_classes:
            raise UserError(f"segmenter.classes must be {scheme.number_of_classes}, those of {scheme.name}.")
        device = training.images.device
        self.training, self.validation = training, validation
        self.make_block = self.maker_of(config, training, context)
        self.make_other = Remapper(validation) if config.contrasts and validation else None
        torch.manual_seed(config.training.seed)
        network = Segmenter(settings)
        placed(network, device, config.training.channels_last)
        super().__init__(config, network, scheme, device, context)
        self.class_weights = _class_weights(config, scheme, device)

    @staticmethod
    def scheme_of(config: Config) -> LabelScheme:
        """What the network tells apart."""
        return ANY_SCHEME if config.contrasts else SCHEME

    @staticmethod
    def maker_of(config: Config, training: DeviceStore, context: TrainingContext) -> Callable[[torch.Generator], Block]:
        """What makes the examples, with the label maps and masks that the configuration names, or that came with the
        data. Raises :class:`UserError` for scans that the network cannot see whole."""
        _check_shape(config.segmenter or SegmenterConfig(), training)
        scheme = ANY_SCHEME if config.contrasts else SCHEME
        device, folder = training.images.device, config.blocks.label_maps
        maps = read_label_maps(Path(folder), context.description.conform) if folder else context.extras.label_maps
        maps = None if maps is None else maps.to(device)
        if config.contrasts is None:
            return BlockMaker(config.blocks, training, maps, scheme)
        masks = config.contrasts.stroke_masks
        shapes = [shape.to(device) for shape in (read_shapes(Path(masks)) if masks else context.extras.shapes)]
        sources = Sources(training, maps, shapes, context.extras.others)
        return AnyContrastMaker(config.contrasts, config.blocks, sources, scheme)

    @property
    def examples_per_epoch(self) -> int:
        """As many blocks as there are scans."""
        return len(self.training.scans)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of a block."""
        return self.config.blocks.shape

    @property
    def scans(self) -> tuple[int, int]:
        """The numbers of scans to train on and to validate on."""
        return len(self.training.scans), len(self.validation.scans) if self.validation else 0

    def make_optimiser(self) -> torch.optim.Optimizer:
        """Muon for the inner convolutions, AdamW for the first and the last layers and the normalisations."""
        if self.config.training.optimiser != "muon":
            return torch.optim.Adam([{"params": list(self.network.parameters()), "factor": 1.0}])
        inner: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in self.network.named_parameters():
            is_outer = name.split(".")[0] in ("stem", "hidden", "head") or parameter.ndim < 5
            (others if is_outer else inner).append(parameter)
        return Muon(
            [
                {"params": inner, "factor": 1.0, "orthogonal": True},
                {"params": others, "factor": _ADAM_RATE, "orthogonal": False},
            ]
        )

    def terms(self, part: int) -> dict[str, Tensor]:
        """Cross-entropy and Dice of this process's next blocks."""
        t = self.config.training
        self.progress.epoch = self.progress.step // self.batches_per_epoch()
        first = (part * self.team.size + self.team.rank) * t.batch_size
        sums: dict[str, Tensor] = {}
        for place in range(first, first + t.batch_size):
            for name, value in self._terms_of_block(self.generator_for(place)).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value / t.batch_size
        return sums

    def _terms_of_block(self, generator: torch.Generator) -> dict[str, Tensor]:
        with torch.no_grad():
            block = self.make_block(generator)
            parts = torch.randperm(8, generator=generator, device=self.device)[: self.config.blocks.parts].tolist()
            voxels, truth = self._judged_voxels(block, parts, generator)
        with self.autocast():
            features = self.network.features(block.image)
            chosen = features.movedim(1, -1).reshape(-1, features.shape[1])[voxels]
            logits = self.network.logits(chosen.T[None, :, :, None, None], parts)[0]
            wanted = block.t1 is not None and self.network.synthesis is not None
            predicted = self.network.t1_of(features, block.image) if wanted else None
        terms = segmentation_terms(logits.float().flatten(0, 1), truth.flatten(), self.class_weights)
        if predicted is not None and block.t1 is not None and self.config.contrasts:
            of_t1 = t1_terms(predicted.float(), block.t1, (block.t1 > 0) & (block.image > 0))
            terms["total"] = terms["total"] + sum(getattr(self.config.contrasts, n) * t for n, t in of_t1.items())
            terms = of_t1 | terms
        return terms

    def _judged_voxels(self, block: Block, parts: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The half-resolution voxels (V,) on which the loss is computed, and their true classes (V, parts).

        They are all voxels of the brain and a random share of the others.
        """
        classes = blocks_to_channels(block.classes)[0].flatten(1)
        brain = (blocks_to_channels(block.image)[0].flatten(1) > 0).any(0) | (classes > 0).any(0)
        drawn = torch.rand(brain.shape, generator=generator, device=brain.device) < self.config.blocks.background
        voxels = (brain | drawn).nonzero()[:, 0]
        return voxels, classes[parts][:, voxels].T.long()

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of another model. A network for any contrast may start from one that knows fewer classes and
        predicts no T1: what is new starts small. ``RuntimeError`` when they are those of a different network."""
        own = self.network.state_dict()
        if self.config.contrasts:
            weights = {name: value for name, value in own.items() if name.startswith("synthesis.")} | weights
            for part in ("weight", "bias"):
                weights[f"head.{part}"] = _widened(weights[f"head.{part}"], own[f"head.{part}"])
        super().start_from(weights)

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Dice of every structure, mean over the whole validation scans; a structure that no scan has is NaN.

        With ``contrasts``, each scan is looked at twice: as it is, and remapped to a contrast that its number decides.
        """
        if self.validation is None:
            return None
        network = self.judged.eval()
        axes = self.context.description.conform.axis_codes
        own: list[tuple[int, list[float], list[float], list[float], Sample | None]] = []
        for number in range(self.team.rank, len(self.validation.scans), self.team.size):
            image, labels = self.validation.batch([number])
            predicted = network(image)[0].long()
            as_t1, table1 = _dice(predicted, labels[0, 0].long(), self.scheme)
            judged, elsewhere = [as_t1], [math.nan]
            if self.make_other is not None:
                other = self.make_other(number)
                found, elsewhere = _dice(network(other)[0].long(), labels[0, 0].long(), self.scheme)
                judged.append(found)
            seen = sample_alone(image, predicted, labels, self.scheme, axes) if number < PAIRS else None
            own.append((number, mean_per_structure(judged).tolist(), table1, elsewhere, seen))
        results = sorted(self.team.gathered(own), key=lambda result: result[0])
        _, dice, table1s, others, samples = zip(*results, strict=True)
        return Validation(
            tuple(mean_per_structure(dice).tolist()),
            step=self.progress.step,
            samples=(*(seen for seen in samples if seen is not None), *self._examples()),
            table1=tuple(mean_per_structure(table1s).tolist()),
            other_contrasts=tuple(mean_per_structure(others).tolist()) if self.make_other else (),
        )

    def _examples(self) -> list[Sample]:
        """Some of what the network is trained on, others at each validation, and the T1 that it predicts for it."""
        examples = []
        for place in range(EXAMPLES):
            block = self.make_block(self.generator_for(place))
            predicted = None
            if block.t1 is not None and self.judged.synthesis is not None:
                predicted = self.judged.t1_of(self.judged.features(block.image), block.image)
                predicted = predicted.float() * (block.image > 0)
            examples.append(sample_example(block, predicted, self.scheme, self.context.description.conform.axis_codes))
        return examples

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """Mean Dice over the fifteen structures of Table 1 and over the network's own, for the card of a model."""
        others = {}
        if result.other_contrasts:
            others["the same, remapped to other contrasts"] = round(float(np.nanmean(result.other_contrasts)), 4)
        return {
            "training step": result.step,
            "validation scans": self.scans[1],
            "segmentation Dice, 15 structures": round(float(np.nanmean(result.table1)), 4),
            **others,
            f"segmentation Dice, {len(self.scheme.classes)} structures": round(
                float(np.nanmean(result.segmentation)), 4
            ),
        }

    def write(self, path: Path) -> None:
        """Write the model, with 16 bits a weight."""
        save_model(path, self.judged, self.card(), bits=16)

    def card(self) -> ModelCard:
        """The card of a model of the kind midspace."""
        about = self.context.description
        return ModelCard(
            name=about.name,
            kind=MIDSPACE,
            network=to_dict(self.judged.config),
            conform=asdict(about.conform),
            scheme=self.scheme.name,
            classes=[(structure.name, list(structure.ids)) for structure in self.scheme.classes],
            licence=about.licence,
            trained_on=about.trained_on,
            figures=self._figures,
        )


def _class_weights(config: Config, scheme: LabelScheme, device: torch.device) -> Tensor | None:
    """(C,) the weight of each class in the loss; None where all are alike."""
    if config.contrasts is None:
        return None
    weights = torch.ones(scheme.number_of_classes, device=device)
    weights[scheme.classes_of(ABNORMAL)] = config.contrasts.abnormal_weight
    return weights


def _widened(found: Tensor, own: Tensor) -> Tensor:
    """Weights or biases (8 · classes, …) of the head from those for fewer classes, which come first in each of the
    eight voxels of a block: new classes get weights of 0, and biases that make them less likely than any other."""
    if len(found) >= len(own) or len(found) % 8 or found.shape[1:] != own.shape[1:]:
        return found  # as many, or those of a different network
    known = found.reshape(8, -1, *found.shape[1:]).to(own)
    least = known.amin(dim=1, keepdim=True) + _NEW_CLASS if found.ndim == 1 else torch.zeros_like(known[:, :1])
    missing = len(own) // 8 - known.shape[1]
    return torch.cat([known, least.expand(8, missing, *found.shape[1:])], dim=1).flatten(0, 1)


def _check_shape(settings: SegmenterConfig, training: DeviceStore) -> None:
    """Raises :class:`UserError` when the network does not fit the images."""
    shape, multiple = training.images.shape[2:], 2 ** len(settings.channels)
    if any(n % multiple for n in shape):
        raise UserError(
            f"The segmenter needs images whose sides are multiples of {multiple} voxels, these have "
            f"{' × '.join(map(str, shape))}; prepare them with --conform default."
        )


def _dice(predicted: Tensor, true_ids: Tensor, scheme: LabelScheme) -> tuple[list[float], list[float]]:
    """Dice of every structure of the scheme, and of those of Table 1, of predicted classes against FreeSurfer ids."""
    table1 = label_scheme("table1")
    ids = torch.tensor([0, *scheme.ids], device=predicted.device)
    class_of_id, table1_of_id = class_table(scheme, predicted.device), class_table(table1, predicted.device)
    sided = dice_per_class(predicted, class_of_id[true_ids], scheme.number_of_classes)
    merged = dice_per_class(table1_of_id[ids[predicted]], table1_of_id[true_ids], table1.number_of_classes)
    return sided.tolist(), merged.tolist()
