"""The training of a midspace model's segmenter: random blocks, some of them synthetic, judged in every structure."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uresnet.config import Config, SegmenterConfig, to_dict
from uresnet.core.labels import SCHEMES, label_scheme
from uresnet.errors import UserError
from uresnet.measures.overlap import dice_per_class
from uresnet.model.catalogue import ModelCard
from uresnet.model.checkpoint import MIDSPACE, save_model
from uresnet.model.network import placed
from uresnet.model.segmenter import Segmenter, blocks_to_channels
from uresnet.training.context import TrainingContext
from uresnet.training.data.classes import class_table
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.blocks import Block, BlockMaker
from uresnet.training.examples.label_maps import read_label_maps
from uresnet.training.loop import Trainer
from uresnet.training.objective import segmentation_terms
from uresnet.training.optimisers.muon import Muon
from uresnet.training.samples import PAIRS, Sample, sample_alone
from uresnet.training.validation import Validation, mean_per_structure

SCHEME = SCHEMES["freesurfer32"]
"""The structures of the segmenter."""

_ADAM_RATE = 0.7


class SegmenterTrainer(Trainer[Segmenter]):
    """Trains a :class:`~uresnet.model.segmenter.Segmenter` on the scans of a store and on label maps."""

    def __init__(
        self, config: Config, training: DeviceStore, validation: DeviceStore | None, context: TrainingContext
    ) -> None:
        settings = config.segmenter or SegmenterConfig()
        _check_fit(settings, training)
        device = training.images.device
        maps = None
        if config.blocks.label_maps:
            maps = read_label_maps(Path(config.blocks.label_maps), context.description.conform).to(device)
        self.training, self.validation = training, validation
        self.make_block = BlockMaker(config.blocks, training, maps, SCHEME)
        torch.manual_seed(config.training.seed)
        network = Segmenter(settings)
        placed(network, device, config.training.channels_last)
        super().__init__(config, network, SCHEME, device, context)

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
        return segmentation_terms(logits.float().flatten(0, 1), truth.flatten())

    def _judged_voxels(self, block: Block, parts: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The half-resolution voxels (V,) on which the loss is computed, and their true classes (V, parts).

        They are all voxels of the brain and a random share of the others.
        """
        classes = blocks_to_channels(block.classes)[0].flatten(1)
        brain = (blocks_to_channels(block.image)[0].flatten(1) > 0).any(0) | (classes > 0).any(0)
        drawn = torch.rand(brain.shape, generator=generator, device=brain.device) < self.config.blocks.background
        voxels = (brain | drawn).nonzero()[:, 0]
        return voxels, classes[parts][:, voxels].T.long()

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Dice of every structure, mean over the whole validation scans; a structure that no scan has is NaN."""
        if self.validation is None:
            return None
        network = self.judged.eval()
        axes = self.context.description.conform.axis_codes
        own: list[tuple[int, list[float], list[float], Sample | None]] = []
        for number in range(self.team.rank, len(self.validation.scans), self.team.size):
            image, labels = self.validation.batch([number])
            predicted = network(image)[0].long()
            seen = sample_alone(image, predicted, labels, SCHEME, axes) if number < PAIRS else None
            own.append((number, *_dice(predicted, labels[0, 0].long()), seen))
        results = sorted(self.team.gathered(own), key=lambda result: result[0])
        _, dice, dice_table1, samples = zip(*results, strict=True)
        return Validation(
            tuple(mean_per_structure(dice).tolist()),
            step=self.progress.step,
            samples=tuple(seen for seen in samples if seen is not None),
            table1=tuple(mean_per_structure(dice_table1).tolist()),
        )

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """Mean Dice over the fifteen structures of Table 1 and over the network's own, for the card of a model."""
        return {
            "training step": result.step,
            "validation scans": self.scans[1],
            "segmentation Dice, 15 structures": round(float(np.nanmean(result.table1)), 4),
            f"segmentation Dice, {len(SCHEME.classes)} structures": round(float(np.nanmean(result.segmentation)), 4),
        }

    def write(self, path: Path) -> None:
        """Write a model of the kind midspace, with 16 bits a weight."""
        about = self.context.description
        card = ModelCard(
            name=about.name,
            kind=MIDSPACE,
            network=to_dict(self.judged.config),
            conform=asdict(about.conform),
            scheme=SCHEME.name,
            classes=[(structure.name, list(structure.ids)) for structure in SCHEME.classes],
            licence=about.licence,
            trained_on=about.trained_on,
            figures=self._figures,
        )
        save_model(path, self.judged, card, half=True)


def _check_fit(settings: SegmenterConfig, training: DeviceStore) -> None:
    """Raises :class:`UserError` when the network does not fit the label scheme or the images."""
    if settings.classes != SCHEME.number_of_classes:
        raise UserError(f"segmenter.classes must be {SCHEME.number_of_classes}, those of {SCHEME.name}.")
    shape, multiple = training.images.shape[2:], 2 ** len(settings.channels)
    if any(n % multiple for n in shape):
        raise UserError(
            f"The segmenter needs images whose sides are multiples of {multiple} voxels, these have "
            f"{' × '.join(map(str, shape))}; prepare them with --conform default."
        )


def _dice(predicted: Tensor, true_ids: Tensor) -> tuple[list[float], list[float]]:
    """Dice of every structure of the scheme, and of those of Table 1, of predicted classes against FreeSurfer ids."""
    table1 = label_scheme("table1")
    ids = torch.tensor([0, *SCHEME.ids], device=predicted.device)
    class_of_id, table1_of_id = class_table(SCHEME, predicted.device), class_table(table1, predicted.device)
    sided = dice_per_class(predicted, class_of_id[true_ids], SCHEME.number_of_classes)
    merged = dice_per_class(table1_of_id[ids[predicted]], table1_of_id[true_ids], table1.number_of_classes)
    return sided.tolist(), merged.tolist()
