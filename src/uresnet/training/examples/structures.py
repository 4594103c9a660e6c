"""Examples for a segmenter that learns from label maps alone: brains of any contrast on voxels of 2 mm.

They are made as heads are, and then taken out of their heads, as brain extraction does: with a little of what lies
around, with more here and there, or with hardly more than tissue.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import BlockConfig, HeadConfig
from uresnet.core.labels import LabelScheme
from uresnet.core.sampling import sample
from uresnet.training.data.classes import class_table, mirror_table
from uresnet.training.data.label_maps import FLUID, OUTSIDE, UNCERTAIN_IDS
from uresnet.training.data.store import DeviceStore
from uresnet.training.examples import acquisition
from uresnet.training.examples.blocks import NOT_JUDGED, Block
from uresnet.training.examples.draws import between, chance
from uresnet.training.examples.geometry import grown_ventricles, ventricle_slope
from uresnet.training.examples.heads import HeadMaker, with_abnormal_tissue


class StructureMaker(HeadMaker):
    """Makes random :class:`Block` s of the brains of a store of heads; classes are those of a ``scheme``.

    Fluid around the brain is of the class CSF where the image shows it: nobody has drawn which part of it is sulcal.
    """

    def __init__(self, config: HeadConfig, blocks: BlockConfig, store: DeviceStore, scheme: LabelScheme) -> None:
        super().__init__(config, blocks, store)
        self.slopes = [ventricle_slope(volume) for volume in store.labels]
        self.classes = class_table(scheme, store.labels.device).to(torch.uint8)
        self.classes[[value for value in UNCERTAIN_IDS if value != FLUID]] = NOT_JUDGED
        self.classes[OUTSIDE.start : OUTSIDE.stop] = 0

    def __call__(self, generator: torch.Generator, number: int | None = None) -> Block:
        """One block, of a random brain or that with a ``number``; all that is random comes from the generator."""
        c, number = self.config, self._number(generator) if number is None else number
        volume, mask = self.store.labels[number][None], self.store.images[number][None]
        coordinates = self._coordinates(number, generator)
        if chance(self.blocks.ventricles, generator):
            growth = self.blocks.ventricle_growth
            coordinates = grown_ventricles(coordinates, self.slopes[number], growth, generator)
        labels = sample(volume, coordinates, mode="nearest").to(torch.uint8)
        brain = sample(mask.float() * self.store.image_scale, coordinates) > 0.5
        image = self._painted(volume, coordinates, labels, generator)
        if chance(c.abnormal, generator):
            image = with_abnormal_tissue(image, labels, generator)
        image = self._acquired(image, generator)
        kept = self._extracted(labels, brain, generator)
        if chance(self.blocks.flip, generator):
            image, kept, labels = image.flip(2), kept.flip(2), mirror_table(labels.device)[labels.int()].flip(2)
        labels = torch.where(kept | (labels != FLUID), labels, 0)
        if chance(c.cut, generator):
            held = acquisition.field_of_view(image.shape[2:], c.cut_share, generator)
            kept, labels = kept & held, labels * held
        image = acquisition.to_unit_range(image, kept, between(0, 0.01, generator), between(0.985, 1, generator))
        return Block(image, self.classes[labels.int()])

    def _extracted(self, labels: Tensor, brain: Tensor, generator: torch.Generator) -> Tensor:
        """What brain extraction leaves, bool."""
        if chance(1 / 3, generator):
            return brain
        if chance(1 / 2, generator):
            return acquisition.stripped_unevenly(brain, generator)
        tissue = ((labels > 0) & (labels != FLUID) & (labels < OUTSIDE.start)).float()
        return -F.max_pool3d(-F.max_pool3d(tissue, 3, 1, 1), 3, 1, 1) > 0
