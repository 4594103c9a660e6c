"""How a network is judged while it trains."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from uresnet.core.coordinates import finer_map, identity_coordinates
from uresnet.core.labels import LabelScheme, label_scheme
from uresnet.core.sampling import sample
from uresnet.measures.overlap import dice_per_class
from uresnet.model import losses
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import abnormal_table, class_table
from uresnet.training.objective import Batch, healthy_share, sampling_map
from uresnet.training.samples import Sample
from uresnet.transform import GridConvention, lattice_determinant


@dataclass(frozen=True)
class PairScore:
    """Measures of one validation pair."""

    registration: float
    """Mean Dice over the fifteen structures of Table 1 of the warped labels, nearest-neighbour, outside of the abnormal
    tissue of either image where the network knows such a class."""
    segmentation: tuple[float, ...]
    """Dice of every structure that the network finds in the moving image (arg-max); empty without segmentation."""
    mse: float
    folding: float
    """Fraction of the fixed brain's voxels where the map's Jacobian determinant is not positive."""


@torch.no_grad()
def score_pair(output: UResNetOutput, batch: Batch, scheme: LabelScheme, convention: GridConvention) -> PairScore:
    """Scores of one pair, a batch of one: Dice on the labels' voxels, the rest on the network's grid."""
    table1 = label_scheme("table1")
    table = class_table(table1, batch.moving.device)
    coordinates = sampling_map(output, convention)
    fine = finer_map(coordinates, batch.downsampling)
    warped = sample(batch.moving_labels, fine, mode="nearest").to(torch.uint8)
    found, fixed = table[warped.long()], table[batch.fixed_labels.long()]
    abnormal = abnormal_table(scheme, coordinates.device)
    if abnormal is not None:
        healthy = 1 - torch.maximum(abnormal[warped.long()], abnormal[batch.fixed_labels.long()])
        found, fixed = found * healthy, fixed * healthy
    dice = dice_per_class(found, fixed, table1.number_of_classes)
    weight = healthy_share(batch, coordinates, abnormal, batch.downsampling)
    segmentation: tuple[float, ...] = ()
    if output.segmentation_logits is not None:
        truth = class_table(scheme, batch.moving.device)[batch.moving_labels.long()]
        probabilities = output.segmentation_logits.float().softmax(dim=1)
        if batch.downsampling > 1:
            probabilities = F.interpolate(probabilities, scale_factor=batch.downsampling, mode="trilinear")
        predicted = probabilities.argmax(dim=1, keepdim=True)
        segmentation = tuple(dice_per_class(predicted, truth, scheme.number_of_classes).tolist())
    displacement = coordinates[0] - identity_coordinates(coordinates.shape[2:], coordinates.device)[0]
    determinant = lattice_determinant(displacement)
    return PairScore(
        registration=float(dice.nanmean()),
        segmentation=segmentation,
        mse=float(losses.mean_squared_error(sample(batch.moving, coordinates), batch.fixed, weight)),
        folding=float((determinant[batch.fixed[0, 0] > 0] <= 0).double().mean()),
    )


@dataclass(frozen=True)
class Validation:
    """Means over the validation scans or pairs at update ``step``, on images of ``downsampling``.

    ``segmentation`` is the Dice of every structure of the network's scheme. ``is_best``: no validation before was as
    good. ``samples`` are pictures of the first pairs or scans. A network that segments single images has NaN for
    ``registration``, ``mse`` and ``folding``, and ``table1``, the Dice of the structures of Table 1, where it knows
    them; one for any contrast has ``other_contrasts``, the same in the scans remapped to other contrasts, and its
    ``segmentation`` is the mean of both.
    """

    segmentation: tuple[float, ...]
    registration: float = math.nan
    mse: float = math.nan
    folding: float = math.nan
    scores: tuple[PairScore, ...] = ()
    step: int = 0
    downsampling: int = 1
    is_best: bool = False
    samples: tuple[Sample, ...] = ()
    table1: tuple[float, ...] = ()
    other_contrasts: tuple[float, ...] = ()

    @property
    def quality(self) -> float:
        """What the best checkpoint is chosen by: mean Dice of the registration plus that of the segmentation."""
        known = [dice for dice in self.segmentation if not math.isnan(dice)]
        registration = 0.0 if math.isnan(self.registration) else self.registration
        return registration + (float(np.mean(known)) if known else 0.0)

    def __str__(self) -> str:
        if math.isnan(self.registration):
            shown = f"segmentation Dice {self.quality:.4f}"
            if self.table1:
                shown = f"segmentation Dice {float(np.nanmean(self.table1)):.4f} in the structures of Table 1"
            if self.other_contrasts:
                shown += f", {float(np.nanmean(self.other_contrasts)):.4f} in other contrasts"
        else:
            each = " / ".join(f"{dice:.3f}" for dice in self.segmentation)
            shown = f"registration Dice {self.registration:.4f}, "
            shown += (f"segmentation {each}, " if each else "") + f"folds {self.folding:.2%}"
        return f"update {self.step}: {shown}"


def mean_of_pairs(scores: Sequence[PairScore], step: int, downsampling: int) -> Validation:
    """The validation at ``step`` from the scores of all pairs."""
    return Validation(
        registration=float(np.mean([score.registration for score in scores])),
        segmentation=tuple(mean_per_structure([score.segmentation for score in scores]).tolist()),
        mse=float(np.mean([score.mse for score in scores])),
        folding=float(np.mean([score.folding for score in scores])),
        scores=tuple(scores),
        step=step,
        downsampling=downsampling,
    )


def mean_per_structure(dice: Sequence[Sequence[float]]) -> npt.NDArray[np.float64]:
    """Means over images of the Dice of every structure (images, structures); NaN for one that no image has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        means: npt.NDArray[np.float64] = np.nanmean(np.array(dice), axis=0)
    return means
