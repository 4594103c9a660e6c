"""From an image as a scanner left it to what a network sees: foreground, skull, brain, conforming."""

from uresnet.preprocess.brain import check_mask, extract_brain, has_skull
from uresnet.preprocess.conform import Conformed, conform, conform_pair
from uresnet.preprocess.foreground import Foreground, find_foreground
from uresnet.preprocess.skull import strip_skull

__all__ = [
    "Conformed",
    "Foreground",
    "check_mask",
    "conform",
    "conform_pair",
    "extract_brain",
    "find_foreground",
    "has_skull",
    "strip_skull",
]
