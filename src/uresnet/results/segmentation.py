"""A segmented image: what its page is made from."""

from __future__ import annotations

from dataclasses import dataclass

from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.results.held import Held
from uresnet.results.record import RunRecord
from uresnet.results.record_text import image_name


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class SegmentedImage(Held):
    """A segmented ``image``: ``labels`` (FreeSurfer ids) on its own grid, ``volumes`` in mm³ by id, and the record of
    the run, whose one input is "image". ``image`` is None where its file is no longer where the record says; the
    ``brain`` mask is known only in memory."""

    IMAGES = ("labels", "brain", "image")

    image: Image | None
    labels: LabelMap
    scheme: LabelScheme
    volumes: dict[int, float]
    record: RunRecord
    brain: LabelMap | None = None

    @property
    def background(self) -> Image:
        """What structures are drawn on: the image, or where it is gone all that has a label."""
        return self.image if self.image is not None else Image(self.labels.mask.float(), self.labels.grid)

    def __repr__(self) -> str:
        found = sum(1 for volume in self.volumes.values() if volume)
        return (
            f"<{type(self).__name__} of {image_name(self.record)} by {self.record.model.name}: "
            f"{self.verdict or 'not judged'}, {found} of {len(self.volumes)} structures>"
        )
