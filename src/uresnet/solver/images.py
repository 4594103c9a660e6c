"""An image as the solver sees it: structures and intensities, at every resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core.ops import FeatureRows


@dataclass(frozen=True, eq=False)
class SolverImage:
    """``probabilities`` (C, I/2, J/2, K/2) of classes, background first, at 2 mm, and ``intensities`` (1, 1, I, J, K)
    in [0, 1] at 1 mm.

    ``groups`` (C,) is the number of the structure that each class is compared as, 0 for none. The left and right class
    of a structure may share one, because they never overlap. ``ignored`` (1, 1, I, J, K), 0 or 1 at 1 mm, is 1 where
    the image says nothing of the anatomy, such as in a tumour or beyond a cut field of view: no force comes from there.
    ``no_centroid``, the same, is the part of it where ``probabilities`` say nothing either; elsewhere in it they say
    what a healthy brain would show. None where the image says something everywhere.
    """

    probabilities: Tensor
    intensities: Tensor
    groups: Tensor
    ignored: Tensor | None = None
    no_centroid: Tensor | None = None

    @property
    def features(self) -> Tensor:
        """(1, S + 1, I/2, J/2, K/2): probabilities of the structures, then the intensity."""
        shape = self.probabilities.shape[1:]
        merged = torch.zeros((int(self.groups.max()) + 2, *shape), device=self.probabilities.device)
        merged.index_add_(0, self.groups, self.probabilities)
        merged[-1] = F.avg_pool3d(self.intensities, 2)[0, 0]
        return merged[None, 1:]

    @cached_property
    def rows(self) -> FeatureRows:
        """The features at 2 mm."""
        return FeatureRows.of(self.features)

    def rows_at(self, spacing: int) -> FeatureRows:
        """The features, averaged over voxels of ``spacing`` mm (2, 4, 8, …)."""
        return self.rows if spacing == 2 else FeatureRows.of(F.avg_pool3d(self.features, spacing // 2))

    def ignored_at(self, spacing: int) -> Tensor | None:
        """(1, 1, i, j, k): 1 in voxels of ``spacing`` mm (1, 2, 4, …) of which any part is ignored."""
        return _coarser(self.ignored, spacing)

    def no_centroid_at(self, spacing: int) -> Tensor | None:
        """:meth:`ignored_at`, of what counts for no centroid."""
        return _coarser(self.no_centroid, spacing)


def _coarser(mask: Tensor | None, spacing: int) -> Tensor | None:
    return mask if mask is None or spacing == 1 else F.max_pool3d(mask, spacing)
