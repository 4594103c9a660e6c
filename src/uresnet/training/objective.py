"""The training objectives: the paper's on pairs (Eq. 4–7), and the segmenter's on classes of voxels."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import LossConfig
from uresnet.core.coordinates import coarser_map
from uresnet.core.labels import ABNORMAL, LabelScheme, label_scheme
from uresnet.core.sampling import sample
from uresnet.model import losses
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import abnormal_table, class_shares, class_table
from uresnet.training.examples.blocks import NOT_JUDGED
from uresnet.transform import (
    GridConvention,
    apply_voxel_affine,
    integrate_spatial_gradients,
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
    """The output for a grid whose voxels are ``downsampling`` full voxels wide: its translation in coarse voxels.

    Spatial gradients and the matrix have no unit, so they are the same at any resolution.
    """
    if downsampling == 1:
        return output
    scale = output.affine.new_tensor([1.0, 1.0, 1.0, 1.0 / downsampling])
    return replace(output, affine=output.affine * scale)


class PairObjective:
    """The paper's loss on pairs; holds the class tables on the device.

    Where ``scheme`` has classes of abnormal tissue, the terms that compare warped with fixed leave out where either
    image has such tissue, by its labels: nothing of the other image belongs to it. The segmentation learns it.
    """

    def __init__(
        self, config: LossConfig, scheme: LabelScheme, convention: GridConvention, device: torch.device | str
    ) -> None:
        self.config = config
        self.convention = convention
        self.classes = scheme.number_of_classes
        self.table = class_table(scheme, device)
        self.abnormal = abnormal_table(scheme, device)
        self.matched = [c - 1 for c in range(1, self.classes) if c not in scheme.classes_of(ABNORMAL)]
        warped = label_scheme(config.warped_label_scheme)
        self.warped_classes = warped.number_of_classes
        self.warped_table = class_table(warped, device)

    def __call__(self, output: UResNetOutput, batch: Batch, downsampling: int | None = None) -> dict[str, Tensor]:
        """Every term, unweighted, by its name in :class:`LossConfig`, and their weighted sum as ``total``.

        ``downsampling``, when given, replaces the configured one.
        """
        c = self.config
        block = max(1, (downsampling or c.downsampling) // batch.downsampling)
        coordinates = coarser_map(sampling_map(output, self.convention), block)
        moving, fixed = _blocks(batch.moving, block), _blocks(batch.fixed, block)
        terms: dict[str, Tensor] = {}
        warped = sample(moving, coordinates)
        side = block * batch.downsampling
        weight = healthy_share(batch, coordinates, self.abnormal, side)
        terms["mse"] = losses.mean_squared_error(warped, fixed, weight)
        if c.lcc:
            terms["lcc"] = 1 - losses.local_cross_correlation(warped, fixed, c.lcc_window, weight=weight)
        terms["alpha"] = losses.affine_distance(output.affine)
        terms["beta"] = losses.gradient_distance(output.spatial_gradients)
        if c.roughness:
            terms["roughness"] = losses.roughness(output.spatial_gradients)
        if c.warped_labels:
            moving_truth = class_shares(batch.moving_labels, self.warped_table, self.warped_classes, side)[:, 1:]
            fixed_truth = class_shares(batch.fixed_labels, self.warped_table, self.warped_classes, side)[:, 1:]
            terms["warped_labels"] = _dice(sample(moving_truth, coordinates), fixed_truth, side, weight)
        if output.segmentation_logits is not None:
            probabilities = output.segmentation_logits.float().softmax(dim=1)[:, 1:]
            moving_truth = class_shares(batch.moving_labels, self.table, self.classes, batch.downsampling)[:, 1:]
            terms["gamma"] = _dice(probabilities, moving_truth, batch.downsampling)
            if c.delta:
                fixed_truth = class_shares(batch.fixed_labels, self.table, self.classes, side)[:, 1:]
                found = sample(_blocks(probabilities, block), coordinates)
                terms["delta"] = _dice(found[:, self.matched], fixed_truth[:, self.matched], side, weight)
        of_registration = ("mse", "lcc", "alpha", "beta", "roughness")
        weighted = [(c.w1 if n in of_registration else c.w2) * getattr(c, n) * term for n, term in terms.items()]
        terms["total"] = torch.stack(weighted).sum()
        return terms


def _blocks(volume: Tensor, block: int) -> Tensor:
    return volume if block == 1 else F.avg_pool3d(volume, block)


@torch.no_grad()
def healthy_share(batch: Batch, coordinates: Tensor, abnormal: Tensor | None, side: int) -> Tensor | None:
    """The share of healthy tissue in blocks of ``side`` labelled voxels, (B, 1, i, j, k) in [0, 1]: in the fixed image
    and in what ``coordinates`` bring there of the moving one. ``abnormal`` is an :func:`abnormal_table`; None for None.

    It has no gradient: otherwise the map would hide what does not match behind abnormal tissue.
    """
    if abnormal is None:
        return None
    moving, fixed = (
        class_shares(labels, abnormal, 2, side)[:, 1:] for labels in (batch.moving_labels, batch.fixed_labels)
    )
    return (1 - sample(moving, coordinates)) * (1 - fixed)


def _dice(predicted: Tensor, target: Tensor, side: int, weight: Tensor | None = None) -> Tensor:
    """The paper's Dice loss where every voxel has one label, else the Dice loss of shares of labels; ``weight``
    (B, 1, I, J, K) is what each voxel counts."""
    if weight is not None:
        predicted, target = predicted * weight, target * weight
    return losses.dice_loss(predicted, target) if side == 1 else losses.share_dice_loss(predicted, target)


def segmentation_terms(logits: Tensor, truth: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
    """Cross-entropy, one minus the soft Dice averaged over the structures in ``truth``, and their sum as ``total``.

    Logits (N, C); truth (N,) holds classes, or ``NOT_JUDGED`` for voxels that are left out. ``weights`` (C,) are those
    of the classes in both means; all are alike without them.
    """
    known = truth != NOT_JUDGED
    logits, truth = logits[known], truth[known]
    logarithms = logits.log_softmax(dim=1)
    of_truth = logarithms.gather(1, truth[:, None])[:, 0]  # on a GPU far faster than torch's cross-entropy
    entropy = -_mean(of_truth, None if weights is None else weights[truth]) if len(truth) else logits.sum() * 0
    count = torch.bincount(truth, minlength=logits.shape[1]).to(logits.dtype)
    probabilities = logarithms.exp()
    both = torch.zeros_like(count).index_add(0, truth, of_truth.exp())
    dice = 2 * both / (probabilities.sum(0) + count).clamp(min=1e-6)
    present = count[1:] > 0
    of_present = None if weights is None else weights[1:][present]
    dice_loss = 1 - _mean(dice[1:][present], of_present) if present.any() else logits.sum() * 0
    return {"cross_entropy": entropy, "dice": dice_loss, "total": entropy + dice_loss}


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    return values.mean() if weights is None else (values * weights).sum() / weights.sum()


def t1_terms(predicted: Tensor, truth: Tensor, inside: Tensor) -> dict[str, Tensor]:
    """The mean distance ``t1`` of two images (B, 1, I, J, K) over the voxels ``inside``, bool, and ``t1_edges``, that
    of their differences between neighbours along each axis, both inside, averaged over the axes."""
    error = predicted - truth
    count = inside.sum().clamp_min(1)
    edges = []
    for axis in (2, 3, 4):
        n = inside.shape[axis] - 1
        both = inside.narrow(axis, 0, n) & inside.narrow(axis, 1, n)
        edges.append((error.diff(dim=axis).abs() * both).sum() / both.sum().clamp_min(1))
    return {"t1": (error.abs() * inside).sum() / count, "t1_edges": torch.stack(edges).mean()}
