"""Pictures of a few validation images and training examples: middle slices with the outlines of structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from uresnet.core.coordinates import finer_map
from uresnet.core.files import written_whole
from uresnet.core.grid import AxisCodes, axis_order
from uresnet.core.labels import FREESURFER, LabelScheme
from uresnet.core.sampling import sample
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import class_shares, class_table
from uresnet.training.examples.blocks import NOT_JUDGED, Block
from uresnet.training.objective import Batch, sampling_map
from uresnet.transform import GridConvention

PAIRS = 2
"""How many validation pairs or scans are pictured."""

EXAMPLES = 4
"""How many training examples are pictured."""

PAIR, ALONE, EXAMPLE = ("moving", "fixed", "warped"), ("predicted", "manual"), ("shown", "t1", "predicted_t1")
"""The pictures of a pair, of an image that is segmented alone, and of a training example."""

NAMES = (*PAIR, *ALONE, *EXAMPLE)

PLANES: tuple[AxisCodes, ...] = (("L", "P", "S"), ("L", "I", "A"), ("P", "I", "R"))
"""Axial, coronal, sagittal: the anatomical directions of a picture's right, its bottom and its depth."""


Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Sample:
    """Pictures of one pair, or of one image, by ``NAMES``. Each, (rows, columns) uint8, is three planes side by side.

    ``labels`` of the same size hold FreeSurfer ids of the network's scheme. Of a pair: those that the network found in
    the moving image (none from one that does not segment), the true ones of the fixed image, and the true ones of the
    moving image, warped. A single image appears twice, with the predicted and with the true structures.
    """

    images: dict[str, Picture]
    labels: dict[str, Picture]


@torch.no_grad()
def sample_pair(
    output: UResNetOutput, batch: Batch, scheme: LabelScheme, convention: GridConvention, axis_codes: AxisCodes
) -> Sample:
    """Pictures of a batch of one pair, whose array axes point to ``axis_codes``."""
    coordinates = sampling_map(output, convention)
    images = {"moving": batch.moving, "fixed": batch.fixed, "warped": sample(batch.moving, coordinates)}
    fine = finer_map(coordinates, batch.downsampling)
    warped = sample(batch.moving_labels, fine, mode="nearest").to(torch.uint8)
    table = class_table(scheme, coordinates.device)
    classes = {
        name: class_shares(true, table, scheme.number_of_classes, batch.downsampling)
        for name, true in (("fixed", batch.fixed_labels), ("warped", warped))
    }
    if output.segmentation_logits is not None:
        classes["moving"] = output.segmentation_logits
    return Sample(
        {name: _planes(_bytes(image), axis_codes) for name, image in images.items()},
        {name: _planes(scheme.to_ids(_array(_likeliest(c))), axis_codes) for name, c in classes.items()},
    )


def sample_alone(
    image: Tensor, predicted: Tensor, labels: Tensor, scheme: LabelScheme, axis_codes: AxisCodes
) -> Sample:
    """Pictures of one image (1, 1, I, J, K) that was segmented alone: ``predicted`` classes (I, J, K) and true
    ``labels`` (1, 1, I, J, K), FreeSurfer ids."""
    picture = _planes(_bytes(image), axis_codes)
    true = scheme.to_ids(scheme.to_classes(_array(labels), strict=False))
    found = scheme.to_ids(predicted.cpu().numpy())
    outlines = {"predicted": _planes(found, axis_codes), "manual": _planes(true, axis_codes)}
    return Sample(dict.fromkeys(ALONE, picture), outlines)


def sample_example(example: Block, predicted_t1: Tensor | None, scheme: LabelScheme, axis_codes: AxisCodes) -> Sample:
    """Pictures of a training example with its true structures, and, where there are, of the T1-weighted image that
    belongs to it and of the predicted one (1, 1, I, J, K)."""
    volumes = {"shown": example.image, "t1": example.t1, "predicted_t1": predicted_t1}
    images = {name: _planes(_bytes(volume), axis_codes) for name, volume in volumes.items() if volume is not None}
    known = torch.where(example.classes == NOT_JUDGED, 0, example.classes)
    return Sample(images, {"shown": _planes(scheme.to_ids(_array(known)), axis_codes)})


def write_samples(path: Path, samples: Sequence[Sample], scheme: LabelScheme, step: int) -> None:
    """Write samples into one file, which replaces an earlier one whole.

    Its arrays are ``step``, the name of the ``scheme``, and "<pair> <name> image" and "<pair> <name> labels". Raises
    :class:`UserError` for a folder that is full or may not be written.
    """
    arrays = {f"{n} {name} image": picture for n, seen in enumerate(samples) for name, picture in seen.images.items()}
    arrays |= {f"{n} {name} labels": picture for n, seen in enumerate(samples) for name, picture in seen.labels.items()}
    with written_whole(path) as beside:
        np.savez_compressed(beside, step=np.array(step), scheme=np.array(scheme.name), **arrays)  # type: ignore[arg-type]


def in_colour(seen: Sample) -> Picture:
    """(3, rows, columns) uint8 RGB: the images below each other, the outlines of structures in their colours."""
    parts = []
    for name, image in seen.images.items():
        picture = np.repeat(image[..., None], 3, axis=-1)
        labels = seen.labels.get(name)
        if labels is not None:
            edge = (labels != np.roll(labels, 1, axis=0)) | (labels != np.roll(labels, 1, axis=1))
            for structure in np.unique(labels[labels > 0]).tolist():
                picture[edge & (labels == structure)] = FREESURFER[structure].colour
        parts.append(picture)
    stacked: Picture = np.concatenate(parts)
    return stacked.transpose(2, 0, 1)


def _likeliest(classes: Tensor) -> Tensor:
    return classes.argmax(dim=1, keepdim=True)


def _bytes(image: Tensor) -> npt.NDArray[Any]:
    """Intensities in [0, 1] as 0 to 255."""
    return (_array(image).clip(0, 1) * 255).round()


def _array(volume: Tensor) -> npt.NDArray[Any]:
    return volume[0, 0].float().cpu().numpy() if volume.is_floating_point() else volume[0, 0].cpu().numpy()


def _planes(volume: npt.NDArray[Any], axis_codes: AxisCodes) -> Picture:
    """The middle axial, coronal and sagittal slices of a volume whose array axes point to ``axis_codes``."""
    pictures = []
    for codes in PLANES:
        order, sign = axis_order(axis_codes, codes)
        turned = volume.transpose(order)[tuple(slice(None, None, s) for s in sign)]
        pictures.append(turned[:, :, turned.shape[2] // 2].T)
    rows = max(len(picture) for picture in pictures)
    padded = [np.pad(picture, ((0, rows - len(picture)), (0, 0))) for picture in pictures]
    return np.ascontiguousarray(np.hstack(padded).astype(np.uint8))
