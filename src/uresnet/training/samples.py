"""A few validation pairs to look at: middle slices of the moving, the fixed and the warped image, with structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uresnet.core.coordinates import finer_map
from uresnet.core.files import written_whole
from uresnet.core.grid import AxisCodes, axis_order
from uresnet.core.labels import FREESURFER, LabelScheme
from uresnet.core.sampling import sample
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import class_shares, class_table
from uresnet.training.objective import Batch, sampling_map
from uresnet.transform.deformation import GridConvention

SAMPLES = "samples.npz"
"""The pictures of the last validation, in a run's folder."""

PAIRS = 2
"""How many validation pairs are kept to look at."""

PAIR, ALONE = ("moving", "fixed", "warped"), ("predicted", "manual")
"""What there is to see of a pair, and of an image that is segmented alone."""

NAMES = (*PAIR, *ALONE)
PLANES: tuple[AxisCodes, ...] = (("L", "P", "S"), ("L", "I", "A"), ("P", "I", "R"))
"""Axial, coronal, sagittal: where a picture's right, its bottom and its far side are."""


@dataclass(frozen=True, eq=False)
class Sample:
    """One pair, or one image. ``images``, by ``NAMES``, (rows, columns) uint8, are three planes side by side.

    ``labels`` of the same size hold FreeSurfer ids of the network's scheme. Of a pair: those that the network found in
    the moving image (none from one that does not segment), the true ones of the fixed image, and the true ones of the
    moving image, warped. An image alone is there twice, with the structures that were predicted and the true ones.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]


@torch.no_grad()
def take_sample(
    output: UResNetOutput, batch: Batch, scheme: LabelScheme, convention: GridConvention, axis_codes: AxisCodes
) -> Sample:
    """Pictures of a batch of one pair, whose array axes point to ``axis_codes``."""
    where = sampling_map(output, convention)
    images = {"moving": batch.moving, "fixed": batch.fixed, "warped": sample(batch.moving, where)}
    fine = finer_map(where, batch.downsampling)
    true = {"fixed": batch.fixed_labels, "warped": sample(batch.moving_labels, fine, mode="nearest").to(torch.uint8)}
    truth = (class_table(scheme, where.device), scheme.number_of_classes, batch.downsampling)
    labels = {name: scheme.to_ids(_array(_likeliest(class_shares(one, *truth)))) for name, one in true.items()}
    if output.segmentation_logits is not None:
        labels["moving"] = scheme.to_ids(_array(_likeliest(output.segmentation_logits)))
    return Sample(
        {name: _planes((_array(one).clip(0, 1) * 255).round(), axis_codes) for name, one in images.items()},
        {name: _planes(one, axis_codes) for name, one in labels.items()},
    )


def sample_alone(
    image: Tensor, predicted: Tensor, labels: Tensor, scheme: LabelScheme, axis_codes: AxisCodes
) -> Sample:
    """Pictures of one image (1, 1, I, J, K) that was segmented alone: ``predicted`` classes (I, J, K) and true
    ``labels`` (1, 1, I, J, K), FreeSurfer ids."""
    picture = _planes((_array(image).clip(0, 1) * 255).round(), axis_codes)
    true = scheme.to_ids(scheme.to_classes(_array(labels), strict=False))
    found = scheme.to_ids(predicted.cpu().numpy())
    return Sample(
        dict.fromkeys(ALONE, picture),
        {name: _planes(one, axis_codes) for name, one in zip(ALONE, (found, true), strict=True)},
    )


def write_samples(path: Path, samples: Sequence[Sample], scheme: LabelScheme, step: int) -> None:
    """Write samples into one file, which takes the place of an earlier one whole.

    Its arrays are ``step``, the name of the ``scheme``, and "<pair> <name> image" and "<pair> <name> labels". Raises
    :class:`UserError` for a folder that is full or may not be written.
    """
    arrays = {f"{n} {name} image": one.images[name] for n, one in enumerate(samples) for name in one.images}
    arrays |= {f"{n} {name} labels": one.labels[name] for n, one in enumerate(samples) for name in one.labels}
    with written_whole(path) as beside:
        np.savez_compressed(beside, step=np.array(step), scheme=np.array(scheme.name), **arrays)  # type: ignore[arg-type]


def painted(one: Sample) -> np.ndarray:
    """(3, rows, columns) uint8 RGB: its images below each other, the edges of structures in their colours."""
    parts = []
    for name in one.images:
        picture = np.repeat(one.images[name][..., None], 3, axis=-1)
        labels = one.labels.get(name)
        if labels is not None:
            edge = (labels != np.roll(labels, 1, axis=0)) | (labels != np.roll(labels, 1, axis=1))
            for structure in np.unique(labels[labels > 0]).tolist():
                picture[edge & (labels == structure)] = FREESURFER[structure].colour
        parts.append(picture)
    return np.concatenate(parts).transpose(2, 0, 1)


def _likeliest(classes: Tensor) -> Tensor:
    return classes.argmax(dim=1, keepdim=True)


def _array(volume: Tensor) -> np.ndarray:
    return volume[0, 0].float().cpu().numpy() if volume.is_floating_point() else volume[0, 0].cpu().numpy()


def _planes(volume: np.ndarray, axis_codes: AxisCodes) -> np.ndarray:
    pictures = []
    for codes in PLANES:
        order, sign = axis_order(axis_codes, codes)
        turned = volume.transpose(order)[tuple(slice(None, None, s) for s in sign)]
        pictures.append(turned[:, :, turned.shape[2] // 2].T)
    rows = max(len(one) for one in pictures)
    padded = [np.pad(one, ((0, rows - len(one)), (0, 0))) for one in pictures]
    return np.ascontiguousarray(np.hstack(padded).astype(np.uint8))
