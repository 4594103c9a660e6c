"""What every result keeps, looked at before anybody gets it: a broken promise is an error, never a plausible file.

Values are finite; an image lies on the grid of the image that it belongs to; labels are those of the model's scheme;
where the kind of model is invertible by construction, no deformation folds and the inverse undoes the transform.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from uresnet.core import ops
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import BrokenResult
from uresnet.model.checkpoint import MIDSPACE, TRANSLATION
from uresnet.pipeline.save import Registration, Segmentation
from uresnet.transform import DisplacementField, Transform

INVERTIBLE = (MIDSPACE, TRANSLATION)
"""The kinds of model whose transforms are invertible by construction."""
INVERSE_MEAN_MM, INVERSE_MAX_MM = 0.1, 1.0
"""How far a point of the fixed brain may end from where it began, after the transform and its inverse of such a model,
on average and at most. Real pairs: 0.01 and 0.12."""


def check_registration(result: Registration) -> Registration:
    """The same result. Raises :class:`BrokenResult` where it does not keep what it promises."""
    moving, fixed = result.moving.grid, result.fixed.grid
    images = {"warped image": result.warped, "Jacobian determinant": result.jacobian}
    _check_images(images, fixed)
    _check_labels({"moving segmentation": result.moving_segmentation}, moving, result.scheme)
    on_fixed = {
        "fixed segmentation": result.fixed_segmentation,
        "warped segmentation": result.warped_segmentation,
    }
    _check_labels(on_fixed, fixed, result.scheme)
    measures = result.measures
    if not np.isfinite([measures.inverse_mean_mm, measures.inverse_max_mm, measures.sd_log_jacobian]).all():
        raise _broken("a measure of the transform is not a number")
    promised = result.record.model.kind in INVERTIBLE
    for name, transform in (("transform", result.transform), ("inverse transform", result.inverse)):
        _check_transform(name, transform, promised)
    if promised and (measures.inverse_mean_mm > INVERSE_MEAN_MM or measures.inverse_max_mm > INVERSE_MAX_MM):
        raise _broken(
            f"the inverse transform misses by {measures.inverse_mean_mm:.3g} mm on average and "
            f"{measures.inverse_max_mm:.3g} mm at most"
        )
    return result


def check_segmentation(result: Segmentation, image: Grid) -> Segmentation:
    """The same result. Raises :class:`BrokenResult` where it does not keep what it promises."""
    _check_labels({"segmentation": result.labels}, image, result.scheme)
    if not np.isfinite(list(result.volumes.values())).all():
        raise _broken("a volume is not a number")
    return result


def _check_images(images: Mapping[str, Image], grid: Grid) -> None:
    for name, image in images.items():
        if not image.grid.same_as(grid):
            raise _broken(f"the {name} does not lie on the grid of its image")
        if not torch.isfinite(image.data).all():
            raise _broken(f"the {name} has values that are no numbers")


def _check_labels(maps: Mapping[str, LabelMap | None], grid: Grid, scheme: LabelScheme | None) -> None:
    for name, labels in maps.items():
        if labels is None or scheme is None:
            continue
        if not labels.grid.same_as(grid):
            raise _broken(f"the {name} does not lie on the grid of its image")
        strange = set(torch.unique(labels.data).tolist()) - {0, *scheme.ids}
        if strange:
            raise _broken(f"the {name} has the label {min(strange)}, which its model does not have")


def _check_transform(name: str, transform: Transform, promised: bool) -> None:
    for part in transform.parts:
        if not isinstance(part, DisplacementField):
            continue  # an affine that is not finite cannot be made
        if not torch.isfinite(part.displacement).all():
            raise _broken(f"the {name} has values that are no numbers")
        if promised and ops.folds(part.voxel_displacement).any():
            raise _broken(f"the {name} folds, which this kind of model never does")


def _broken(what: str) -> BrokenResult:
    return BrokenResult(
        f"The result is wrong ({what}), so it is not given; this is a fault of uresnet: please report it with the "
        "headers of the images, or try another model."
    )
