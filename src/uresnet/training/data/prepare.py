"""From images and label maps on their own grids to a training set on disk (:mod:`uresnet.training.data.dataset`).

Images are conformed by the function that inference uses. Every scan is written with a note of the files that it came
from, so that a second run skips what is done. Scans that cannot be used are left out and listed with the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage

from uresnet.config import ConformSpec
from uresnet.core.choices import BrainMethod, LabelConvention
from uresnet.core.coordinates import affine_coordinates
from uresnet.core.files import write_text, written_whole
from uresnet.core.grid import Grid, Shape, voxel_to_voxel
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import FREESURFER, fold_parcels, left_of_midline, neuromorphometrics_to_freesurfer
from uresnet.core.reading import parse_json, read_text
from uresnet.core.sampling import sample_labels
from uresnet.errors import UserError
from uresnet.io import read_image, read_labels
from uresnet.model.catalogue import find_model
from uresnet.model.checkpoint import conform_spec
from uresnet.preprocess import Conformed, conform, extract_brain
from uresnet.training.data.dataset import Scan, array_names, check_split, mapped_array, write_index, write_scan
from uresnet.training.data.label_maps import OUTSIDE, read_head
from uresnet.training.data.sources import Skipped, Source, check_names
from uresnet.training.data.tables import write_table

SKIPPED, SPLIT = "skipped.tsv", "split.tsv"

FEWEST = 2
"""Scans to train on, without which no training begins."""


@dataclass(frozen=True)
class PrepareOptions:
    """How images become training data. ``method`` finds the brain where no mask is given. ``heads``: there are label
    maps of whole heads and no images.

    ``name`` and ``licence`` of the data are copied into the cards of models trained on them.
    """

    convention: LabelConvention = "freesurfer"
    spec: ConformSpec = field(default_factory=ConformSpec)
    method: BrainMethod = "auto"
    device: str = "cpu"
    name: str = ""
    licence: str = ""
    heads: bool = False


@dataclass(frozen=True)
class Prepared:
    """The scans in the data folder, how many of them an earlier run had written, what was skipped, and their shape."""

    scans: tuple[Scan, ...]
    reused: int
    skipped: tuple[Skipped, ...]
    shape: Shape

    @property
    def split_sizes(self) -> dict[str, int]:
        """The number of scans in each split, in the order in which the splits first appear."""
        return dict(Counter(scan.split for scan in self.scans))


def conform_spec_of(model: str | None) -> ConformSpec:
    """How a model, packaged or a file, conforms its images; as the paper does without a model or its card.

    Raises :class:`UserError` for an unknown model.
    """
    card = find_model(model).card if model else None
    return ConformSpec() if card is None else conform_spec(card, card.name)


def prepare(
    sources: Sequence[Source],
    folder: Path,
    options: PrepareOptions,
    skipped: Sequence[Skipped] = (),
    progress: Callable[[str], None] = lambda scan_id: None,
) -> Prepared:
    """Conform and write all ``sources``, then the index and the tables of splits and, if any, of skipped scans.

    ``progress`` is called with the id of each source before it is conformed. Scans that an earlier run wrote from the
    same files with the same options are left as they are. Raises :class:`UserError` when no scan can be used, when one
    person is in two splits, for names that files cannot have, and when the folder cannot be written.
    """
    check_split([_scan(source) for source in sources], "the table")
    check_names(sources)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}); choose another with -o.") from error
    written: list[tuple[Source, Shape]] = []
    left_out, reused = list(skipped), 0
    for source in sources:
        progress(source.id)
        earlier = _shape_if_done(source, folder, options)
        reused += earlier is not None
        try:
            written.append((source, earlier or _write(source, folder, options)))
        except _Unusable as error:
            left_out.append(Skipped(source.id, str(error)))
    _write_skipped(folder, left_out)
    scans = [_scan(source) for source, _ in written]
    if not scans:
        first = left_out[0].reason if left_out else "there was none to prepare."
        raise UserError(f"No scan could be prepared ({folder / SKIPPED} lists them all). The first: {first}")
    i, j, k = (max(sides) for sides in zip(*(shape for _, shape in written), strict=True))
    shape = (i, j, k)
    for source, own in written:
        if own != shape:
            _enlarge(source, folder, shape)
    rows = [(scan.id, scan.subject, scan.split) for scan in scans]
    write_table(folder / SPLIT, ("id", "subject", "split"), rows)
    about = {"conform": asdict(options.spec), "name": options.name, "licence": options.licence}
    write_index(folder, shape, scans, labels=options.convention, heads=options.heads, **about)
    return Prepared(tuple(scans), reused, tuple(left_out), shape)


def _write_skipped(folder: Path, skipped: Sequence[Skipped]) -> None:
    """The table of what was left out; none where nothing was, also where an earlier run wrote one."""
    if skipped:
        write_table(folder / SKIPPED, ("id", "reason"), [(scan.id, scan.reason) for scan in skipped])
    else:
        (folder / SKIPPED).unlink(missing_ok=True)


def _scan(source: Source) -> Scan:
    return Scan(source.id, source.subject, source.split, source.t1 is not None)


class _Unusable(Exception):
    """The reason why a scan is left out."""


def _write(source: Source, folder: Path, options: PrepareOptions) -> Shape:
    """Conform one source and write it with its note; the shape that it got."""
    try:
        arrays, grid, notes = _arrays(source, options)
    except UserError as error:
        raise _Unusable(str(error)) from error
    write_scan(folder, _scan(source), *arrays, others=OUTSIDE if options.heads else ())
    where = {"shape": list(grid.shape), "voxel_to_world": grid.voxel_to_world.tolist(), "notes": notes}
    note = _note(source, options) | where
    write_text(json.dumps(note, indent=1, ensure_ascii=False), _note_path(folder, source.id))
    return grid.shape


def _arrays(
    source: Source, options: PrepareOptions
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray | None], Grid, list[str]]:
    """What is written of one source: image or brain mask, ids, and the T1 if it has one; their grid, and notes."""
    if options.heads:
        head = read_head(source.labels)
        return (head.brain, head.ids, None), head.grid, []
    conformed, ids, t1 = conformed_scan(source, options)
    beside = None if t1 is None else t1.tensor[0, 0].numpy()
    return (conformed.tensor[0, 0].numpy(), ids, beside), conformed.grid, conformed.notes


def conformed_scan(
    source: Source, options: PrepareOptions
) -> tuple[Conformed, npt.NDArray[np.int16], Conformed | None]:
    """The conformed image of one source, FreeSurfer ids (I, J, K) on its grid, and the conformed T1 if it has one.

    Raises :class:`UserError` for files that cannot be read, label maps and T1-weighted images on another grid than
    their image, and values outside the convention.
    """
    image, labels = read_image(source.image), read_labels(source.labels)
    t1 = None if source.t1 is None else read_image(source.t1)
    for other in (labels, t1):
        if other is not None and not other.grid.same_as(image.grid, atol_mm=0.1):
            raise UserError(f"{other.name} lies on another grid than {image.name}; resample it to the image first.")
    ids = _as_freesurfer(labels, options.convention)
    mask = None if source.mask is None else read_labels(source.mask)
    if mask is None and source.brain_from_labels:
        mask = _labelled_region(ids, image)
    brain, method = extract_brain(image, options.method, mask, options.device)
    conformed = conform(image, brain, options.spec)
    coordinates = affine_coordinates(voxel_to_voxel(conformed.grid, labels.grid), conformed.grid.shape)
    # Labels are copied where voxels coincide; where the image was interpolated, the largest share wins.
    carried = sample_labels(torch.from_numpy(ids.astype(np.int16)), coordinates)
    beside = None if t1 is None else conform(t1, brain, options.spec)
    return replace(conformed, notes=[method, *conformed.notes]), carried.numpy(), beside


def _as_freesurfer(labels: LabelMap, convention: LabelConvention) -> npt.NDArray[np.integer[Any]]:
    """FreeSurfer ids, cortical parcels folded into cortex, of a label map in ``convention``."""
    values = labels.data.numpy()
    if convention == "freesurfer":
        ids = fold_parcels(values)
        unknown = np.setdiff1d(ids, list(FREESURFER))
        if unknown.size:
            raise UserError(
                f"{labels.name} holds {unknown[0]}, which is not a known FreeSurfer id; name the convention with "
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


def _labelled_region(ids: npt.NDArray[np.integer[Any]], image: Image) -> LabelMap:
    """The brain as the labelled region, closed by 3 voxels because the fluid between the gyri has no label."""
    closed = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(ids > 0, 4), iterations=3))
    brain = closed[4:-4, 4:-4, 4:-4].astype(np.uint8)
    return LabelMap(torch.from_numpy(brain), image.grid, image.path)


# -- what an earlier run wrote ---------------------------------------------------------------------------------------


def _note_path(folder: Path, scan_id: str) -> Path:
    return folder / f"{scan_id}_source.json"


def _note(source: Source, options: PrepareOptions) -> dict[str, Any]:
    """What decides the result for a scan: its files with their sizes and times, and the options."""
    files = {}
    for role in ("image", "labels", "mask", "t1"):
        path: Path | None = getattr(source, role)
        if path is not None and path.exists():
            status = path.stat()
            files[role] = [str(path.resolve()), status.st_size, status.st_mtime_ns]
    how = {"conform": asdict(options.spec), "brain": options.method, "brain_from_labels": source.brain_from_labels}
    if options.heads:
        how = {"heads": True}
    as_read_back: dict[str, Any] = json.loads(json.dumps(how))
    return {"files": files, "labels": options.convention} | as_read_back


def _shape_if_done(source: Source, folder: Path, options: PrepareOptions) -> Shape | None:
    """The shape that an earlier run wrote of the same files with the same options; None if there is none."""
    try:
        note = parse_json(read_text(_note_path(folder, source.id)))
        shapes: set[Shape] = {mapped_array(path).shape for path in _array_paths(folder, source)}
    except (OSError, ValueError, UserError):
        return None
    wanted = _note(source, options)
    if not isinstance(note, dict) or any(note.get(key) != value for key, value in wanted.items()) or len(shapes) != 1:
        return None
    return shapes.pop()


def _array_paths(folder: Path, source: Source) -> list[Path]:
    return [folder / name for name in array_names(_scan(source))]


def _enlarge(source: Source, folder: Path, shape: Shape) -> None:
    """Pad a written scan to the larger ``shape`` about the same centre, voxel shape // 2, as conforming does."""
    for path in _array_paths(folder, source):
        small = np.array(mapped_array(path))
        large = np.zeros(shape, small.dtype)
        first = [n // 2 - m // 2 for n, m in zip(shape, small.shape, strict=True)]
        large[tuple(slice(start, start + m) for start, m in zip(first, small.shape, strict=True))] = small
        with written_whole(path) as beside, beside.open("wb") as file:
            np.save(file, large, allow_pickle=False)
