"""What a page, a figure or a verdict is made from: a registered pair, in memory or read back from its folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uresnet.core.files import RECORD
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import SCHEMES, LabelScheme
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.measures.volumes import structure_volumes
from uresnet.transform import Transform
from uresnet.transform_files import read_transform


@dataclass(frozen=True, eq=False)
class Results:
    """A registered pair. ``transform`` maps fixed world mm to moving world mm.

    ``fixed``, ``warped``, ``jacobian``, ``fixed_segmentation`` and ``warped_segmentation`` lie on the fixed image's
    grid; ``moving`` and ``moving_segmentation`` on the moving image's. ``moving`` and ``fixed`` are None where the
    files are no longer where the record says; segmentations, from a model that does not segment. ``volumes`` are mm³
    by image ("moving", "fixed") and FreeSurfer id. ``record`` is what ``run.json`` says. The brains are known only
    while a registration runs.
    """

    moving: Image | None
    fixed: Image | None
    warped: Image
    jacobian: Image
    transform: Transform
    moving_segmentation: LabelMap | None
    fixed_segmentation: LabelMap | None
    warped_segmentation: LabelMap | None
    scheme: LabelScheme | None
    volumes: dict[str, dict[int, float]]
    record: dict[str, Any]
    moving_brain: LabelMap | None = None
    fixed_brain: LabelMap | None = None

    @property
    def background(self) -> Image:
        """What anatomy is drawn on: the fixed image, or the warped one where the fixed one is gone."""
        return self.fixed if self.fixed is not None else self.warped


def read_results(folder: str | Path, moving: str | Path | None = None, fixed: str | Path | None = None) -> Results:
    """Read an output folder of ``uresnet register`` back.

    ``moving`` and ``fixed`` say where the two images are now; without them they are looked for where the record says,
    and are None when they are not there or are no longer the same images. Raises :class:`UserError` for a folder that
    holds no registration.
    """
    folder = Path(folder)
    record = read_record(folder)
    if not (folder / "warped.nii.gz").exists():
        raise UserError(f"{folder} holds no registration; give the output folder of uresnet register.")
    warped = read_image(folder / "warped.nii.gz")
    labels = {name: _labels(folder / f"{name}_dseg.nii.gz") for name in ("moving", "fixed", "warped")}
    scheme = SCHEMES.get(str(record["model"].get("scheme", "")))
    volumes = {
        name: structure_volumes(one, scheme)
        for name, one in labels.items()
        if one is not None and scheme is not None and name != "warped"
    }
    return Results(
        moving=_input(folder, record, "moving", moving),
        fixed=_input(folder, record, "fixed", fixed),
        warped=warped,
        jacobian=read_image(folder / "jacobian.nii.gz"),
        transform=read_transform(folder / "transform.h5"),
        moving_segmentation=labels["moving"],
        fixed_segmentation=labels["fixed"],
        warped_segmentation=labels["warped"],
        scheme=scheme,
        volumes=volumes,
        record=record,
    )


def read_record(folder: Path) -> dict[str, Any]:
    """``run.json`` of an output folder. Raises :class:`UserError` where there is none that can be read."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {RECORD}; give the output folder of uresnet register.") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / RECORD} cannot be read ({error}); run uresnet register again.") from None
    if not isinstance(record, dict) or not isinstance(record.get("model"), dict):
        raise UserError(f"{folder / RECORD} is not a record of uresnet; give the output folder of uresnet register.")
    return record


def _labels(path: Path) -> LabelMap | None:
    return read_labels(path) if path.exists() else None


def _input(folder: Path, record: dict[str, Any], name: str, given: str | Path | None) -> Image | None:
    """The image that was registered, checked against the shape that the record gives."""
    said = record.get("inputs", {}).get(name, {})
    if given is not None:
        image = read_image(given)
        if list(image.grid.shape) != said.get("shape"):
            raise UserError(f"{given} is not the {name} image of {folder}: its size is {image.grid.shape}.")
        return image
    path = Path(str(said.get("path") or ""))
    for place in (path, folder / path):
        if place.is_file():
            try:
                image = read_image(place)
            except UserError:
                continue
            return image if list(image.grid.shape) == said.get("shape") else None
    return None
