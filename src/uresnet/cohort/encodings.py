"""What the network says of an image, kept: in memory for the next pair, on the disk for all workers and later runs.

The key is the hash of what the network is shown, of its weights and of the versions of what computes, so that nothing
that changes can be overlooked.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor, nn

from uresnet._version import __version__
from uresnet.cohort.manifest import locked
from uresnet.core.files import written_whole
from uresnet.errors import UserError

_IN_MEMORY = 2  # encodings: the fixed image's is that of the next pair too, more often than not


class Encodings:
    """A ``folder`` of encodings of at most ``most_bytes``: those that were not used for longest are removed.

    The folder may be lost or removed at any time. Without a folder, or where it cannot be written, only memory keeps
    them.
    """

    def __init__(self, folder: Path | None, most_bytes: int) -> None:
        self.folder = folder
        self.most_bytes = most_bytes
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def read(self, key: str) -> tuple[Tensor, ...] | None:
        """Classes (I, J, K) uint8, probabilities (C, i, j, k) float32 and, where one was kept, the predicted image
        (1, 1, I, J, K) float32; or None where there are none, or damaged ones."""
        if self.folder is None:
            return None
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as stored:
                classes = np.zeros(stored["shape"], dtype=np.uint8)
                classes[tuple(slice(*side) for side in stored["box"])] = stored["classes"]
                probabilities = np.zeros(stored["probabilities_shape"], dtype=np.float32)
                probabilities[0] = 1
                probabilities.reshape(len(probabilities), -1)[:, stored["where"]] = stored["columns"]
                predicted = [torch.from_numpy(stored["predicted"])] if "predicted" in stored else []
            os.utime(path)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            return None
        return (torch.from_numpy(classes), torch.from_numpy(probabilities), *predicted)

    def write(self, key: str, classes: Tensor, probabilities: Tensor, *predicted: Tensor) -> None:
        """Keep what the network says. Voxels that are certainly background are left out, which nothing else loses."""
        if self.folder is None:
            return
        values, columns = classes.cpu().numpy(), probabilities.cpu().numpy().reshape(len(probabilities), -1)
        filled = [np.flatnonzero(values.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
        box = [(int(f[0]), int(f[-1]) + 1) if len(f) else (0, 0) for f in filled]
        where = np.flatnonzero((columns[0] != 1) | (columns[1:] != 0).any(axis=0))
        arrays: dict[str, Any] = {
            "shape": values.shape,
            "box": box,
            "classes": values[tuple(slice(*side) for side in box)],
            "probabilities_shape": tuple(probabilities.shape),
            "where": where,
            "columns": columns[:, where],
        }
        if predicted:
            arrays["predicted"] = predicted[0].cpu().numpy()
        with suppress(UserError), written_whole(self._path(key)) as beside, beside.open("wb") as file:
            np.savez(file, **arrays)
        self._forget_oldest()

    @contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """While the block lasts, no other process works on this encoding."""
        if self.folder is None:
            yield
            return
        handle = os.open(self.folder / f"{key[:2]}.lock", os.O_CREAT | os.O_RDWR, 0o666)
        try:
            with locked(handle):
                yield
        finally:
            os.close(handle)

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{key}.npz"

    def _forget_oldest(self) -> None:
        assert self.folder is not None
        found = []
        for path in self.folder.glob("*.npz"):
            with suppress(OSError):
                state = path.stat()
                found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= self.most_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


class KeptNetwork(nn.Module):
    """A network of one image (classes and probabilities out) that asks ``encodings`` first. ``asked`` counts how often
    the network itself had to look."""

    def __init__(self, network: nn.Module, sha256: str, encodings: Encodings) -> None:
        super().__init__()
        self.network = network
        self.asked = 0
        self._sha256 = sha256
        self._encodings = encodings
        self._latest: OrderedDict[str, tuple[Tensor, ...]] = OrderedDict()

    def forward(self, image: Tensor, shifted_pass: bool = False) -> tuple[Tensor, ...]:
        """As that of the network, to the bit."""
        return self._kept(f"{shifted_pass}", image, lambda: self.network(image, shifted_pass))

    def together(
        self, other: KeptNetwork, image: Tensor, shown: Tensor, share: float, shifted_pass: bool = False
    ) -> tuple[Tensor, ...]:
        """As that of the networks, to the bit."""
        together: Callable[..., tuple[Tensor, ...]] = self.network.together  # type: ignore[assignment]
        what = f"{shifted_pass} with {share} of {other._key(shown, 'together')}"
        return self._kept(what, image, lambda: together(other.network, image, shown, share, shifted_pass))

    @property
    def synthesis(self) -> nn.Module | None:
        """What predicts T1-weighted images, or None."""
        found: nn.Module | None = getattr(self.network, "synthesis", None)
        return found

    def first_look(self, image: Tensor, of: Sequence[int]) -> tuple[Tensor, Tensor, Tensor | None]:
        """As that of the network, to the bit; kept in memory alone, because it is looked at once, and without
        features."""
        key, features = self._key(image, f"first {list(of)}"), None
        if key not in self._latest:
            self.asked += 1
            *found, features = self.network.first_look(image, of)  # type: ignore[operator]
            self._remember(key, tuple(found))
        self._latest.move_to_end(key)
        classes, probability = self._latest[key]
        return classes, probability, features

    def with_t1(self, image: Tensor, features: Tensor | None = None) -> tuple[Tensor, ...]:
        """As that of the network, to the bit."""
        return self._kept("t1", image, lambda: self.network.with_t1(image, features))  # type: ignore[operator]

    def _kept(self, what: str, image: Tensor, find: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        key = self._key(image, what)
        if key not in self._latest:
            with self._encodings.alone(key):
                self._remember(key, self._found(key, image, find))
        self._latest.move_to_end(key)
        return self._latest[key]

    def _remember(self, key: str, found: tuple[Tensor, ...]) -> None:
        self._latest[key] = found
        while len(self._latest) > _IN_MEMORY:
            self._latest.popitem(last=False)

    def _found(self, key: str, image: Tensor, find: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        stored = self._encodings.read(key)
        if stored is not None:
            return tuple(tensor.to(image.device) for tensor in stored)
        self.asked += 1
        found = find()
        self._encodings.write(key, *found)
        return found

    def _key(self, image: Tensor, what: str) -> str:
        about = f"{self._sha256} {tuple(image.shape)} {image.device.type} {what} {torch.__version__} {__version__}"
        found = hashlib.sha256(about.encode())
        found.update(image.cpu().contiguous().numpy().data)
        return found.hexdigest()
