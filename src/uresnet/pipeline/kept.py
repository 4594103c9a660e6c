"""What is found out about an image alone, and may be kept for the next pair that it is in. Loads no torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from uresnet.core.image import Image

Found = TypeVar("Found")


class Keep(Protocol):
    """Gives what ``find`` finds about an image, or what it has found before.

    ``what`` names it: with the same image, model and options the same name stands for the same thing.
    """

    def __call__(self, what: str, image: Image, find: Callable[[], Found], /) -> Found: ...


def not_kept(what: str, image: Image, find: Callable[[], Found], /) -> Found:
    """Found anew each time."""
    return find()
