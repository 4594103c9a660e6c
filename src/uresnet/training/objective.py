"""The paper's training objective (Eq. 4–7) on a batch, and the measures watched during validation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import LossConfig
from uresnet.core.coordinates import coarser_map, finer_map
from uresnet.core.labels import LabelScheme, label_scheme
from uresnet.core.sampling import sample
from uresnet.measures.overlap import dice_per_class
from uresnet.model import losses
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import class_shares, class_table
from uresnet.transform.deformation import (
    GridConvention,
    apply_voxel_affine,
    integrate_spatial_gradients,
    lattice_determinant,
)


@dataclass(frozen=True)
class Batch:
    """Pairs on one grid: images (B, 1, I, J, K) in [0, 1], means over blocks of ``downsampling`` voxels, and the labels
    of those voxels, uint8 FreeSurfer ids (B, 1, I·downsampling, J·downsampling, K·downsampling)."""

    moving: Tensor
    fixed: Tensor
    moving_labels: Tensor
    fixed_labels: Tensor
    downsampling: int = 1


def sampling_map(output: UResNetOutput, convention: GridConvention) -> Tensor:
    """D = A ∘ Φ, fixed voxel → moving voxel, (B, 3, I, J, K) float32 (paper §3.2)."""
    return apply_voxel_affine(
        output.affine, integrate_spatial_gradients(output.spatial_gradients, convention), convention
    )


def at_resolution(output: UResNetOutput, downsampling: int) -> UResNetOutput:
    """The output for a grid of coarser voxels: a translation of so many full voxels is fewer coarse ones.

    Spatial gradients and the matrix have no unit, so they are what they are at any resolution.
    """
    if downsampling == 1:
        return output
    scale = output.affine.new_tensor([1.0, 1.0, 1.0, 1.0 / downsampling])
    return replace(output, affine=output.affine * scale)


class Objective:
    """Computes the terms of the loss; holds the class tables on the device."""

    def __init__(
        self, config: LossConfig, scheme: LabelScheme, convention: GridConvention, device: torch.device | str
    ) -> None:
        self.config = config
        self.convention = convention
        self.classes = scheme.number_of_classes
        self.table = class_table(scheme, device)
        warped = label_scheme(config.warped_label_scheme)
        self.warped_classes = warped.number_of_classes
        self.table_of_warped = class_table(warped, device)

    def __call__(self, output: UResNetOutput, batch: Batch, downsampling: int | None = None) -> dict[str, Tensor]:
        """Every term, unweighted, by its name in :class:`LossConfig`, and their weighted sum as ``total``.

        ``downsampling``, when given, takes the place of the configured one.
        """
        c = self.config
        block = max(1, (downsampling or c.downsampling) // batch.downsampling)
        where = coarser_map(sampling_map(output, self.convention), block)
        moving, fixed = _blocks(batch.moving, block), _blocks(batch.fixed, block)
        terms: dict[str, Tensor] = {}
        warped = sample(moving, where)
        terms["mse"] = losses.mean_squared_error(warped, fixed)
        if c.lcc:
            terms["lcc"] = 1 - losses.local_cross_correlation(warped, fixed, c.lcc_window)
        terms["alpha"] = losses.affine_distance(output.affine)
        terms["beta"] = losses.gradient_distance(output.spatial_gradients)
        if c.roughness:
            terms["roughness"] = losses.roughness(output.spatial_gradients)
        side = block * batch.downsampling
        if c.warped_labels:
            truth = (self.table_of_warped, self.warped_classes, side)
            moving_truth = class_shares(batch.moving_labels, *truth)[:, 1:]
            fixed_truth = class_shares(batch.fixed_labels, *truth)[:, 1:]
            terms["warped_labels"] = _dice(sample(moving_truth, where), fixed_truth, side)
        if output.segmentation_logits is not None:
            probabilities = output.segmentation_logits.float().softmax(dim=1)[:, 1:]
            moving_truth = class_shares(batch.moving_labels, self.table, self.classes, batch.downsampling)[:, 1:]
            terms["gamma"] = _dice(probabilities, moving_truth, batch.downsampling)
            if c.delta:
                fixed_truth = class_shares(batch.fixed_labels, self.table, self.classes, side)[:, 1:]
                terms["delta"] = _dice(sample(_blocks(probabilities, block), where), fixed_truth, side)
        groups = {"mse": c.w1, "lcc": c.w1, "alpha": c.w1, "beta": c.w1, "roughness": c.w1}
        weighted = [groups.get(name, c.w2) * getattr(c, name) * term for name, term in terms.items()]
        terms["total"] = torch.stack(weighted).sum()
        return terms


def _blocks(volume: Tensor, block: int) -> Tensor:
    return volume if block == 1 else F.avg_pool3d(volume, block)


def _dice(predicted: Tensor, target: Tensor, side: int) -> Tensor:
    """The paper's where every voxel has one label, else the one for shares."""
    return losses.dice_loss(predicted, target) if side == 1 else losses.share_dice_loss(predicted, target)


@dataclass(frozen=True)
class PairScore:
    """Measures of one validation pair."""

    registration: float
    """Mean Dice over the fifteen structures of Table 1, nearest labels through the map."""
    segmentation: tuple[float, ...]
    """Dice of every structure of the network's scheme, arg-max, moving image; empty without segmentation."""
    mse: float
    folding: float
    """Fraction of the fixed brain's voxels where the map's Jacobian determinant is not positive."""


@torch.no_grad()
def score_pair(output: UResNetOutput, batch: Batch, scheme: LabelScheme, convention: GridConvention) -> PairScore:
    """Score one pair (a batch of one): Dice on the labels' voxels, the rest on the network's grid."""
    table1 = label_scheme("table1")
    table = class_table(table1, batch.moving.device)
    where = sampling_map(output, convention)
    warped = sample(batch.moving_labels, finer_map(where, batch.downsampling), mode="nearest").to(torch.uint8)
    dice = dice_per_class(table[warped.long()], table[batch.fixed_labels.long()], table1.number_of_classes)
    segmentation: tuple[float, ...] = ()
    if output.segmentation_logits is not None:
        truth = class_table(scheme, batch.moving.device)[batch.moving_labels.long()]
        probabilities = output.segmentation_logits.float().softmax(dim=1)
        if batch.downsampling > 1:
            probabilities = F.interpolate(probabilities, scale_factor=batch.downsampling, mode="trilinear")
        predicted = probabilities.argmax(dim=1, keepdim=True)
        segmentation = tuple(dice_per_class(predicted, truth, scheme.number_of_classes).tolist())
    axes = [torch.arange(n, device=where.device, dtype=where.dtype) for n in where.shape[2:]]
    determinant = lattice_determinant(where[0] - torch.stack(torch.meshgrid(*axes, indexing="ij")))
    return PairScore(
        registration=float(dice.nanmean()),
        segmentation=segmentation,
        mse=float(losses.mean_squared_error(sample(batch.moving, where), batch.fixed)),
        folding=float((determinant[batch.fixed[0, 0] > 0] <= 0).double().mean()),
    )
