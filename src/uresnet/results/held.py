"""What every result gives: its verdict, its images in the form of another library, and a line that says what it is."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from uresnet.core.choices import check_choices
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io.in_memory import to_nibabel, to_sitk
from uresnet.results.record import Level, RunRecord


class Held:
    """A result in memory. ``IMAGES`` names its images; the first is the one that is meant where none is named.

    >>> import uresnet
    >>> result = uresnet.segment("image.nii.gz")
    >>> result.to_nibabel().shape  # the label map; to_nibabel("brain") is the brain mask
    (52, 56, 40)
    >>> result.to_sitk().GetSize() == result.numpy().shape
    True
    >>> result.verdict in (uresnet.Level.good, uresnet.Level.look, uresnet.Level.failed)
    True
    """

    IMAGES: ClassVar[tuple[str, ...]]
    record: RunRecord

    @property
    def warnings(self) -> list[str]:
        """What was assumed or repaired, a sentence each."""
        return list(self.record.warnings)

    @property
    def verdict(self) -> Level | None:
        """Whether to trust the result: ``Level.good``, ``Level.look`` (a person should look) or ``Level.failed``. None
        where the record of an older run has none."""
        return None if self.record.quality is None else self.record.quality.verdict

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not good, a sentence each, the gravest first."""
        return () if self.record.quality is None else self.record.quality.reasons

    def image_named(self, name: str | None = None) -> Image | LabelMap:
        """The image ``name`` of ``IMAGES``, by default the first. Raises :class:`UserError` for another name, and for
        an image that this result does not have."""
        kind = type(self).__name__
        name = self.IMAGES[0] if name is None else name
        check_choices(kind, name=(name, str))
        found = getattr(self, name) if name in self.IMAGES else None
        if found is None:
            known = [each for each in self.IMAGES if getattr(self, each) is not None]
            raise UserError(f"{kind} has no image {name[:50]!r}; choose one of {', '.join(known)}.")
        assert isinstance(found, Image | LabelMap)
        return found

    def to_nibabel(self, name: str | None = None) -> Any:
        """An image of the result as a ``nibabel.Nifti1Image``, in mm; names and errors as :meth:`image_named`."""
        return to_nibabel(self.image_named(name))

    def to_sitk(self, name: str | None = None) -> Any:
        """An image of the result as a ``SimpleITK.Image``; names and errors as :meth:`image_named`."""
        return to_sitk(self.image_named(name))

    def numpy(self, name: str | None = None) -> np.ndarray:
        """The voxels (I, J, K) of an image of the result: float32, or whole numbers of labels and masks. A copy."""
        return np.array(self.image_named(name).data.detach().cpu().numpy())
