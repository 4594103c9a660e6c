"""A segmented image: what its page is made from."""

from __future__ import annotations

from dataclasses import dataclass

from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.results.record import RunRecord


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentedImage:
    """A segmented ``image``: ``labels`` (FreeSurfer ids) on its own grid, ``volumes`` in mm³ by id, and the record of
    the run, whose one input is "image"."""

    image: Image
    labels: LabelMap
    scheme: LabelScheme
    volumes: dict[int, float]
    record: RunRecord

    @property
    def warnings(self) -> list[str]:
        """What was assumed or repaired, a sentence each."""
        return list(self.record.warnings)
