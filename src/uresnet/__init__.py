"""uresnet: registration and segmentation of 3D brain MRI with one small network.

>>> import uresnet
>>> result = uresnet.register("moving.nii.gz", "fixed.nii.gz")  # doctest: +SKIP
>>> result.save("out")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uresnet._version import __version__ as __version__

if TYPE_CHECKING:
    from uresnet.core.image import Image
    from uresnet.errors import UserError
    from uresnet.io import read_image
    from uresnet.pipeline.register import register
    from uresnet.pipeline.save import Registration, Segmentation
    from uresnet.pipeline.segment import segment
    from uresnet.transform_files import read_transform

__all__ = ["Image", "Registration", "Segmentation", "UserError", "read_image", "read_transform", "register", "segment"]

_HOMES = {
    "Image": ("uresnet.core.image", "Image"),
    "Registration": ("uresnet.pipeline.save", "Registration"),
    "Segmentation": ("uresnet.pipeline.save", "Segmentation"),
    "UserError": ("uresnet.errors", "UserError"),
    "read_image": ("uresnet.io", "read_image"),
    "read_transform": ("uresnet.transform_files.files", "read_transform"),
    "register": ("uresnet.pipeline.register", "register"),
    "segment": ("uresnet.pipeline.segment", "segment"),
}


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are first used: ``import uresnet`` alone is instant and loads no torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'uresnet' has no attribute '{name}'")
    from importlib import import_module

    module, attribute = _HOMES[name]
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
