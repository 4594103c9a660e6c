"""Tables of pairs or images, checked in full before anything starts: all mistakes are told at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

from uresnet.cohort.jobs import Job, Scan
from uresnet.core.files import check_exist
from uresnet.core.reading import read_numbered_rows, separated
from uresnet.errors import UserError, counted, held_warnings, quoted

_TOLD = 100  # mistakes; a person mends no more at a time
_LONGEST_ID = 100
TAKEN = ("manifest", "index", "volumes", "outliers", "group")
"""Beginnings of the names of files that a cohort writes beside the folders of its pairs."""


def read_pairs(table: Path, folder: Path) -> list[Job]:
    """A row for each pair: ``id``, ``moving``, ``fixed``, and perhaps ``moving_mask`` and ``fixed_mask``.

    Files are as seen from the folder that the command runs in. Raises :class:`UserError` with all mistakes: missing
    columns and values, ids twice or unfit for a folder's name, files that do not exist or lie in ``folder``, where the
    results go.
    """
    rows, mistakes = _rows(table, ("id", "moving", "fixed"))
    jobs = [
        Job(row["id"], scan_of(row["moving"], row.get("moving_mask")), scan_of(row["fixed"], row.get("fixed_mask")))
        for _, row in rows
    ]
    _check(table, folder, [(line, job) for (line, _), job in zip(rows, jobs, strict=True)], mistakes)
    return jobs


def read_images(table: Path, folder: Path, target: Scan | None = None, all_pairs: bool = False) -> list[Job]:
    """A row for each image: ``id``, ``image``, and perhaps ``mask``.

    Each is registered to the ``target``; or with ``all_pairs`` each two to each other, once, because the inverse is
    found with the transform; or segmented only. Raises as :func:`read_pairs`.
    """
    rows, mistakes = _rows(table, ("id", "image"))
    alone = [Job(row["id"], scan_of(row["image"], row.get("mask")), target) for _, row in rows]
    if target is not None and (told := next(_of_files(target, folder), None)):
        raise UserError(f"The image of --to cannot be used: {told}.")
    each = [(line, Job(job.id, job.moving)) for (line, _), job in zip(rows, alone, strict=True)]
    _check(table, folder, each, mistakes)
    if not all_pairs:
        return alone
    if len(alone) < 2:
        raise UserError(f"{table} has one image; --all-pairs needs at least two.")
    pairs = [Job(f"{a.id}_to_{b.id}", a.moving, b.moving) for a, b in combinations(alone, 2)]
    _check(table, folder, list(enumerate(pairs)), [])  # two names that make one with "_to_", or one that is too long
    return pairs


def check_target(jobs: Sequence[Job]) -> list[str]:
    """Looks at the image that all ``jobs`` are registered to, if there is one, and returns what is warned about it.

    Raises :class:`UserError` where it cannot be read, or holds no head: no job could be done.
    """
    targets = {job.fixed for job in jobs}
    target = targets.pop() if len(targets) == 1 else None
    if target is None:
        return []
    from uresnet.io import read_image  # here: it loads torch
    from uresnet.pipeline.steps import mask_of, warn_of_labels
    from uresnet.preprocess import extract_brain

    said: list[str] = []
    with held_warnings(said):
        image = read_image(target.image)
        mask = mask_of(target.mask, image)
        warn_of_labels(image)
        if mask is not None or image.invalid is None:  # voxels that are no numbers may lie outside of the brain
            extract_brain(image, "none", mask)  # cheap, and refuses what holds no head
    return said


def shard(jobs: Sequence[Job], part: int, parts: int) -> list[Job]:
    """Every ``parts``-th job, from the ``part``-th on (1 … ``parts``)."""
    return list(jobs[part - 1 :: parts])


def _rows(table: Path, needed: Sequence[str]) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """(line, row) of those that have all ``needed`` values, and what is wrong with the others."""
    columns, lines = read_numbered_rows(table)
    missing = [name for name in needed if name not in columns]
    if missing:
        kind = "pairs" if "moving" in needed else "images"
        raise UserError(
            f"{table} has no column {' and no column '.join(map(repr, missing))}; a table of {kind} has the columns "
            f"{', '.join(needed)}, {separated(table)}."
        )
    if not lines:
        raise UserError(f"{table} has no rows; name at least one {'pair' if 'moving' in needed else 'image'}.")
    empty = [f"line {n}: {name} is empty" for n, row in lines for name in needed if not row[name]]
    return [(n, row) for n, row in lines if all(row[name] for name in needed)], empty


def scan_of(image: str | Path, mask: str | None = None) -> Scan:
    """The scan of these files, whichever folder a worker runs in."""
    named = mask if mask and mask.lower() != "n/a" else None
    return Scan(str(Path(image).absolute()), None if named is None else str(Path(named).absolute()))


def _check(table: Path, folder: Path, jobs: Iterable[tuple[int, Job]], mistakes: list[str]) -> None:
    seen: dict[str, int] = {}
    known: dict[Scan, list[str]] = {}
    for line, job in jobs:
        twin = seen.setdefault(job.id.casefold(), line)
        found = [] if twin == line else [f"the id {quoted(job.id, 60)} is that of line {twin}"]
        found += _of_id(job.id)
        for scan in job.scans:
            if scan not in known:
                known[scan] = list(_of_files(scan, folder))
            found += known[scan]
        mistakes += [f"line {line}: {said}" for said in found]
    if mistakes:
        more = f"; and {len(mistakes) - _TOLD} more" if len(mistakes) > _TOLD else ""
        raise UserError(f"{table} has {counted(len(mistakes), 'mistake')}: {'; '.join(mistakes[:_TOLD])}{more}.")


def _of_id(name: str) -> Iterator[str]:
    if len(name) > _LONGEST_ID or not re.fullmatch(r"\w[\w.+@=,-]*", name):
        yield (
            f"the id {quoted(name, 60)} cannot be the name of a folder (at most {_LONGEST_ID} letters and digits, and "
            "after the first . _ - + = @ or a comma)"
        )
    elif name.casefold().split(".")[0] in TAKEN:
        yield f"the id {quoted(name, 60)} is the name of a file that is written beside the results"


def _of_files(scan: Scan, folder: Path) -> Iterator[str]:
    for name in (scan.image, scan.mask):
        if name is None:
            continue
        try:
            check_exist(Path(name))
        except UserError as error:
            yield quoted(str(error).rstrip("."), 300).replace("; ", ", ")
            continue
        if folder.resolve() in Path(name).resolve().parents:
            yield f"{quoted(name)} lies in the folder for the results"
