"""uresnet as transforms of TorchIO: ``pip install uresnet torchio``."""

from __future__ import annotations

from functools import partial
from typing import Any

import torchio

from uresnet.core.choices import Interpolation
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.io.in_memory import ImageSource, image_from
from uresnet.pipeline.register import register
from uresnet.pipeline.segment import segment
from uresnet.pipeline.transforms import apply


class RegisterTo(torchio.Transform):
    """Registers the first intensity image of a subject to a ``fixed`` image, and brings all its images along: label
    maps stay label maps. ``name`` chooses another image to register; ``options`` are those of
    :func:`uresnet.register`. The registration of the last subject is kept in ``result``.

        subject = torchio.Subject(t1=ScalarImage("t1.nii.gz"), seg=LabelMap("seg.nii.gz"))
        warped = RegisterTo("template.nii.gz")(subject)
    """

    def __init__(self, fixed: ImageSource, name: str | None = None, **options: Any) -> None:
        super().__init__()
        self.fixed, self.name_of_moving, self.options = fixed, name, options
        self.result: Any = None

    def apply_transform(self, subject: Any) -> Any:
        """The same subject on the fixed grid."""
        moving = _image_of(subject, self.name_of_moving)
        fixed = image_from(self.fixed, "fixed")
        self.result = register(moving, fixed, **self.options)
        for image in subject.get_images(intensity_only=False):
            interpolation: Interpolation = "label" if isinstance(image, torchio.LabelMap) else "linear"
            along = partial(apply, self.result.transform, image, fixed, interpolation=interpolation)
            found = self.result.warped if image is moving else along()
            _put(image, found)
        return subject


class Segment(torchio.Transform):
    """Adds the segmentation of a subject's first intensity image (or that of ``name``) under ``key``. ``options`` are
    those of :func:`uresnet.segment`; the segmentation of the last subject is kept in ``result``."""

    def __init__(self, key: str = "segmentation", name: str | None = None, **options: Any) -> None:
        super().__init__()
        self.key, self.name_of_image, self.options = key, name, options
        self.result: Any = None

    def apply_transform(self, subject: Any) -> Any:
        """The same subject with its segmentation."""
        self.result = segment(_image_of(subject, self.name_of_image), **self.options)
        labels = self.result.labels
        subject.add_image(torchio.LabelMap(tensor=labels.data[None], affine=labels.grid.voxel_to_world), self.key)
        return subject


def _image_of(subject: Any, name: str | None) -> Any:
    images = subject.get_images_dict(intensity_only=True)
    if not images or (name is not None and name not in images):
        raise UserError(f"The subject has no intensity image {name or ''}; it has {', '.join(images) or 'none'}.")
    return images[name] if name is not None else next(iter(images.values()))


def _put(image: Any, found: Image | LabelMap) -> None:
    image.set_data(found.data[None])
    image.affine = found.grid.voxel_to_world
