"""The training of the flagship's segmenter: random blocks, some of them synthetic, judged in every structure."""

from __future__ import annotations

import warnings
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
from uresnet.training.data.classes import class_table
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples.blocks import NOT_JUDGED, Block, BlockMaker
from uresnet.training.examples.label_maps import read_label_maps
from uresnet.training.loop import Loop, Report, Surroundings, Validation
from uresnet.training.optimisers.muon import Muon
from uresnet.training.samples import PAIRS, Sample, sample_alone

SCHEME = SCHEMES["freesurfer32"]
"""What the segmenter tells apart."""

_ADAM_RATE = 0.7


class SegmenterTrainer(Loop[Segmenter]):
    """Trains a :class:`~uresnet.model.segmenter.Segmenter` on the scans of a store and on label maps."""

    def __init__(
        self,
        config: Config,
        training: DeviceStore,
        validation: DeviceStore | None,
        folder: Path,
        report: Report,
        surroundings: Surroundings | None = None,
    ) -> None:
        surroundings = surroundings or Surroundings()
        shape = config.segmenter or SegmenterConfig()
        if shape.classes != SCHEME.number_of_classes:
            raise UserError(f"segmenter.classes must be {SCHEME.number_of_classes}, those of {SCHEME.name}.")
        device, grid, multiple = training.images.device, training.images.shape[2:], 2 ** len(shape.channels)
        if any(n % multiple for n in grid):
            raise UserError(
                f"The segmenter needs images whose sides are multiples of {multiple} voxels, these have "
                f"{' × '.join(map(str, grid))}; prepare them with --conform default."
            )
        maps = None
        if config.blocks.label_maps:
            maps = read_label_maps(Path(config.blocks.label_maps), surroundings.about.conform).to(device)
        self.training, self.validation = training, validation
        self.make_block = BlockMaker(config.blocks, training, maps, SCHEME)
        torch.manual_seed(config.training.seed)
        network = Segmenter(shape)
        placed(network, device, config.training.channels_last)
        super().__init__(config, network, SCHEME, device, folder, report, surroundings)

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
        """How many there are to train on and to validate with."""
        return len(self.training.scans), len(self.validation.scans) if self.validation else 0

    def make_optimiser(self) -> torch.optim.Optimizer:
        """Muon for the inner convolutions, AdamW for the first and the last layers and the normalisations."""
        if self.config.training.optimiser != "muon":
            return torch.optim.Adam([{"params": list(self.network.parameters()), "factor": 1.0}])
        inner: list[Tensor] = []
        others: list[Tensor] = []
        for name, parameter in self.network.named_parameters():
            outer = name.split(".")[0] in ("stem", "hidden", "head") or parameter.ndim < 5
            (others if outer else inner).append(parameter)
        return Muon(
            [
                {"params": inner, "factor": 1.0, "orthogonal": True},
                {"params": others, "factor": _ADAM_RATE, "orthogonal": False},
            ]
        )

    def terms(self, part: int) -> dict[str, Tensor]:
        """Cross-entropy and Dice of the next blocks of this process."""
        t = self.config.training
        self.progress.epoch = self.progress.step // self.batches_per_epoch()
        own = (part * self.team.size + self.team.rank) * t.batch_size
        sums: dict[str, Tensor] = {}
        for place in range(own, own + t.batch_size):
            for name, value in self._judge(place).items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value / t.batch_size
        return sums

    def _judge(self, place: int) -> dict[str, Tensor]:
        generator = self.seed(place)
        with torch.no_grad():
            block = self.make_block(generator)
            chosen = torch.randperm(8, generator=generator, device=self.device)[: self.config.blocks.parts].tolist()
            voxels, truth = self._judged_voxels(block, chosen, generator)
        with self.in_precision():
            features = self.network.features(block.image)
            flat = features.movedim(1, -1).reshape(-1, features.shape[1])[voxels]
            logits = self.network.logits(flat.T[None, :, :, None, None], chosen)[0]
        return segmentation_terms(logits.float().flatten(0, 1), truth.flatten())

    def _judged_voxels(self, block: Block, parts: list[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Half-resolution voxels (V,): all of the brain, a share of the others; and their classes (V, parts)."""
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
        axes = self.surroundings.about.conform.axis_codes
        merged = label_scheme("table1")
        ids = torch.tensor([0, *SCHEME.ids], device=self.device)
        sided_table, table = class_table(SCHEME, self.device), class_table(merged, self.device)
        found: list[tuple[int, np.ndarray, np.ndarray, Sample | None]] = []
        for number in range(self.team.rank, len(self.validation.scans), self.team.size):
            image, labels = self.validation.batch([number])
            predicted = network(image)[0].long()
            known = labels[0, 0].long()
            sided = dice_per_class(predicted, sided_table[known], SCHEME.number_of_classes)
            table1 = dice_per_class(table[ids[predicted]], table[known], merged.number_of_classes)
            seen = sample_alone(image, predicted, labels, SCHEME, axes) if number < PAIRS else None
            found.append((number, sided.cpu().numpy(), table1.cpu().numpy(), seen))
        _, sides, tables, pictures = zip(*sorted(self.team.gathered(found), key=lambda one: one[0]), strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a structure that no validation image has stays NaN
            means, merged_means = np.nanmean(sides, axis=0), np.nanmean(tables, axis=0)
        return Validation(
            tuple(means.tolist()),
            step=self.progress.step,
            samples=tuple(one for one in pictures if one is not None),
            table1=tuple(merged_means.tolist()),
        )

    def as_figures(self, result: Validation) -> dict[str, Any]:
        """Mean Dice over the fifteen structures of Table 1 and over the network's own."""
        return {
            "training step": result.step,
            "validation scans": self.scans[1],
            "segmentation Dice, 15 structures": round(float(np.nanmean(result.table1)), 4),
            f"segmentation Dice, {len(SCHEME.classes)} structures": round(float(np.nanmean(result.segmentation)), 4),
        }

    def write(self, path: Path) -> None:
        """A model of the flagship's kind, with 16 bits a weight."""
        about = self.surroundings.about
        card = ModelCard(
            name=about.name,
            kind=MIDSPACE,
            network=to_dict(self.judged.config),
            conform=asdict(about.conform),
            scheme=SCHEME.name,
            classes=[(one.name, list(one.ids)) for one in SCHEME.classes],
            licence=about.licence,
            trained_on=about.trained_on,
            figures=self._figures,
        )
        save_model(path, self.judged, card, half=True)


def segmentation_terms(logits: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Cross-entropy, and one minus the soft Dice averaged over the structures that are there; logits (N, C), truth (N,)
    of classes, ``NOT_JUDGED`` left out."""
    known = truth != NOT_JUDGED
    logits, truth = logits[known], truth[known]
    logarithms = logits.log_softmax(dim=1)
    found = logarithms.gather(1, truth[:, None])[:, 0]  # a GPU sums it far faster than it finds the cross-entropy
    entropy = -found.mean() if len(truth) else logits.sum() * 0
    count = torch.bincount(truth, minlength=logits.shape[1]).to(logits.dtype)
    probabilities = logarithms.exp()
    both = torch.zeros_like(count).index_add(0, truth, found.exp())
    dice = 2 * both / (probabilities.sum(0) + count).clamp(min=1e-6)
    there = count[1:] > 0
    missed = 1 - dice[1:][there].mean() if there.any() else logits.sum() * 0
    return {"cross_entropy": entropy, "dice": missed, "total": entropy + missed}
