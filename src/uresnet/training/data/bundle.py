"""A training set as one small file, to train from on another machine.

It is a tar archive, compressed by xz: the index of the data folder, the arrays of its scans, and what else examples are
made from: label maps and shapes of strokes, conformed already. The notes on where the scans came from stay behind.
"""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uresnet.core.files import written_whole
from uresnet.errors import UserError
from uresnet.training.data.dataset import DAMAGE, INDEX, PackedDataset, Volume, array_names, dataset_of
from uresnet.training.data.store import DeviceStore

_MAPS, _SHAPE = "label_maps.npy", "shape_{:04}.npy"
_PRESET = 6  # of xz
_LARGEST = 1 << 32  # bytes of one array


@dataclass(frozen=True, eq=False)
class Extras:
    """What examples are made from beside T1-weighted scans: ``label_maps`` (M, 1, I, J, K) uint8 FreeSurfer ids, masks
    (i, j, k) uint8 with the ``shapes`` of strokes, and scans of ``others``, contrasts whose T1 is known."""

    label_maps: Tensor | None = None
    shapes: tuple[Tensor, ...] = ()
    others: DeviceStore | None = None


def write_bundle(
    dataset: PackedDataset, extras: Extras, path: Path, most: int, progress: Callable[[str], None] = lambda name: None
) -> int:
    """Write a bundle, and return its size in bytes. ``progress`` is called with the name of every array before it is
    compressed. Raises :class:`UserError` for one of more than ``most`` bytes, which is not kept, and for scans and
    folders that cannot be read or written."""
    index = (dataset.folder / INDEX).read_bytes()
    with written_whole(path) as beside:
        with lzma.open(beside, "wb", preset=_PRESET) as file, tarfile.open(fileobj=file, mode="w") as archive:
            _add(archive, INDEX, index)
            for name, array in _arrays(dataset, extras):
                progress(name)
                content = io.BytesIO()
                np.save(content, np.ascontiguousarray(array), allow_pickle=False)
                _add(archive, name, content.getvalue())
        size = beside.stat().st_size
        if size > most:
            raise UserError(
                f"{path} would have {size / 1e6:.0f} MB, more than {most / 1e6:.0f}; bundle fewer scans or label maps, "
                "or allow more with --most."
            )
    return size


def number_of_arrays(dataset: PackedDataset, extras: Extras) -> int:
    """How many arrays a bundle of these will hold."""
    return sum(len(array_names(scan)) for scan in dataset.scans) + (extras.label_maps is not None) + len(extras.shapes)


def open_bundle(path: Path) -> tuple[PackedDataset, Extras]:
    """Read a bundle into memory. Raises :class:`UserError` for a file that is none or is damaged."""
    try:
        with tarfile.open(path, "r:xz") as archive:
            content = {member.name: _content(archive, member) for member in archive}
        index = content.pop(INDEX).decode("utf-8")
        arrays = {name: _array(data) for name, data in content.items() if name.endswith(".npy")}
    except (*DAMAGE, tarfile.TarError, lzma.LZMAError) as error:
        raise UserError(
            f"{path} is neither a data folder nor a whole bundle; make one with uresnet prepare bundle, or copy it "
            "again."
        ) from error
    maps = arrays.pop(_MAPS, None)
    shapes = [torch.from_numpy(arrays.pop(name)) for name in sorted(arrays) if name.startswith(_SHAPE.split("{")[0])]
    dataset = replace(dataset_of(index, path), arrays=arrays)
    return dataset, Extras(None if maps is None else torch.from_numpy(maps), tuple(shapes))


def _arrays(dataset: PackedDataset, extras: Extras) -> Iterator[tuple[str, Volume]]:
    # Arrays of a kind beside each other: xz finds what they have in common.
    with_t1 = [scan for scan in dataset.scans if scan.has_t1]
    for place, (scans, read) in enumerate(
        ((dataset.scans, dataset.image), (dataset.scans, dataset.labels), (with_t1, dataset.t1))
    ):
        yield from ((array_names(scan)[place], read(scan)) for scan in scans)
    if extras.label_maps is not None:
        yield _MAPS, extras.label_maps.numpy()
    for number, shape in enumerate(extras.shapes):
        yield _SHAPE.format(number), shape.numpy()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member) if member.isfile() and member.size <= _LARGEST else None
    if file is None:
        raise ValueError("no array")
    return file.read()


def _array(data: bytes) -> Volume:
    array: Volume = np.load(io.BytesIO(data), allow_pickle=False)
    if array.dtype != np.uint8:
        raise ValueError("no bytes")
    return array
