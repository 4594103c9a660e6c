"""A registered pair, in memory or read back from its folder: what a page, a figure or a verdict is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import SCHEMES, LabelScheme
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.measures.volumes import structure_volumes
from uresnet.results.held import Held
from uresnet.results.inputs import read_input
from uresnet.results.record import RunRecord, read_record
from uresnet.results.record_text import image_names
from uresnet.transform import Transform
from uresnet.transform_files import read_transform


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class RegisteredPair(Held):
    """A registered pair. ``transform`` maps fixed world mm to moving world mm.

    ``fixed``, ``warped``, ``jacobian``, ``fixed_segmentation`` and ``warped_segmentation`` lie on the fixed
    image's grid, ``moving`` and ``moving_segmentation`` on the moving image's; segmentations hold FreeSurfer ids.
    ``moving`` and ``fixed`` are None where the files are no longer where the record says; segmentations and ``scheme``,
    from a model that does not segment. ``volumes`` are mm³ by image ("moving", "fixed") and FreeSurfer id. ``record``
    is what ``run.json`` says. The brain masks are known only in memory.
    """

    IMAGES = (
        "warped",
        "jacobian",
        "moving",
        "fixed",
        "moving_segmentation",
        "fixed_segmentation",
        "warped_segmentation",
        "moving_brain",
        "fixed_brain",
    )

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
    record: RunRecord
    moving_brain: LabelMap | None = None
    fixed_brain: LabelMap | None = None

    @property
    def background(self) -> Image:
        """What anatomy is drawn on: the fixed image, or the warped one where the fixed one is gone."""
        return self.fixed if self.fixed is not None else self.warped

    def __repr__(self) -> str:
        names, measures = image_names(self.record), self.record.measures
        folds = "" if measures is None else f", {100 * measures.folding_fraction:.3g} % folds"
        return (
            f"<{type(self).__name__} of {names['moving']} to {names['fixed']} by {self.record.model.names}: "
            f"{self.verdict or 'not judged'}{folds}>"
        )


def read_registered_pair(
    folder: str | Path, moving: str | Path | None = None, fixed: str | Path | None = None
) -> RegisteredPair:
    """Read an output folder of ``uresnet register`` back.

    ``moving`` and ``fixed`` say where the two images are now; without them they are looked for where the record says,
    and are None when they are not there or are no longer the same images. Raises :class:`UserError` for a folder that
    holds no registration.
    """
    folder = Path(folder)
    record = read_record(folder)
    needed = ("warped.nii.gz", "jacobian.nii.gz", "transform.h5")
    absent = [name for name in needed if not (folder / name).exists()]
    if len(absent) == len(needed) or "moving" not in record.inputs:
        raise UserError(f"{folder} holds no registration; give the output folder of uresnet register.")
    if absent:
        raise UserError(f"{folder} has no {absent[0]}, which a page needs; register again without --outputs.")
    labels = {name: _read_labels(folder / f"{name}_dseg.nii.gz") for name in ("moving", "fixed", "warped")}
    scheme = SCHEMES.get(record.model.scheme)
    return RegisteredPair(
        moving=read_input(folder, record, "moving", moving),
        fixed=read_input(folder, record, "fixed", fixed),
        warped=read_image(folder / "warped.nii.gz"),
        jacobian=read_image(folder / "jacobian.nii.gz"),
        transform=read_transform(folder / "transform.h5"),
        moving_segmentation=labels["moving"],
        fixed_segmentation=labels["fixed"],
        warped_segmentation=labels["warped"],
        scheme=scheme,
        volumes=volumes_by_image(scheme, moving=labels["moving"], fixed=labels["fixed"]),
        record=record,
    )


def volumes_by_image(scheme: LabelScheme | None, **segmentations: LabelMap | None) -> dict[str, dict[int, float]]:
    """mm³ by image and FreeSurfer id, of the images that are segmented."""
    if scheme is None:
        return {}
    return {name: structure_volumes(labels, scheme) for name, labels in segmentations.items() if labels is not None}


def _read_labels(path: Path) -> LabelMap | None:
    return read_labels(path) if path.exists() else None
