"""The images that a worker has read, and what it has found out about each, as far as its memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from uresnet.cohort.jobs import Scan
from uresnet.core.image import Image
from uresnet.errors import held_warnings, warn_about_input
from uresnet.io import read_image

Found = TypeVar("Found")

_BYTES_A_VOXEL = 4 + 1 + 2  # the image, its brain, its structures


@dataclass(eq=False)
class KnownScan:
    """An image, what was warned about it when it was read, and what was found out about it, by what that is called,
    with the warnings."""

    image: Image
    warnings: list[str] = field(default_factory=list)
    found: dict[str, tuple[Any, list[str]]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About so many bytes."""
        return self.image.data.numel() * _BYTES_A_VOXEL


class KnownScans:
    """At most ``most_bytes`` of scans, and always the two of the present pair. For several threads."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes = most_bytes
        self._scans: OrderedDict[Scan, KnownScan] = OrderedDict()
        self._lock = threading.Lock()

    def image(self, scan: Scan) -> Image:
        """The image, read unless it is known. Raises :class:`UserError` for one that cannot be read."""
        return self.known(scan).image

    def known(self, scan: Scan) -> KnownScan:
        """The same with what is known about it."""
        with self._lock:
            if scan in self._scans:
                self._scans.move_to_end(scan)
                return self._scans[scan]
        warnings: list[str] = []
        with held_warnings(warnings):
            image = read_image(scan.image)
        with self._lock:
            known = self._scans.setdefault(scan, KnownScan(image, warnings))
            self._scans.move_to_end(scan)
            self._forget_oldest()
        return known

    def keep(self, what: str, image: Image, find: Callable[[], Found], /) -> Found:
        """What ``find`` finds about an image of these, or has found before (:class:`uresnet.pipeline.kept.Keep`). What
        was warned about then is warned about again: each pair has its own record."""
        with self._lock:
            scan = next((known for known in self._scans.values() if known.image is image), None)
        if scan is None:
            return find()
        if what not in scan.found:
            said: list[str] = []
            with held_warnings(said):
                scan.found[what] = find(), said
        value, said = scan.found[what]
        for sentence in [*scan.warnings, *said]:
            warn_about_input(sentence)
        found: Found = value
        return found

    def _forget_oldest(self) -> None:
        total = sum(known.size for known in self._scans.values())
        while total > self.most_bytes and len(self._scans) > 2:
            _, oldest = self._scans.popitem(last=False)
            total -= oldest.size
