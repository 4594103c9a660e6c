"""Abnormal tissue painted into the T1-weighted scans of pairs: a mass with its effect, or lesions of the white matter.

Shapes are made on the voxels of the labels, and averaged where the images are means over blocks of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import AbnormalConfig
from uresnet.core.coordinates import coarser_map, identity_coordinates
from uresnet.core.sampling import sample
from uresnet.training.examples import abnormal
from uresnet.training.examples.contrasts import mean_tissues
from uresnet.training.examples.draws import chance, fraction
from uresnet.training.examples.intensities import blurred

_EDGE_MM = 0.6  # by which abnormal tissue is blurred: shapes end at tissues, which have sharp edges
_GRAIN = 0.08


@dataclass(frozen=True, eq=False)
class ScanPainter:
    """Paints into images whose voxels are means over blocks of ``downsampling`` labelled voxels of ``voxel_mm``.

    ``greys`` (256,) are the mean intensities of the structures in all scans.
    """

    config: AbnormalConfig
    greys: Tensor
    voxel_mm: float
    downsampling: int = 1

    def __call__(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """An image (1, 1, I, J, K) in [0, 1] and its labels, uint8 FreeSurfer ids of the finer voxels, with abnormal
        tissue: ids 25 and 57 in a mass, by its side, 77 in its oedema and in lesions of the white matter."""
        if chance(self.config.mass, generator):
            return self._with_mass(image, labels, generator)
        low, high = self.config.lesion_portion
        portion = low * (high / low) ** fraction(generator)
        share = abnormal.white_matter_lesions(labels, portion, generator)
        return self._blended(image, labels, share, "lesion", generator)

    def _with_mass(self, image: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        low, high = self.config.mass_radius
        mass = abnormal.draw_mass(labels, (low / self.voxel_mm, high / self.voxel_mm), generator)
        if mass is None:
            return image, labels
        before = mass.before(identity_coordinates(labels.shape[2:], labels.device))
        labels = sample(labels, before, mode="nearest").to(torch.uint8)
        image = sample(image, coarser_map(before, self.downsampling))
        # Labels of scans often leave out fluid at the surface.
        brain = (labels > 0) | (F.interpolate((image > 0).float(), size=labels.shape[2:]) > 0)
        parts = abnormal.mass_shape(mass, labels, brain, generator)
        image, labels = self._blended(image, labels, parts.oedema, "lesion", generator)
        image, labels = self._blended(image, labels, parts.whole, "core", generator)
        return self._blended(image, labels, parts.rim, "rim", generator)

    def _blended(
        self, image: Tensor, labels: Tensor, share: Tensor, kind: abnormal.Kind, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Image and labels with abnormal tissue in a ``share`` of the labels' voxels."""
        every = slice(self.downsampling // 2, None, self.downsampling)
        tissues = mean_tissues(image, labels[:, :, every, every, every], self.greys)
        value = abnormal.brightness(kind, "T1", tissues, fraction(generator), generator)
        seen = F.avg_pool3d(blurred(share, _EDGE_MM / self.voxel_mm), self.downsampling) * (image > 0)
        ids = torch.full_like(labels, abnormal.LESION) if kind == "lesion" else abnormal.mass_ids(labels)
        image = abnormal.blended(image, seen, value, _GRAIN, generator).clamp(0, 1)
        return image, torch.where(share > 0.5, ids, labels)
