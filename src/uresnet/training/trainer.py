"""The training of networks that take a pair: random pairs of a store, and how they are judged."""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uresnet.config import Config, Stage, TrainingConfig
from uresnet.core.labels import label_scheme
from uresnet.errors import UserError
from uresnet.model.christodoulidis import PairNetwork, pair_network
from uresnet.model.network import UResNetOutput, placed
from uresnet.training.data.pairs import random_pairs, ring_pairs
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.augment import Augmenter
from uresnet.training.examples.geometry import mirror, mirror_slope, ventricle_slope
from uresnet.training.loop import Loop, Report, Surroundings, Validation
from uresnet.training.objective import Batch, Objective, PairScore, at_resolution, score_pair
from uresnet.training.optimisers.soap import Soap
from uresnet.training.samples import PAIRS, Sample, take_sample
from uresnet.training.state import write_model
from uresnet.transform.deformation import GridConvention


class Trainer(Loop[PairNetwork]):
    """Trains a network on a store of images; writes checkpoints into ``folder``; tells ``report`` what happens."""

    def __init__(
        self,
        config: Config,
        training: DeviceStore,
        validation: DeviceStore | None,
        folder: Path,
        report: Report,
        surroundings: Surroundings | None = None,
    ) -> None:
        device = training.images.device
        self.stores = {1: training}
        self.validation_stores = {1: validation} if validation is not None else {}
        self.slopes = [ventricle_slope(volume) for volume in training.labels] if config.augment.ventricles else None
        torch.manual_seed(config.training.seed)
        network = pair_network(config.model)
        for stage in config.training.stages:
            _check_blocks(training.images.shape[2:], stage.downsampling, network.multiple_of)
            _check_loss_blocks(training.images.shape[2:], stage.loss_downsampling or config.losses.downsampling)
        placed(network, device, config.training.channels_last)
        scheme = label_scheme(config.model.scheme)
        self.convention = GridConvention(config.model.convention)
        self.objective = Objective(config.losses, scheme, self.convention, device)
        super().__init__(config, network, scheme, device, folder, report, surroundings)

    @property
    def examples_per_epoch(self) -> int:
        """As many pairs as there are images."""
        return len(self.stores[1].scans)

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels of the present stage's images."""
        return tuple(self.stores[self.stage().downsampling].images.shape[2:])

    @property
    def scans(self) -> tuple[int, int]:
        """How many there are to train on and to validate with."""
        validation = self.validation_stores.get(1)
        return len(self.stores[1].scans), len(validation.scans) if validation else 0

    def make_optimiser(self) -> torch.optim.Optimizer:
        """The configured one; the heads have rates of their own."""
        return _optimiser(self.network, self.config.training)

    def terms(self, part: int) -> dict[str, Tensor]:
        """The paper's loss on the next pairs."""
        batch = self._next_batch(part)
        return self.objective(self.predict(batch), batch, self.stage().loss_downsampling)

    def write(self, path: Path) -> None:
        """A model of the paper's kind."""
        write_model(path, self.judged, self.surroundings.about, self._figures, self.config)

    def predict(self, batch: Batch) -> UResNetOutput:
        """The network on a batch: convolutions in the configured precision, the output at the batch's resolution."""
        with self.in_precision():
            output = self.network(batch.moving, batch.fixed)
        return at_resolution(output, batch.downsampling)

    # -- data ----------------------------------------------------------------------------------------------------

    def _next_batch(self, part: int) -> Batch:
        """This process's pairs of the accumulated batch ``part`` of this update."""
        t = self.config.training
        per_epoch = self.batches_per_epoch()
        epoch, index = divmod(self.progress.step, per_epoch)
        self.progress.epoch = epoch
        pairs = random_pairs(len(self.stores[1].scans), per_epoch * self.pairs_per_update, t.seed, epoch)
        own = (part * self.team.size + self.team.rank) * t.batch_size
        store = self._store(self.stores, self.stage())
        chosen = []
        for place in range(own, own + t.batch_size):
            self.seed(place)
            chosen.append(self._augmented(store, *pairs[index * self.pairs_per_update + place]))
        moving, fixed, moving_labels, fixed_labels = (torch.cat(side) for side in zip(*chosen, strict=True))
        return Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)

    def _augmented(self, store: DeviceStore, moving: int, fixed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Moving and fixed image, then their labels, each (1, 1, I, J, K)."""
        augmenter = Augmenter(self.config.augment, store.downsampling)
        with torch.no_grad():
            mirrored = augmenter.flips(self._generator)
            sides = []
            for index in (moving, fixed):
                images, labels = store.batch([index])
                slope = self.slopes[index] if self.slopes else None
                if mirrored:
                    images, labels = mirror(images, labels)
                    slope = mirror_slope(slope) if slope is not None else None
                sides.append(augmenter(images, labels, self._generator, slope))
        return sides[0][0], sides[1][0], sides[0][1], sides[1][1]

    def _store(self, stores: dict[int, DeviceStore], stage: Stage) -> DeviceStore:
        if stage.downsampling not in stores:
            stores[stage.downsampling] = stores[1].downsampled(stage.downsampling)
        return stores[stage.downsampling]

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, stage: Stage | None = None) -> Validation | None:
        """Score the fixed validation pairs in float32 at the stage's resolution; None without validation images.

        Processes share the pairs; all get the whole result.
        """
        if not self.validation_stores:
            return None
        network = self.judged.eval()
        store = self._store(self.validation_stores, stage or self.stage())
        pairs = ring_pairs(len(store.scans))
        axes = self.surroundings.about.conform.axis_codes
        found: list[tuple[int, PairScore, Sample | None]] = []
        for number in range(self.team.rank, len(pairs), self.team.size):
            m, f = pairs[number]
            (moving, moving_labels), (fixed, fixed_labels) = store.batch([m]), store.batch([f])
            batch = Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)
            output = at_resolution(network(moving, fixed), store.downsampling)
            seen = take_sample(output, batch, self.scheme, self.convention, axes) if number < PAIRS else None
            found.append((number, score_pair(output, batch, self.scheme, self.convention), seen))
        everyones = sorted(self.team.gathered(found), key=lambda one: one[0])
        means = _mean_of([score for _, score, _ in everyones], self.progress.step, store.downsampling)
        return dataclasses.replace(means, samples=tuple(seen for _, _, seen in everyones if seen is not None))

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """For the card of a model: what was measured on the validation pairs, on the network's grid."""
        figures: dict[str, Any] = {
            "training step": result.step,
            "validation pairs": len(result.scores),
            "registration Dice, 15 structures": round(result.registration, 4),
            "folding fraction": float(f"{result.folding:.3g}"),
        }
        for one, dice in zip(self.scheme.classes, result.segmentation, strict=False):
            figures[f"segmentation Dice, {one.name}"] = None if math.isnan(dice) else round(dice, 4)
        if result.downsampling > 1:
            figures["measured on blocks of voxels"] = result.downsampling
        return figures


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


def _optimiser(network: PairNetwork, config: TrainingConfig) -> torch.optim.Optimizer:
    groups = _parameter_groups(network, config)
    return Soap(groups) if config.optimiser == "soap" else torch.optim.Adam(groups)


def _parameter_groups(network: PairNetwork, config: TrainingConfig) -> list[dict]:
    affine = list(network.affine_head.parameters())
    deformable = list(network.deformable_head.layers[-1].parameters())
    known = {id(p) for p in affine + deformable}
    others = [p for p in network.parameters() if id(p) not in known]
    return [
        {"params": others, "factor": 1.0},
        {"params": affine, "factor": config.affine_rate},
        {"params": deformable, "factor": config.deformable_rate},
    ]


def _mean_of(scores: list[PairScore], step: int, downsampling: int) -> Validation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a structure that no validation image has stays NaN
        segmentation = tuple(float(v) for v in np.nanmean(np.array([s.segmentation for s in scores]), axis=0))
    return Validation(
        registration=float(np.mean([s.registration for s in scores])),
        segmentation=segmentation,
        mse=float(np.mean([s.mse for s in scores])),
        folding=float(np.mean([s.folding for s in scores])),
        scores=tuple(scores),
        step=step,
        downsampling=downsampling,
    )
