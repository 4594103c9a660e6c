"""The training of the network that finds the brain in a head, on heads made from label maps."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uresnet.config import Config, ConformSpec, HeadConfig
from uresnet.core.labels import SCHEMES, LabelScheme
from uresnet.measures.overlap import dice_per_class
from uresnet.model.catalogue import BRAIN, ModelCard
from uresnet.training.context import TrainingContext
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.blocks import NOT_JUDGED
from uresnet.training.examples.heads import HeadMaker, block_shape
from uresnet.training.examples.structures import StructureMaker
from uresnet.training.samples import PAIRS, Sample, sample_alone
from uresnet.training.segmenter_trainer import SegmenterTrainer
from uresnet.training.validation import Validation, mean_per_structure

_CONFORM = ConformSpec((160, 192, 160), (1, 1, 1), ("R", "A", "S"), 16, "percentile", "box")

LOOKS = 4
"""How many images are made of every held-out head, always the same ones."""


class FinderTrainer(SegmenterTrainer):
    """Trains the network of ``preprocess.skull`` on a store of heads (:func:`~.data.label_maps.read_head`)."""

    found = "the brain"

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
            known = block.classes != NOT_JUDGED
            true = torch.where(known, block.classes, 0)
            predicted = network(block.image)[0] * known[0, 0]
            dice = dice_per_class(predicted.long(), true[0, 0].long(), self.scheme.number_of_classes)
            seen = None
            if number < PAIRS:
                ids = torch.tensor([0, *self.scheme.ids], device=true.device)[true.int()]
                seen = sample_alone(block.image, predicted, ids, self.scheme, axes)
            own.append((number, dice.tolist(), seen))
        results = sorted(self.team.gathered(own), key=lambda result: result[0])
        _, dice_of_all, samples = zip(*results, strict=True)
        return Validation(
            tuple(mean_per_structure(dice_of_all).tolist()),
            step=self.progress.step,
            samples=(*(seen for seen in samples if seen is not None), *self._examples()),
        )

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """Mean Dice, for the card of the model."""
        return {
            "training step": result.step,
            "validation heads": self.scans[1],
            f"Dice of {self.found}, images made from validation heads": round(
                float(np.nanmean(result.segmentation)), 4
            ),
        }

    def card(self) -> ModelCard:
        """A card of the kind of networks that find the brain, which see images as they are: none is conformed."""
        return replace(super().card(), kind=BRAIN, conform=asdict(ConformSpec()), scheme="", classes=[])


class StructureTrainer(FinderTrainer):
    """Trains a segmenter for any contrast on the brains of a store of heads, on voxels of 2 mm."""

    found = "the structures"

    @staticmethod
    def scheme_of(config: Config) -> LabelScheme:
        """The structures of a healthy brain."""
        return SCHEMES["freesurfer32"]

    @staticmethod
    def maker_of(config: Config, training: DeviceStore, context: TrainingContext) -> StructureMaker:
        """Brains of any contrast."""
        return StructureMaker(config.heads or HeadConfig(), config.blocks, training, SCHEMES["freesurfer32"])

    def card(self) -> ModelCard:
        """A card of the kind midspace, whose images are conformed as for the other packaged ones."""
        return replace(SegmenterTrainer.card(self), conform=asdict(_CONFORM))

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of another segmenter, or all but the last layers of a network that finds brains."""
        own = self.network.state_dict()
        last = {name: value for name, value in own.items() if name.startswith(("hidden.", "head."))}
        super().start_from(weights if weights["head.weight"].shape == own["head.weight"].shape else weights | last)
