"""The on-disk training set: conformed volumes as memory-mapped arrays, and its copy on a device.

A data folder holds ``dataset.json`` and, for every scan, ``<id>_image.npy`` and ``<id>_labels.npy``, both uint8 of the
shape that the JSON gives. Images are conformed intensities times 1 / ``image_scale``; labels are FreeSurfer ids
(cortical parcels folded into cortex, so all fit a byte), from which every label scheme derives its classes. Processes
that open one folder share its pages. Beside ``format``, ``shape``, ``image_scale`` and ``scans``, the JSON may say how
the images were conformed (``conform``, the fields of a ``ConformSpec``), and ``name`` and ``licence`` of the data, for
the cards of models trained on them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.config import ConformSpec
from uresnet.core.files import write_text, written_whole
from uresnet.core.grid import Grid
from uresnet.core.labels import FREESURFER, LabelScheme, fold_parcels, mirrored_id
from uresnet.errors import UserError

FORMAT = 1
INDEX = "dataset.json"
"""The file that makes a folder a training set."""


@dataclass(frozen=True)
class Scan:
    """One volume of a training set. ``subject`` is the person, who must not be in two splits."""

    id: str
    subject: str
    split: str


@dataclass(frozen=True)
class PackedDataset:
    """A data folder that has been opened and checked."""

    folder: Path
    shape: tuple[int, int, int]
    image_scale: float
    scans: tuple[Scan, ...]
    conform: ConformSpec = field(default_factory=ConformSpec)
    name: str = ""
    licence: str = ""

    def of_split(self, split: str) -> tuple[Scan, ...]:
        """The scans of a split, in file order. Raises :class:`UserError` when there is none."""
        found = tuple(scan for scan in self.scans if scan.split == split)
        if not found:
            raise UserError(f"{self.folder} holds no scan of the split '{split}'; choose another or prepare it again.")
        return found

    def image(self, scan: Scan) -> np.ndarray:
        """(I, J, K) uint8, memory-mapped; times ``image_scale`` it is the conformed intensity in [0, 1]."""
        return self._open(scan, "image")

    def labels(self, scan: Scan) -> np.ndarray:
        """(I, J, K) uint8 FreeSurfer ids, memory-mapped."""
        return self._open(scan, "labels")

    def grid(self, scan: Scan) -> Grid:
        """Where the voxels of a scan lie in its own world; about the origin where the data do not say.

        Raises :class:`UserError` when the scan's note is damaged.
        """
        path = self.folder / f"{scan.id}_source.json"
        if not path.exists():
            zooms = [self.conform.blocks * zoom for zoom in self.conform.zooms]
            return Grid.centred(self.shape, zooms, self.conform.axis_codes, (0.0, 0.0, 0.0))
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            own = Grid(tuple(note["shape"]), np.array(note["voxel_to_world"], dtype=np.float64))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"Cannot read {path}; prepare the data again.") from error
        # A scan that was padded to the shape of a larger one kept its centre, voxel shape // 2.
        return own.subgrid([m // 2 - n // 2 for n, m in zip(self.shape, own.shape, strict=True)], self.shape)

    def _open(self, scan: Scan, what: str) -> np.ndarray:
        path = self.folder / f"{scan.id}_{what}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise UserError(f"Cannot read {path}; prepare the data again.") from error
        if array.shape != self.shape or array.dtype != np.uint8:
            raise UserError(f"{path} does not fit {self.folder / INDEX}; prepare the data again.")
        return array


def open_dataset(folder: Path | str) -> PackedDataset:
    """Open a data folder. Raises :class:`UserError` when it is no such folder or one person is in two splits."""
    folder = Path(folder)
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        scans = tuple(Scan(s["id"], s["subject"], s["split"]) for s in index["scans"])
        conform: dict[str, Any] = index.get("conform", {})
        conform = {key: tuple(v) if isinstance(v, list) else v for key, v in conform.items()}
        dataset = PackedDataset(
            folder,
            tuple(index["shape"]),
            float(index["image_scale"]),
            scans,
            ConformSpec(**conform),
            str(index.get("name", "")),
            str(index.get("licence", "")),
        )
    except OSError as error:
        raise UserError(
            f"{folder} is not a prepared data folder, it has no readable {INDEX}; make one with 'uresnet prepare', "
            "or name another with --data."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged; prepare the data again.") from error
    if index.get("format") != FORMAT:
        raise UserError(f"{path} has format {index.get('format')}, this version reads {FORMAT}; prepare it again.")
    check_split(scans, str(path))
    return dataset


def check_split(scans: Sequence[Scan], where: str) -> None:
    """Raises :class:`UserError` naming ``where`` when one person is in two splits."""
    split_of: dict[str, str] = {}
    for scan in scans:
        if split_of.setdefault(scan.subject, scan.split) != scan.split:
            raise UserError(
                f"{where}: person {scan.subject} is in the splits {split_of[scan.subject]} and {scan.split}; "
                "move all of a person's scans to one."
            )


def write_scan(folder: Path, scan: Scan, image: np.ndarray, labels: np.ndarray) -> None:
    """Write one scan: conformed intensities in [0, 1] and FreeSurfer ids, both (I, J, K). Whole files or none."""
    ids = fold_parcels(np.asarray(labels))
    known = np.isin(ids, list(FREESURFER))
    if not known.all():
        raise UserError(
            f"The labels of {scan.id} hold {ids[~known].flat[0]}, which is no FreeSurfer id that we know; check that "
            "they follow the convention that was named."
        )
    _write_array(folder / f"{scan.id}_image.npy", np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    _write_array(folder / f"{scan.id}_labels.npy", ids.astype(np.uint8))


def write_index(folder: Path, shape: Sequence[int], scans: Sequence[Scan], **more: Any) -> None:
    """Write ``dataset.json`` last, when all scans are there; ``more`` is kept beside what training needs."""
    check_split(scans, str(folder))
    index = {"format": FORMAT, "shape": [int(n) for n in shape], "image_scale": 1 / 255, **more}
    index["scans"] = [asdict(scan) for scan in scans]
    write_text(json.dumps(index, indent=1), folder / INDEX)


def _write_array(path: Path, array: np.ndarray) -> None:
    with written_whole(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)


@dataclass(frozen=True)
class DeviceStore:
    """Scans of a data set held on a device: uint8 images (N, 1, I, J, K), labels of ``downsampling`` times the size."""

    scans: tuple[Scan, ...]
    images: Tensor
    labels: Tensor
    image_scale: float
    downsampling: int = 1

    def batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Images (B, 1, I, J, K) float32 in [0, 1], labels uint8 FreeSurfer ids, of the scan's own voxels."""
        where = list(indices)
        return self.images[where].float() * self.image_scale, self.labels[where]

    def downsampled(self, factor: int) -> DeviceStore:
        """Images averaged over blocks of ``factor`` voxels; labels stay as fine as they are.

        A block's most frequent label would not do: upsampled, it has a Dice of 0.93 with the labels it came from in
        white matter, the shares of every class 0.96.
        """
        if factor == 1:
            return self
        images = torch.cat([_block_mean(image[None], factor) for image in self.images])
        return DeviceStore(self.scans, images, self.labels, self.image_scale, self.downsampling * factor)


def load_store(dataset: PackedDataset, splits: Sequence[str], device: torch.device | str) -> DeviceStore:
    """Read all scans of ``splits`` to a device (12 MB a scan on the paper's grid)."""
    scans = tuple(scan for split in splits for scan in dataset.of_split(split))
    images = torch.stack([torch.from_numpy(np.array(dataset.image(scan))) for scan in scans])[:, None]
    labels = torch.stack([torch.from_numpy(np.array(dataset.labels(scan))) for scan in scans])[:, None]
    return DeviceStore(scans, images.to(device), labels.to(device), dataset.image_scale)


def class_table(scheme: LabelScheme, device: torch.device | str = "cpu") -> Tensor:
    """(256,) int64: FreeSurfer id → class of ``scheme``."""
    ids = np.array([i if i in FREESURFER else 0 for i in range(256)])
    return torch.from_numpy(scheme.to_classes(ids).astype(np.int64)).to(device)


@functools.cache
def mirror_table(device: torch.device | str = "cpu") -> Tensor:
    """(256,) uint8: FreeSurfer id → the id of the same structure on the other side."""
    return torch.tensor(
        [mirrored_id(i) if i in FREESURFER else i for i in range(256)], dtype=torch.uint8, device=device
    )


def class_shares(labels: Tensor, table: Tensor, classes: int, block: int = 1) -> Tensor:
    """The share of every class in blocks of ``block`` voxels, background first.

    Labels (B, 1, I, J, K) uint8 ids → (B, classes, I / block, J / block, K / block) float32; with ``block`` 1 they are
    0 or 1.
    """
    found = table[labels.int()]
    steps = range(block)
    parts = [found[:, :, i::block, j::block, k::block] for i in steps for j in steps for k in steps]
    shares = torch.zeros(labels.shape[0], classes, *parts[0].shape[2:], device=labels.device)
    share = torch.full((1,) * 5, 1 / len(parts), device=labels.device)
    for part in parts:
        shares.scatter_add_(1, part, share.expand(part.shape))
    return shares


def _block_mean(image: Tensor, factor: int) -> Tensor:
    return F.avg_pool3d(image.float(), factor).round().to(torch.uint8)
