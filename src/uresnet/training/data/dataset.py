"""The training set on disk: conformed volumes as memory-mapped arrays.

A data folder holds ``dataset.json`` and, for every scan, ``<id>_image.npy`` and ``<id>_labels.npy``, both uint8 of the
shape that the JSON gives; a scan of another contrast than T1 may have ``<id>_t1.npy`` too, the T1 of the same brain.
Images are conformed intensities times 1 / ``image_scale``; labels are FreeSurfer ids (cortical parcels folded into
cortex, so that every id fits in a byte), from which every label scheme derives its classes. Processes that open one
folder share its memory pages. With ``heads``, there are no images but brain masks, and ids of what is around the brain
too (``label_maps.OUTSIDE``). Beside ``format``, ``shape``, ``image_scale`` and ``scans``, the JSON may say how the
images were conformed (``conform``, the fields of a ``ConformSpec``), and ``name`` and ``licence`` of the data, for the
cards of models trained on them.
"""

from __future__ import annotations

import json
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from uresnet.config import ConformSpec, conform_spec_from_dict
from uresnet.core.files import write_text, written_whole
from uresnet.core.grid import Grid
from uresnet.core.labels import FREESURFER, fold_parcels
from uresnet.core.reading import parse_json, read_text
from uresnet.errors import UserError, quoted

DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, AttributeError, OverflowError, MemoryError),
    *(SyntaxError, tokenize.TokenError, RecursionError),  # the header of an .npy file is parsed as Python
)
"""What NumPy raises for a damaged array."""

_NAME = re.compile(r"[^/\\\x00]{1,200}")
_MOST_SIDE = 4096

Volume = npt.NDArray[np.uint8]

FORMAT = 1
INDEX = "dataset.json"
"""The file that makes a folder a training set."""


@dataclass(frozen=True)
class Scan:
    """One volume of a training set. ``subject`` is the person, who must not be in two splits; ``has_t1``: the scan has
    another contrast, and the T1-weighted image of the same brain lies beside it."""

    id: str
    subject: str
    split: str
    has_t1: bool = False


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
    heads: bool = False
    arrays: Mapping[str, Volume] | None = None
    """The arrays by the names of their files, where they are in memory."""

    def of_split(self, split: str) -> tuple[Scan, ...]:
        """The scans of a split, in file order. Raises :class:`UserError` when there is none."""
        found = tuple(scan for scan in self.scans if scan.split == split)
        if not found:
            raise UserError(f"{self.folder} holds no scan of the split '{split}'; choose another, or prepare it again.")
        return found

    def check_images(self) -> None:
        """Raises :class:`UserError` for a folder of heads, which have none."""
        if self.heads:
            where = self.folder
            raise UserError(f"{where} holds heads without images, for uresnet train brain; give a folder of scans.")

    def image(self, scan: Scan) -> Volume:
        """(I, J, K) uint8, memory-mapped; times ``image_scale`` it is the conformed intensity in [0, 1]."""
        return self._open(array_names(scan)[0])

    def labels(self, scan: Scan) -> Volume:
        """(I, J, K) uint8 FreeSurfer ids, memory-mapped."""
        return self._open(array_names(scan)[1])

    def t1(self, scan: Scan) -> Volume:
        """The T1-weighted image of a scan that ``has_t1``, as :meth:`image`."""
        return self._open(array_names(scan)[2])

    def grid(self, scan: Scan) -> Grid:
        """Where the voxels of a scan lie in its own world; centred on the origin if the folder holds no note of it.

        Raises :class:`UserError` when the scan's note is damaged.
        """
        path = self.folder / f"{scan.id}_source.json"
        if not path.exists():
            zooms = [self.conform.blocks * zoom for zoom in self.conform.zooms]
            return Grid.centred(self.shape, zooms, self.conform.axis_codes, (0.0, 0.0, 0.0))
        try:
            note = parse_json(read_text(path))
            matrix = np.array(note["voxel_to_world"], dtype=np.float64)
            if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
                raise ValueError("no grid")
            written = Grid(_shape(note["shape"]), matrix)
        except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise UserError(f"Cannot read {path}; prepare the data again.") from error
        # A scan that was padded to the shape of a larger one kept its centre, voxel shape // 2.
        return written.subgrid([m // 2 - n // 2 for n, m in zip(self.shape, written.shape, strict=True)], self.shape)

    def _open(self, name: str) -> Volume:
        path = self.folder / name
        array = mapped_array(path) if self.arrays is None else self.arrays.get(name)
        if array is None:
            raise UserError(f"{self.folder} lacks {name}; make the bundle again.")
        if array.shape != self.shape or array.dtype != np.uint8:
            raise UserError(f"{path} does not fit {self.folder / INDEX}; prepare the data again.")
        return array


def array_names(scan: Scan) -> list[str]:
    """The names of the files of a scan's image, its labels and, where it has one, its T1."""
    return [f"{scan.id}_{role}.npy" for role in ("image", "labels", "t1")[: 3 if scan.has_t1 else 2]]


def mapped_array(path: Path) -> Volume:
    """An array on disk, memory-mapped. Raises :class:`UserError` for a file that is missing or damaged."""
    try:
        array: Volume = np.load(path, mmap_mode="r", allow_pickle=False)
    except DAMAGE as error:
        raise UserError(f"Cannot read {path}; prepare the data again.") from error
    return array


def open_dataset(folder: Path | str) -> PackedDataset:
    """Open a data folder. Raises :class:`UserError` when it is no such folder or one person is in two splits."""
    folder = Path(folder)
    try:
        text = read_text(folder / INDEX)
    except OSError as error:
        raise UserError(
            f"{folder} is not a prepared data folder, it has no readable {INDEX}; make one with uresnet "
            "prepare, or give another folder."
        ) from error
    except ValueError as error:
        raise UserError(f"{folder / INDEX} is damaged; prepare the data again.") from error
    return dataset_of(text, folder)


def dataset_of(text: str, folder: Path) -> PackedDataset:
    """The data in ``folder`` whose index is this JSON. Raises as :func:`open_dataset`."""
    path = folder / INDEX
    try:
        index = parse_json(text)
        if index["format"] != FORMAT:
            found = quoted(repr(index["format"]))
            raise UserError(f"{path} has format {found}, this version reads {FORMAT}; prepare it again.")
        scans = tuple(_scan(entry) for entry in index["scans"])
        dataset = PackedDataset(
            folder,
            _shape(index["shape"]),
            _scale(index["image_scale"]),
            scans,
            conform_spec_from_dict(index.get("conform", {}), str(path)),
            _text(index.get("name", "")),
            _text(index.get("licence", "")),
            index.get("heads", False) is True,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged; prepare the data again.") from error
    if len({scan.id for scan in scans}) < len(scans):
        raise UserError(f"{path} is damaged: it names a scan twice; prepare the data again.")
    check_split(scans, str(path))
    return dataset


def check_split(scans: Sequence[Scan], where: str) -> None:
    """Raises :class:`UserError` naming ``where`` when one person is in two splits."""
    split_of: dict[str, str] = {}
    for scan in scans:
        if split_of.setdefault(scan.subject, scan.split) != scan.split:
            raise UserError(
                f"{where}: person {quoted(scan.subject)} is in the splits {quoted(split_of[scan.subject])} and "
                f"{quoted(scan.split)}; "
                "move all of a person's scans to one."
            )


def write_scan(
    folder: Path,
    scan: Scan,
    image: np.ndarray,
    labels: np.ndarray,
    t1: np.ndarray | None = None,
    others: Sequence[int] = (),
) -> None:
    """Write one scan: conformed intensities in [0, 1], FreeSurfer ids or ``others``, and, if it ``has_t1``, the
    conformed T1, all (I, J, K). Whole files or none."""
    ids = fold_parcels(np.asarray(labels))
    known = np.isin(ids, [*FREESURFER, *others])
    if not known.all():
        raise UserError(
            f"The labels of {scan.id} hold {ids[~known].flat[0]}, which is not a known FreeSurfer id; check that "
            "they follow the convention that you chose."
        )
    arrays = [_in_bytes(image), ids.astype(np.uint8), *([] if t1 is None else [_in_bytes(t1)])]
    for name, array in zip(array_names(scan), arrays, strict=True):
        _write_array(folder / name, array)


def write_index(folder: Path, shape: Sequence[int], scans: Sequence[Scan], **more: Any) -> None:
    """Write ``dataset.json`` last, when all scans are there; ``more`` is kept beside what training needs."""
    check_split(scans, str(folder))
    index = {"format": FORMAT, "shape": [int(n) for n in shape], "image_scale": 1 / 255, **more}
    index["scans"] = [asdict(scan) for scan in scans]
    write_text(json.dumps(index, indent=1), folder / INDEX)


def _scan(entry: dict[str, object]) -> Scan:
    has_t1 = entry.get("has_t1", False)
    if not isinstance(has_t1, bool):
        raise ValueError("neither yes nor no")
    return Scan(_name(entry["id"]), _name(entry["subject"]), _name(entry["split"]), has_t1)


def _in_bytes(image: np.ndarray) -> Volume:
    whole: Volume = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    return whole


def _name(value: object) -> str:
    """A name that can be part of a file's name. Raises ``ValueError`` for another value."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("no name")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")
    return value


def _shape(value: object) -> tuple[int, int, int]:
    if not isinstance(value, list) or len(value) != 3:
        raise ValueError("no shape")
    if not all(type(side) is int and 1 <= side <= _MOST_SIDE for side in value):
        raise ValueError("no shape")
    return (value[0], value[1], value[2])


def _scale(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
        raise ValueError("no scale")
    return float(value)


def _write_array(path: Path, array: np.ndarray) -> None:
    with written_whole(path) as beside, beside.open("wb") as file:
        np.save(file, array, allow_pickle=False)
