"""From images and label maps on their own grids to the on-disk training set (``training.data``).

Images are conformed by the very function that inference uses, so that a network meets nothing else later. Every scan is
written with a note of where it came from, by which a second run knows what is done; what cannot be used is skipped and
listed with the reason.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from uresnet.config import ConformSpec
from uresnet.core.choices import LabelConvention
from uresnet.core.files import write_text, written_whole
from uresnet.core.grid import Shape, voxel_to_voxel
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import FREESURFER, fold_parcels, left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.core.sampling import affine_coordinates, sample_labels
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.preprocess import Conformed, conform, extract_brain
from uresnet.training.data.dataset import Scan, check_split, write_index, write_scan
from uresnet.training.data.sources import Skipped, Source

SKIPPED, SPLIT = "skipped.tsv", "split.tsv"


@dataclass(frozen=True)
class PrepareOptions:
    """How images become training data. ``method``: how the brain is found where no mask is given.

    ``name`` and ``licence`` of the data go into the cards of models trained on them.
    """

    convention: LabelConvention = "freesurfer"
    spec: ConformSpec = field(default_factory=ConformSpec)
    method: str = "auto"
    device: str = "cpu"
    name: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Prepared:
    """What came of a preparation: scans in the data folder, how many of them were there before, what was skipped."""

    scans: tuple[Scan, ...]
    reused: int
    skipped: tuple[Skipped, ...]
    shape: Shape


def prepare(
    sources: Sequence[Source],
    folder: Path,
    options: PrepareOptions,
    skipped: Sequence[Skipped] = (),
    progress: Callable[[str], None] = lambda scan: None,
) -> Prepared:
    """Conform and write all ``sources``, told one by one to ``progress``, then the index, the split and the skipped.

    Scans that an earlier run wrote from the same files in the same way are left as they are. Raises :class:`UserError`
    when no scan can be used, when one person is in two splits, and when the folder cannot be written.
    """
    check_split([Scan(s.id, s.subject, s.split) for s in sources], "the table")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another with -o.") from error
    done: list[tuple[Source, Shape]] = []
    left_out, reused = list(skipped), 0
    for source in sources:
        progress(source.id)
        found = _shape_if_done(source, folder, options)
        reused += found is not None
        try:
            done.append((source, found or _write(source, folder, options)))
        except _Unusable as error:
            left_out.append(Skipped(source.id, str(error)))
    _write_table(folder / SKIPPED, ("id", "reason"), [(s.id, s.reason) for s in left_out])
    scans = [Scan(source.id, source.subject, source.split) for source, _ in done]
    if not scans:
        first = left_out[0].reason if left_out else "there was none to prepare."
        raise UserError(f"No scan could be prepared ({folder / SKIPPED} lists them all). The first: {first}")
    shape = tuple(max(shape[axis] for _, shape in done) for axis in range(3))
    assert len(shape) == 3
    for source, own in done:
        if own != shape:
            _enlarge(source, folder, shape)
    rows = [(scan.id, scan.subject, scan.split) for scan in scans]
    _write_table(folder / SPLIT, ("id", "subject", "split"), rows)
    about = {"conform": asdict(options.spec), "name": options.name, "licence": options.licence}
    write_index(folder, shape, scans, labels=options.convention, **about)
    return Prepared(tuple(scans), reused, tuple(left_out), shape)


class _Unusable(Exception):
    """A scan that cannot be used; the others can."""


def _write(source: Source, folder: Path, options: PrepareOptions) -> Shape:
    try:
        conformed, ids = conformed_scan(source, options)
    except UserError as error:
        raise _Unusable(str(error)) from error
    scan = Scan(source.id, source.subject, source.split)
    write_scan(folder, scan, conformed.tensor[0, 0].numpy(), ids)
    note = _note(source, options) | {
        "shape": list(conformed.grid.shape),
        "voxel_to_world": conformed.grid.voxel_to_world.tolist(),
        "notes": conformed.notes,
    }
    write_text(json.dumps(note, indent=1, ensure_ascii=False), _note_path(folder, source.id))
    return conformed.grid.shape


def conformed_scan(source: Source, options: PrepareOptions) -> tuple[Conformed, np.ndarray]:
    """The conformed image, and FreeSurfer ids (I, J, K) on its grid, of one source.

    Raises :class:`UserError` for files that cannot be read, label maps on another grid than their image, and values
    outside the convention.
    """
    image, labels = read_image(source.image), read_labels(source.labels)
    if not labels.grid.same_as(image.grid, atol_mm=0.1):
        raise UserError(
            f"{labels.name} lies on another grid than {image.name}; resample the labels to the image first."
        )
    ids = _as_freesurfer(labels, options.convention)
    mask = None if source.mask is None else read_labels(source.mask)
    if mask is None and source.brain_from_labels:
        mask = _labelled_region(ids, image)
    brain, how = extract_brain(image, options.method, mask, options.device)
    conformed = conform(image, brain, options.spec)
    where = affine_coordinates(voxel_to_voxel(conformed.grid, labels.grid), conformed.grid.shape)
    # Whole voxels are copied; where images were interpolated, every label gets the votes of its share.
    carried = sample_labels(torch.from_numpy(ids.astype(np.int16)), where)
    return replace(conformed, notes=[how, *conformed.notes]), carried.numpy()


def _as_freesurfer(labels: LabelMap, convention: LabelConvention) -> np.ndarray:
    values = labels.data.numpy()
    if convention == "freesurfer":
        ids = fold_parcels(values)
        strange = np.setdiff1d(ids, list(FREESURFER))
        if strange.size:
            raise UserError(
                f"{labels.name} holds {strange[0]}, which is no FreeSurfer id that we know; name the convention with "
                "--labels, or convert the labels."
            )
        return ids
    try:
        is_left = left_of_midline(values, labels.grid.voxel_to_world)
    except ValueError:
        is_left = None
    try:
        return neuromorphometrics_to_freesurfer(values, is_left, labels.name)
    except ValueError as error:
        raise UserError(f"{labels.name} cannot be read as Neuromorphometrics labels: {error}.") from error


def _labelled_region(ids: np.ndarray, image: Image) -> LabelMap:
    """The brain as everything that is labelled, closed by 3 voxels: the fluid between the gyri has no label."""
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(ids > 0, 4), iterations=3))
    brain = closed[4:-4, 4:-4, 4:-4].astype(np.uint8)
    return LabelMap(torch.from_numpy(brain), image.grid, image.path)


# -- what was done before -------------------------------------------------------------------------------------------


def _note_path(folder: Path, scan: str) -> Path:
    return folder / f"{scan}_source.json"


def _note(source: Source, options: PrepareOptions) -> dict[str, Any]:
    """By which a scan is known to be done: the files with size and time, and everything that decides the result."""
    files = {}
    for what, path in (("image", source.image), ("labels", source.labels), ("mask", source.mask)):
        if path is not None and path.exists():
            status = path.stat()
            files[what] = [str(path.resolve()), status.st_size, status.st_mtime_ns]
    how = {"conform": asdict(options.spec), "brain": options.method, "brain_from_labels": source.brain_from_labels}
    return {"files": files, "labels": options.convention} | json.loads(json.dumps(how))


def _shape_if_done(source: Source, folder: Path, options: PrepareOptions) -> Shape | None:
    arrays = [folder / f"{source.id}_{what}.npy" for what in ("image", "labels")]
    try:
        note = json.loads(_note_path(folder, source.id).read_text(encoding="utf-8"))
        shapes = {np.load(path, mmap_mode="r").shape for path in arrays}
    except (OSError, ValueError):
        return None
    wanted = _note(source, options)
    if any(note.get(key) != value for key, value in wanted.items()) or len(shapes) != 1:
        return None
    return shapes.pop()


def _enlarge(source: Source, folder: Path, shape: Shape) -> None:
    """Pad a written scan to a larger grid with the same centre, voxel shape // 2, as conforming to it would have."""
    for what in ("image", "labels"):
        path = folder / f"{source.id}_{what}.npy"
        small = np.load(path)
        large = np.zeros(shape, small.dtype)
        first = [n // 2 - m // 2 for n, m in zip(shape, small.shape, strict=True)]
        large[tuple(slice(f, f + m) for f, m in zip(first, small.shape, strict=True))] = small
        with written_whole(path) as beside, beside.open("wb") as file:
            np.save(file, large, allow_pickle=False)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    write_text("".join("\t".join(row) + "\n" for row in _lines(header, rows)), path)


def _lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    for row in (header, *rows):
        yield [" ".join(cell.split()) for cell in row]
