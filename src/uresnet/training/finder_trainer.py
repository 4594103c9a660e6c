"""The training of the network that finds the brain in a head, on heads made from label maps."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from uresnet.config import Config, ConformSpec, HeadConfig
from uresnet.core.labels import SCHEMES, LabelScheme
from uresnet.measures.overlap import dice_per_class
from uresnet.model.catalogue import BRAIN, ModelCard
from uresnet.training.context import TrainingContext
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.heads import HeadMaker, block_shape
from uresnet.training.samples import PAIRS, Sample, sample_alone
from uresnet.training.segmenter_trainer import SegmenterTrainer
from uresnet.training.validation import Validation, mean_per_structure

LOOKS = 4
"""How many images are made of every held-out head, always the same ones."""


class FinderTrainer(SegmenterTrainer):
    """Trains the network of ``preprocess.skull`` on a store of heads (:func:`~.data.label_maps.read_head`)."""

    def __init__(
        self, config: Config, training: DeviceStore, validation: DeviceStore | None, context: TrainingContext
    ) -> None:
        super().__init__(config, training, validation, context)
        self.make_unseen = self.maker_of(config, validation, context) if validation else None

    @staticmethod
    def scheme_of(config: Config) -> LabelScheme:
        """One class, the brain."""
        return SCHEMES["brain"]

    @staticmethod
    def maker_of(config: Config, training: DeviceStore, context: TrainingContext) -> HeadMaker:
        """Heads of any contrast."""
        return HeadMaker(config.heads or HeadConfig(), config.blocks, training)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of a block, of 2 mm."""
        return block_shape(self.config.blocks.shape, self.training.labels.shape[2:])

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Dice of the brain in ``LOOKS`` random images of each held-out head."""
        if self.validation is None or self.make_unseen is None:
            return None
        axes = self.context.description.conform.axis_codes
        network, heads = self.judged.eval(), len(self.validation.scans)
        own: list[tuple[int, list[float], Sample | None]] = []
        for number in range(self.team.rank, LOOKS * heads, self.team.size):
            generator = torch.Generator(self.device).manual_seed(number)
            block = self.make_unseen(generator, number % heads)
            predicted = network(block.image)[0]
            dice = dice_per_class(predicted.long(), block.classes[0, 0].long(), self.scheme.number_of_classes)
            seen = None
            if number < PAIRS:
                true = block.classes * self.scheme.ids[0]
                seen = sample_alone(block.image, predicted, true, self.scheme, axes)
            own.append((number, dice.tolist(), seen))
        results = sorted(self.team.gathered(own), key=lambda result: result[0])
        _, dice_of_all, samples = zip(*results, strict=True)
        return Validation(
            tuple(mean_per_structure(dice_of_all).tolist()),
            step=self.progress.step,
            samples=(*(seen for seen in samples if seen is not None), *self._examples()),
        )

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """Dice of the brain, for the card of the model."""
        return {
            "training step": result.step,
            "validation heads": self.scans[1],
            "Dice of the brain, images made from validation heads": round(float(np.nanmean(result.segmentation)), 4),
        }

    def card(self) -> ModelCard:
        """A card of the kind of networks that find the brain, which see images as they are: none is conformed."""
        return replace(super().card(), kind=BRAIN, conform=asdict(ConformSpec()), scheme="", classes=[])
