"""From an image as a scanner left it to what a network sees: foreground, skull, conforming."""

from uresnet.preprocess.conform import Conformed, conform
from uresnet.preprocess.skull import extract_brain, find_foreground, has_skull, strip_skull

__all__ = [
    "Conformed",
    "conform",
    "extract_brain",
    "find_foreground",
    "has_skull",
    "strip_skull",
]
