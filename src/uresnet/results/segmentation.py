"""A segmented image: what its page is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import SCHEMES, LabelScheme
from uresnet.errors import UserError
from uresnet.io import read_labels
from uresnet.measures.volumes import structure_volumes
from uresnet.results.held import Held
from uresnet.results.inputs import read_input
from uresnet.results.record import RunRecord, read_record, record_path
from uresnet.results.record_text import image_name


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SegmentedImage(Held):
    """A segmented ``image``: ``labels`` (FreeSurfer ids) on its own grid, ``volumes`` in mm³ by id, and the record of
    the run, whose one input is "image". ``image`` is None where its file is no longer where the record says; the
    ``brain`` mask, and ``predicted_t1``, what the image would look like T1-weighted, are known only in memory."""

    IMAGES = ("labels", "brain", "image", "predicted_t1")

    image: Image | None
    labels: LabelMap
    scheme: LabelScheme
    volumes: dict[int, float]
    record: RunRecord
    brain: LabelMap | None = None
    predicted_t1: Image | None = None

    @property
    def background(self) -> Image:
        """What structures are drawn on: the image, or where it is gone all that has a label."""
        return self.image if self.image is not None else Image(self.labels.mask.float(), self.labels.grid)

    def __repr__(self) -> str:
        found = sum(1 for volume in self.volumes.values() if volume)
        return (
            f"<{type(self).__name__} of {image_name(self.record)} by {self.record.model.names}: "
            f"{self.verdict or 'not judged'}, {found} of {len(self.volumes)} structures>"
        )


def is_segmentation(record: RunRecord) -> bool:
    """Whether a record is that of ``segment``."""
    return "image" in record.inputs


def read_segmented_image(place: Path, image: str | Path | None = None) -> SegmentedImage:
    """Read back what ``uresnet segment`` wrote: its folder, or its label map. ``image`` says where the image is now;
    without it, it is looked for where the record says. Raises :class:`UserError` for what is no such result."""
    record = read_record(place)
    scheme = SCHEMES.get(record.model.scheme)
    labels = record_path(place).parent / (record.files or ("dseg.nii.gz",))[0] if place.is_dir() else place
    if not is_segmentation(record) or scheme is None or labels.parent != record_path(place).parent:
        raise UserError(f"{place} holds no segmentation; give the folder or the label map that uresnet segment wrote.")
    found = read_labels(labels)
    return SegmentedImage(
        image=read_input(labels.parent, record, "image", image),
        labels=found,
        scheme=scheme,
        volumes=structure_volumes(found, scheme),
        record=record,
    )
