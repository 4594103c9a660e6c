"""Which files make up a training set, whose they are and which split they belong to: from a table or FreeSurfer."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uresnet.errors import UserError
from uresnet.training.data.dataset import Scan, check_split

SPLITS = ("train", "val", "test")
SHARES = (0.7, 0.1, 0.2)
"""Shares of the people, about those of the paper (520, 67 and 156 of 743 sessions)."""

_SUFFIX = re.compile(r"\.(nii\.gz|nii|mgz|mgh|nrrd|mha|nhdr|mhd)$", re.IGNORECASE)
_FREESURFER_NAMES = {"image": ("orig.mgz", "norm.mgz", "brainmask.mgz"), "labels": ("aseg.mgz",)}
_PERSON = re.compile(r"^(sub-[A-Za-z0-9]+|OAS\d+)")
_SESSION = re.compile(r"^(OAS\d+)_.*?(d\d+)")

PAPER, PAPER_BY_PERSON = "paper", "paper-by-person"
"""Splits that come with the package: the 743 OASIS-3 sessions of the paper, as its authors divided them and by person.

The list (``oasis3_split.tsv``) is that of the repository TheoEst/coupling_registration_segmentation.
"""


@dataclass(frozen=True)
class Source:
    """One scan before preparation; ``split`` is empty where none was given, ``mask`` None where the brain is found.

    ``brain_from_labels``: without a mask, the labelled region is the brain.
    """

    id: str
    subject: str
    split: str
    image: Path
    labels: Path
    mask: Path | None = None
    brain_from_labels: bool = False


@dataclass(frozen=True)
class Skipped:
    """A scan that is left out, and why."""

    id: str
    reason: str


def sources_from_table(path: Path) -> list[Source]:
    """Read a table (tab-separated, or commas in ``.csv``) with the columns image, labels, subject, split.

    ``subject`` and ``split`` may be missing or empty; further columns that are used: ``id`` and ``mask``. Paths are
    relative to the table. Raises :class:`UserError` for missing columns, files, double ids and splits of other names.
    """
    rows = read_table(path, ("image", "labels"))
    sources = []
    for number, row in enumerate(rows, start=2):
        image, labels = path.parent / row["image"], path.parent / row["labels"]
        mask = path.parent / row["mask"] if row.get("mask") else None
        scan = row.get("id") or _SUFFIX.sub("", image.name)
        if not re.fullmatch(r"[\w.+-]+", scan):
            raise UserError(f"{path}, line {number}: '{scan}' cannot be part of a file name; give another id.")
        sources.append(Source(scan, row.get("subject") or scan, row.get("split") or "", image, labels, mask))
    _check_ids([source.id for source in sources], path)
    _check_splits(sources, path)
    return sources


def sources_from_subjects(folder: Path) -> tuple[list[Source], list[Skipped]]:
    """Find the scans of a FreeSurfer folder: ``SUBJECT/mri/{orig,aseg,brainmask}.mgz``, or flat ``ID_orig.mgz``.

    The brain is ``brainmask.mgz`` where there is one, else what is labelled. The person is the ``sub-…`` or ``OAS…``
    that a name begins with, else the whole name without FreeSurfer's ``.long.…``. Those that lack a file are returned
    as skipped. Raises :class:`UserError` when there is nothing of the kind.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give a folder of FreeSurfer subjects.")
    sources, skipped = [], []
    for name, files in sorted(_candidates(folder).items()):
        image, labels = files.get("image"), files.get("labels")
        if image is None or labels is None:
            lacking = "aseg.mgz" if labels is None else "orig.mgz, norm.mgz or brainmask.mgz"
            skipped.append(Skipped(name, f"{folder / name} has no {lacking}; run recon-all to its end."))
            continue
        mask = files.get("mask")
        sources.append(Source(name, person_of(name), "", image, labels, mask, brain_from_labels=mask is None))
    if not sources and not skipped:
        raise UserError(
            f"{folder} holds no FreeSurfer subject (SUBJECT/mri/orig.mgz, or ID_orig.mgz); check the folder."
        )
    return sources, skipped


def _candidates(folder: Path) -> dict[str, Mapping[str, Path]]:
    found: dict[str, Mapping[str, Path]] = {}
    for inside in sorted(folder.glob("*/mri")):
        files = {
            what: next((p for n in names if (p := inside / n).exists()), None)
            for what, names in _FREESURFER_NAMES.items()
        }
        mask = inside / "brainmask.mgz"
        found[inside.parent.name] = {k: p for k, p in files.items() if p} | ({"mask": mask} if mask.exists() else {})
    for image in sorted(folder.glob("*_orig.mgz")):
        name = image.name.removesuffix("_orig.mgz")
        others = {"labels": folder / f"{name}_aseg.mgz", "mask": folder / f"{name}_brainmask.mgz"}
        found[name] = {"image": image} | {k: p for k, p in others.items() if p.exists()}
    return found


def person_of(name: str) -> str:
    """``sub-01_ses-2`` → ``sub-01``, ``OAS30001_MR_d0129`` → ``OAS30001``, ``bert.long.base`` → ``bert``."""
    match = _PERSON.match(name)
    return match[1] if match else name.partition(".long.")[0]


def with_splits_of(sources: Sequence[Source], path: Path) -> list[Source]:
    """Take the splits from a table with the columns id (or subject) and split. Raises when a scan is not in it."""
    rows = read_table(path, ("split",))
    by = {row.get("id") or row.get("subject", ""): row for row in rows}
    given = []
    for source in sources:
        row = by.get(source.id) or by.get(source.subject)
        if row is None:
            raise UserError(f"{path} says nothing of {source.id}; add a line with its id and split.")
        given.append(replace(source, split=row["split"], subject=row.get("subject") or source.subject))
    _check_splits(given, path)
    return given


def with_paper_splits(sources: Sequence[Source], by_person: bool) -> tuple[list[Source], list[Skipped]]:
    """Keep the paper's OASIS-3 sessions, in the paper's split or, ``by_person``, divided anew so that no person is in
    two; whatever part of the 743 is there, each gets the same place. All other scans are returned as skipped.

    The paper divided sessions: 77 of its 141 test people are also trained on. Its split therefore counts each session
    as a person. Sessions are told by person and day, ``OAS30001_…_d0129``. Raises :class:`UserError` when none is here.
    """
    listed = _paper_sessions()
    if by_person:
        everyone = [Source(f"{p}_{d}", p, "", Path(), Path()) for p, d in listed]
        listed = {key: one.split for key, one in zip(listed, with_random_splits(everyone, seed=0), strict=True)}
    kept, skipped = [], []
    for source in sources:
        match = _SESSION.match(source.id)
        split = listed.get((match[1], match[2])) if match else None
        if split is None:
            skipped.append(Skipped(source.id, "it is none of the paper's sessions of OASIS-3."))
        else:
            kept.append(replace(source, split=split, subject=source.subject if by_person else source.id))
    if not kept:
        raise UserError(
            f"No scan is one of the {len(listed)} OASIS-3 sessions of the paper (OAS3…_MR_d…); give a folder that "
            "holds them, or leave out --split."
        )
    return kept, skipped


def _paper_sessions() -> dict[tuple[str, str], str]:
    """(person, day) → split."""
    sessions = {}
    for row in read_table(Path(__file__).with_name("oasis3_split.tsv"), ("session", "split")):
        match = _SESSION.match(row["session"])
        assert match is not None
        sessions[match[1], match[2]] = row["split"]
    return sessions


def with_random_splits(sources: Sequence[Source], seed: int, shares: Sequence[float] = SHARES) -> list[Source]:
    """Give the people of scans without a split one at random, the same for the same people and ``seed``.

    Every split whose share is not 0 gets somebody as soon as there are three people; training has what is left.
    """
    taken = {source.subject: source.split for source in sources if source.split}
    people = sorted({source.subject for source in sources} - set(taken))
    order = [people[n] for n in np.random.default_rng(seed).permutation(len(people))]
    enough = len(people) >= sum(share > 0 for share in shares)
    sizes = [max(int(share > 0 and enough), round(share * len(people))) for share in shares[1:]]
    for name, size in zip(SPLITS[1:], sizes, strict=True):
        taken |= dict.fromkeys(order[:size], name)
        order = order[size:]
    taken |= dict.fromkeys(order, SPLITS[0])
    return [source if source.split else replace(source, split=taken[source.subject]) for source in sources]


def read_table(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a table by column. Raises :class:`UserError` when it cannot be read, is empty or lacks a column."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter="," if path.suffix.lower() == ".csv" else "\t", restval="")
            columns = reader.fieldnames or []
            rows = [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader]
    except OSError as error:
        raise UserError(f"Cannot read the table {path}: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a table of text; give tab-separated values.") from error
    missing = [name for name in needed if name not in columns]
    if missing:
        raise UserError(f"{path} has no column '{missing[0]}'; it needs {', '.join(needed)}, separated by tabs.")
    for number, row in enumerate(rows, start=2):
        if any(not row[name] for name in needed):
            raise UserError(f"{path}, line {number}: {next(n for n in needed if not row[n])} is empty; fill it in.")
    if not rows:
        raise UserError(f"{path} has no rows; name at least two scans.")
    return rows


def _check_ids(ids: Sequence[str], path: Path) -> None:
    twice = next((one for one in ids if ids.count(one) > 1), None)
    if twice is not None:
        raise UserError(f"{path} has two scans named {twice}; give them a column id.")


def _check_splits(sources: Sequence[Source], path: Path) -> None:
    for source in sources:
        if source.split and source.split not in SPLITS:
            raise UserError(f"{path}: {source.split} is no split; use {', '.join(SPLITS)} ({source.id}).")
    check_split([Scan(s.id, s.subject, s.split) for s in sources if s.split], str(path))
