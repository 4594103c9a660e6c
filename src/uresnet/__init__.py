"""uresnet: registration and segmentation of 3D brain MRI with one small network.

>>> import uresnet
>>> result = uresnet.register("moving.nii.gz", "fixed.nii.gz")
>>> files = result.save("out")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uresnet._version import __version__ as __version__

if TYPE_CHECKING:
    from uresnet.core.image import Image, LabelMap
    from uresnet.errors import InputWarning, UserError
    from uresnet.io import read_image, read_labels
    from uresnet.pipeline.register import register
    from uresnet.pipeline.save import Registration, Segmentation
    from uresnet.pipeline.segment import segment
    from uresnet.pipeline.transforms import apply, read_transform
    from uresnet.results.record import Level

__all__ = [
    "Image",
    "InputWarning",
    "LabelMap",
    "Level",
    "Registration",
    "Segmentation",
    "UserError",
    "apply",
    "read_image",
    "read_labels",
    "read_transform",
    "register",
    "segment",
]

_HOMES = {
    "Image": ("uresnet.core.image", "Image"),
    "InputWarning": ("uresnet.errors", "InputWarning"),
    "LabelMap": ("uresnet.core.image", "LabelMap"),
    "Level": ("uresnet.results.record", "Level"),
    "Registration": ("uresnet.pipeline.save", "Registration"),
    "Segmentation": ("uresnet.pipeline.save", "Segmentation"),
    "UserError": ("uresnet.errors", "UserError"),
    "apply": ("uresnet.pipeline.transforms", "apply"),
    "read_image": ("uresnet.io", "read_image"),
    "read_labels": ("uresnet.io", "read_labels"),
    "read_transform": ("uresnet.pipeline.transforms", "read_transform"),
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
