"""How large each structure is, in mm³ of the image's own voxels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from uresnet.image import LabelMap
from uresnet.labels import LabelScheme


def structure_volumes(labels: LabelMap, scheme: LabelScheme) -> dict[int, float]:
    """Volume in mm³ of every structure of ``scheme`` in ``labels`` (FreeSurfer ids), by id; 0 where there is none."""
    highest = max(max(scheme.ids), int(labels.data.max()))
    counts = np.bincount(labels.data.cpu().numpy().ravel().astype(np.int64), minlength=highest + 1)
    return {one.id: float(counts[one.id]) * labels.grid.voxel_volume for one in scheme.classes}


def volumes_table(
    scheme: LabelScheme, volumes: Mapping[str, Mapping[int, float]], brains: Mapping[str, float] | None = None
) -> str:
    """Tab-separated text: a row per structure with its ``index``, ``name`` and a column ``NAME_mm3`` per entry of
    ``volumes``. ``brains`` (mm³ by the same names) adds a last row, ``Brain-Mask``: everything in the brain mask. That
    is the intracranial volume only as far as the mask holds all cerebrospinal fluid, so it is not called that."""
    rows: list[Iterable[str]] = [("index", "name", *(f"{name}_mm3" for name in volumes))]
    for one in scheme.classes:
        rows.append((str(one.id), one.name, *(f"{column[one.id]:.1f}" for column in volumes.values())))
    if brains is not None:
        rows.append(("n/a", "Brain-Mask", *(f"{brains[name]:.1f}" for name in volumes)))
    return "".join("\t".join(row) + "\n" for row in rows)
