"""The training of networks that take a pair: random pairs of scans, and how they are judged."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uresnet.config import Config, Stage, TrainingConfig, to_dict
from uresnet.core.labels import label_scheme
from uresnet.errors import UserError
from uresnet.model.catalogue import METADATA_KEY
from uresnet.model.checkpoint import uresnet_card
from uresnet.model.christodoulidis import PairNetwork, pair_network
from uresnet.model.network import UResNetOutput, placed
from uresnet.training.context import TrainingContext
from uresnet.training.data.pairs import random_pairs, ring_pairs
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.augment import Augmenter
from uresnet.training.examples.draws import chance
from uresnet.training.examples.geometry import mirror, mirror_slope, ventricle_slope
from uresnet.training.examples.painted_scans import ScanPainter
from uresnet.training.examples.synthesis import grey_values
from uresnet.training.loop import Trainer
from uresnet.training.objective import Batch, PairObjective, at_resolution
from uresnet.training.optimisers.soap import Soap
from uresnet.training.samples import PAIRS, Sample, sample_pair
from uresnet.training.state import write_tensors
from uresnet.training.validation import PairScore, Validation, mean_of_pairs, score_pair
from uresnet.transform import GridConvention


class PairTrainer(Trainer[PairNetwork]):
    """Trains a network of the paper's kind, or that of Christodoulidis et al., on the scans of a store."""

    def __init__(
        self, config: Config, training: DeviceStore, validation: DeviceStore | None, context: TrainingContext
    ) -> None:
        device = training.images.device
        self.stores = {1: training}
        self.validation_stores = {1: validation} if validation is not None else {}
        self.slopes = [ventricle_slope(volume) for volume in training.labels] if config.augment.ventricles else None
        self.greys = grey_values(training)[0] if config.abnormal else None
        torch.manual_seed(config.training.seed)
        network = pair_network(config.model)
        for stage in config.training.stages:
            _check_blocks(training.images.shape[2:], stage.downsampling, network.multiple_of)
            _check_loss_blocks(training.images.shape[2:], stage.loss_downsampling or config.losses.downsampling)
        placed(network, device, config.training.channels_last)
        scheme = label_scheme(config.model.scheme)
        self.convention = GridConvention(config.model.convention)
        self.objective = PairObjective(config.losses, scheme, self.convention, device)
        super().__init__(config, network, scheme, device, context)

    @property
    def examples_per_epoch(self) -> int:
        """As many pairs as there are scans."""
        return len(self.stores[1].scans)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the present stage's images."""
        return tuple(_store_of(self.stores, self.stage()).images.shape[2:])

    @property
    def scans(self) -> tuple[int, int]:
        """The numbers of scans to train on and to validate on."""
        validation = self.validation_stores.get(1)
        return len(self.stores[1].scans), len(validation.scans) if validation else 0

    def make_optimiser(self) -> torch.optim.Optimizer:
        """The configured one; the heads have rates of their own."""
        groups = _parameter_groups(self.network, self.config.training)
        return Soap(groups) if self.config.training.optimiser == "soap" else torch.optim.Adam(groups)

    def terms(self, part: int) -> dict[str, Tensor]:
        """The paper's loss on the next pairs."""
        batch = self._next_batch(part)
        with self.autocast():
            output = self.network(batch.moving, batch.fixed)
        return self.objective(at_resolution(output, batch.downsampling), batch, self.stage().loss_downsampling)

    def write(self, path: Path) -> None:
        """Write a model of the paper's kind, with the configuration of its training.

        A training that ends on means over blocks of voxels makes a model that sees such means.
        """
        network, about, side = self.judged, self.context.description, self.config.training.stages[-1].downsampling
        scale = network.config.affine_translation_scale / side
        card = uresnet_card(
            about.name,
            dataclasses.replace(network.config, affine_translation_scale=scale),
            dataclasses.replace(about.conform, blocks=side, multiple_of=side * about.conform.multiple_of),
            licence=about.licence,
            trained_on=about.trained_on,
            figures=self._figures,
        )
        metadata = {METADATA_KEY: card.to_json(), "config": json.dumps(to_dict(self.config))}
        write_tensors(path, {name: value.float() for name, value in network.state_dict().items()}, metadata)

    # -- examples ------------------------------------------------------------------------------------------------

    def _next_batch(self, part: int) -> Batch:
        """This process's pairs of the accumulated batch ``part`` of this update."""
        t = self.config.training
        per_epoch = self.batches_per_epoch()
        epoch, index = divmod(self.progress.step, per_epoch)
        self.progress.epoch = epoch
        pairs = random_pairs(len(self.stores[1].scans), per_epoch * self.examples_per_update, t.seed, epoch)
        first = (part * self.team.size + self.team.rank) * t.batch_size
        store = _store_of(self.stores, self.stage())
        examples = [
            self._augmented(store, pairs[index * self.examples_per_update + place], self.generator_for(place))
            for place in range(first, first + t.batch_size)
        ]
        moving, fixed, moving_labels, fixed_labels = (torch.cat(volumes) for volumes in zip(*examples, strict=True))
        return Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)

    @torch.no_grad()
    def _augmented(
        self, store: DeviceStore, pair: tuple[int, int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The moving and the fixed image of a pair, then their labels, each (1, 1, I, J, K)."""
        augmenter = Augmenter(self.config.augment, store.downsampling)
        painter = self._painter(store.downsampling)
        mirrored = augmenter.flips(generator)
        changed = []
        for number, role in zip(pair, ("moving", "fixed"), strict=True):
            image, labels = store.batch([number])
            slope = self.slopes[number] if self.slopes else None
            if mirrored:
                image, labels = mirror(image, labels)
                slope = mirror_slope(slope) if slope is not None else None
            if painter is not None and chance(getattr(painter.config, role), generator):
                image, labels = painter(image, labels, generator)
            changed.append(augmenter(image, labels, generator, slope))
        (moving, moving_labels), (fixed, fixed_labels) = changed
        return moving, fixed, moving_labels, fixed_labels

    def _painter(self, downsampling: int) -> ScanPainter | None:
        """What paints abnormal tissue into images of this resolution; None where the scans stay as they are."""
        if self.config.abnormal is None or self.greys is None:
            return None
        conform = self.context.description.conform
        voxel_mm = conform.blocks * math.prod(conform.zooms) ** (1 / 3)
        return ScanPainter(self.config.abnormal, self.greys, voxel_mm, downsampling)

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Score the validation pairs in float32 at the present stage's resolution; None without validation images.

        Processes share the pairs; all get the whole result. Where the training paints abnormal tissue, the moving scan
        of every pair has some too, always the same.
        """
        if not self.validation_stores:
            return None
        network = self.judged.eval()
        store = _store_of(self.validation_stores, self.stage())
        pairs = ring_pairs(len(store.scans))
        painter = self._painter(store.downsampling)
        axes = self.context.description.conform.axis_codes
        own: list[tuple[int, PairScore, Sample | None]] = []
        for number in range(self.team.rank, len(pairs), self.team.size):
            (moving, moving_labels), (fixed, fixed_labels) = (store.batch([scan]) for scan in pairs[number])
            if painter is not None:
                generator = torch.Generator(moving.device).manual_seed(number)
                moving, moving_labels = painter(moving, moving_labels, generator)
            batch = Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)
            output: UResNetOutput = at_resolution(network(moving, fixed), store.downsampling)
            seen = sample_pair(output, batch, self.scheme, self.convention, axes) if number < PAIRS else None
            own.append((number, score_pair(output, batch, self.scheme, self.convention), seen))
        results = sorted(self.team.gathered(own), key=lambda result: result[0])
        means = mean_of_pairs([score for _, score, _ in results], self.progress.step, store.downsampling)
        return dataclasses.replace(means, samples=tuple(seen for _, _, seen in results if seen is not None))

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """What was measured on the validation pairs, on the network's grid, for the card of a model."""
        figures: dict[str, Any] = {
            "training step": result.step,
            "validation pairs": len(result.scores),
            "registration Dice, 15 structures": round(result.registration, 4),
            "folding fraction": float(f"{result.folding:.3g}"),
        }
        for structure, dice in zip(self.scheme.classes, result.segmentation, strict=False):
            figures[f"segmentation Dice, {structure.name}"] = None if math.isnan(dice) else round(dice, 4)
        if result.downsampling > 1:
            figures["measured on blocks of voxels"] = result.downsampling
        return figures


def _store_of(stores: dict[int, DeviceStore], stage: Stage) -> DeviceStore:
    """The store at the resolution of ``stage``, made from that of full resolution when it is first needed."""
    if stage.downsampling not in stores:
        stores[stage.downsampling] = stores[1].downsampled(stage.downsampling)
    return stores[stage.downsampling]


def _check_blocks(shape: Sequence[int], side: int, multiple_of: int) -> None:
    """Raises :class:`UserError` when images of ``shape`` cannot be divided into blocks that the network takes."""
    if any(n % (side * multiple_of) for n in shape):
        size = " × ".join(str(n) for n in shape)
        raise UserError(
            f"training.stages: with downsampling {side}, every axis of the images must be a multiple of "
            f"{side * multiple_of} voxels, and they are {size}; choose another downsampling."
        )


def _check_loss_blocks(shape: Sequence[int], side: int) -> None:
    """Raises :class:`UserError` when images of ``shape`` cannot be divided into the loss's blocks."""
    if any(n % side for n in shape):
        size = " × ".join(str(n) for n in shape)
        raise UserError(
            f"The loss's downsampling of {side} (losses.downsampling, or loss_downsampling of a stage) does not divide "
            f"the images of {size} voxels; choose another."
        )


def _parameter_groups(network: PairNetwork, config: TrainingConfig) -> list[dict[str, Any]]:
    affine = list(network.affine_head.parameters())
    deformable = list(network.deformable_head.layers[-1].parameters())
    in_heads = {id(p) for p in affine + deformable}
    others = [p for p in network.parameters() if id(p) not in in_heads]
    return [
        {"params": others, "factor": 1.0},
        {"params": affine, "factor": config.affine_rate},
        {"params": deformable, "factor": config.deformable_rate},
    ]
