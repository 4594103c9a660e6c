"""Which files make up a training set, and whose they are: from a table or from FreeSurfer subjects."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uresnet.errors import UserError, quoted
from uresnet.training.data.dataset import Scan, check_split
from uresnet.training.data.label_maps import label_map_files
from uresnet.training.data.tables import read_table

SPLITS = ("train", "val", "test")

_MOST_BYTES = 200
"""Of the id of a scan; endings such as ``_source.json`` are added to it."""

_SUFFIX = re.compile(r"\.(nii\.gz|nii|mgz|mgh|nrrd|mha|nhdr|mhd)$", re.IGNORECASE)
_FREESURFER_NAMES = {"image": ("orig.mgz", "norm.mgz", "brainmask.mgz"), "labels": ("aseg.mgz",)}
_PERSON = re.compile(r"^(sub-[A-Za-z0-9]+|OAS\d+)")


@dataclass(frozen=True)
class Source:
    """One scan before preparation; ``split`` is empty where none was given, ``mask`` None where the brain is found.

    ``brain_from_labels``: without a mask, the labelled region is the brain. ``t1`` is the T1-weighted image of the same
    brain on the same grid, where the image has another contrast.
    """

    id: str
    subject: str
    split: str
    image: Path
    labels: Path
    mask: Path | None = None
    brain_from_labels: bool = False
    t1: Path | None = None


@dataclass(frozen=True)
class Skipped:
    """A scan that is left out, and why."""

    id: str
    reason: str


def sources_from_table(path: Path) -> list[Source]:
    """Read a table (tab-separated, or commas in ``.csv``) with the columns image, labels, subject, split.

    ``subject`` and ``split`` may be missing or empty; the columns ``id``, ``mask`` and ``t1`` are used as well if
    present. Paths are relative to the table. Raises :class:`UserError` for missing columns, files, repeated ids and
    unknown splits.
    """
    rows = read_table(path, ("image", "labels"))
    sources = []
    for number, row in enumerate(rows, start=2):
        image, labels = path.parent / row["image"], path.parent / row["labels"]
        mask, t1 = (path.parent / row[role] if row.get(role) else None for role in ("mask", "t1"))
        scan = row.get("id") or _SUFFIX.sub("", image.name)
        if not re.fullmatch(r"[\w.+-]+", scan):
            raise UserError(f"{path}, line {number}: '{quoted(scan)}' cannot be part of a file name; give another id.")
        sources.append(Source(scan, row.get("subject") or scan, row.get("split") or "", image, labels, mask, t1=t1))
    _check_ids([source.id for source in sources], path)
    check_names(sources, f"{path}: ")
    check_splits(sources, path)
    return sources


def sources_from_subjects(folder: Path) -> tuple[list[Source], list[Skipped]]:
    """Find the scans of a FreeSurfer folder: ``SUBJECT/mri/{orig,aseg,brainmask}.mgz``, or flat ``ID_orig.mgz``.

    The brain is ``brainmask.mgz`` if it exists, else the labelled region. The person is the ``sub-…`` or ``OAS…``
    that a name begins with, else the whole name without FreeSurfer's ``.long.…``. Subjects that lack a file are
    returned as skipped. Raises :class:`UserError` when the folder holds no subject.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of FreeSurfer subjects.")
    sources, skipped = [], []
    for name, files in sorted(_candidates(folder).items()):
        if _unusable(name):
            skipped.append(Skipped(quoted(name), f"its name {_unusable(name)}; rename it."))
            continue
        image, labels = files.get("image"), files.get("labels")
        if image is None or labels is None:
            missing = "aseg.mgz" if labels is None else "orig.mgz, norm.mgz or brainmask.mgz"
            skipped.append(Skipped(name, f"{folder / name} has no {missing}; run recon-all to its end."))
            continue
        mask = files.get("mask")
        sources.append(Source(name, person_of(name), "", image, labels, mask, brain_from_labels=mask is None))
    if not sources and not skipped:
        raise UserError(
            f"{folder} holds no FreeSurfer subject (SUBJECT/mri/orig.mgz, or ID_orig.mgz); check the folder."
        )
    return sources, skipped


def sources_from_heads(folder: Path) -> list[Source]:
    """The label maps of a folder, each of a person of its own. Raises :class:`UserError` where there is none."""
    paths = label_map_files(folder, "label maps", "the folder")
    sources = [Source(_SUFFIX.sub("", path.name), _SUFFIX.sub("", path.name), "", path, path) for path in paths]
    _check_ids([source.id for source in sources], folder)
    return sources


def _candidates(folder: Path) -> dict[str, Mapping[str, Path]]:
    """The image, labels and mask that there are of every subject, by its name."""
    found: dict[str, Mapping[str, Path]] = {}
    for inside in sorted(folder.glob("*/mri")):
        files = {
            role: next((path for name in names if (path := inside / name).exists()), None)
            for role, names in _FREESURFER_NAMES.items()
        }
        mask = inside / "brainmask.mgz"
        files["mask"] = mask if mask.exists() else None
        found[inside.parent.name] = {role: path for role, path in files.items() if path}
    for image in sorted(folder.glob("*_orig.mgz")):
        name = image.name.removesuffix("_orig.mgz")
        others = {"labels": folder / f"{name}_aseg.mgz", "mask": folder / f"{name}_brainmask.mgz"}
        found[name] = {"image": image} | {role: path for role, path in others.items() if path.exists()}
    return found


def person_of(name: str) -> str:
    """``sub-01_ses-2`` → ``sub-01``, ``OAS30001_MR_d0129`` → ``OAS30001``, ``bert.long.base`` → ``bert``."""
    match = _PERSON.match(name)
    return match[1] if match else name.partition(".long.")[0]


def _check_ids(ids: Sequence[str], path: Path) -> None:
    repeated = next((name for name, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise UserError(f"{path} has two scans named {quoted(repeated)}; tell them apart in a column id.")


def check_names(sources: Sequence[Source], where: str = "") -> None:
    """Raises :class:`UserError`, which begins with ``where``, for ids, persons and paths that cannot be names of files
    or be written to a table: found at the end, they would cost the work of all scans."""
    for source in sources:
        paths = [str(path) for path in (source.image, source.labels, source.mask, source.t1) if path is not None]
        parts = [part for path in paths for part in Path(path).parts]
        for name, most in [(source.id, _MOST_BYTES), (source.subject, _MOST_BYTES), *((part, 255) for part in parts)]:
            if reason := _unusable(name, most):
                raise UserError(f"{where}the name '{quoted(name)}' {reason}; give another.")


def _unusable(name: str, most: int = _MOST_BYTES) -> str:
    """Why a name cannot be used; empty where it can."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not in UTF-8"
    if size > most:
        return f"is longer than {most} bytes"
    return "" if name.isprintable() else "holds characters that cannot be printed"


def check_splits(sources: Sequence[Source], path: Path) -> None:
    """Raises :class:`UserError` naming the table ``path`` for an unknown split, or one person in two splits."""
    for source in sources:
        if source.split and source.split not in SPLITS:
            split, name = quoted(source.split), quoted(source.id)
            raise UserError(f"{path}: the split {split} of {name} is unknown; use {', '.join(SPLITS)}.")
    check_split([Scan(source.id, source.subject, source.split) for source in sources if source.split], str(path))
