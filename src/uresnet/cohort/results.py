"""The folders of a cohort's results: whether they are still whole, which is looked at without reading images.

A record says how many bytes its files had. Of thousands of results only the records, the tables of volumes and the
sizes are read. Loads no torch, but for label maps whose size has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import get_args

from uresnet.cohort.jobs import Outcome
from uresnet.core.choices import FormatName, OutputName, SegmentationExtra
from uresnet.core.exchange import recover
from uresnet.core.files import LOG, RECORD
from uresnet.core.labels import SCHEMES
from uresnet.core.reading import read_rows
from uresnet.errors import UserError, held_warnings, quoted
from uresnet.pipeline.names import registration_names, segmentation_files
from uresnet.results.record import RunRecord, read_record

VOLUMES = "volumes.tsv"

_OURS = frozenset(
    (
        *registration_names(get_args(OutputName), get_args(FormatName)),
        *(path.name for path in segmentation_files(Path("result"), True, get_args(SegmentationExtra)).values()),
        LOG,
    )
)
"""The names that a file of a result can have."""


@dataclass(frozen=True)
class Found:
    """What is in the folder of a result. ``record`` is None where it cannot be read; ``lost`` says in words what is
    missing or damaged, "" of a whole result; ``edited`` are label maps that somebody has changed; ``volumes`` are mm³
    by role ("moving", "fixed", "image") and FreeSurfer id, None where a structure was not looked for."""

    record: RunRecord | None
    lost: str = ""
    edited: tuple[str, ...] = ()
    volumes: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)


def look_into(folder: Path) -> Found:
    """What is in the ``folder`` of a result. What a killed process left half replaced is put back first."""
    if not folder.is_dir():
        return Found(None, "its folder is missing")
    recover(folder)
    try:
        record = read_record(folder)
    except UserError:
        return Found(None, f"{RECORD} is {'damaged' if (folder / RECORD).exists() else 'missing'}")
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(folder) if entry.is_file()}
    lost, edited, volumes = list[str](), list[str](), dict[str, dict[int, float | None]]()
    for name in record.files or ():
        size = sizes.get(name)
        if not size:
            lost.append(f"{name} is {'missing' if size is None else 'empty'}")
        elif size != (record.sizes or {}).get(name, size):
            if _holds_labels(folder / name):
                edited.append(name)
            else:
                lost.append(f"{name} is damaged")
        elif name == VOLUMES:
            try:
                volumes = _volumes(folder / name, record)
            except (UserError, ValueError, KeyError):
                lost.append(f"{name} is damaged")
    return Found(record, ", ".join(lost), tuple(edited), volumes)


def result_of(folder: Path, key: str) -> Outcome | None:
    """What a folder holds, where that is the whole result of the job with this ``key``."""
    found = look_into(folder)
    whole = found.record is not None and not found.lost and found.record.key == key
    return outcome_of(folder.name, found.record) if whole and found.record is not None else None


def outcome_of(name: str, record: RunRecord) -> Outcome:
    """What a record says of the job ``name``, which is done."""
    return Outcome(
        id=name,
        state="done",
        key=record.key or "",
        verdict="" if record.quality is None else record.quality.verdict.value,
        reasons=() if record.quality is None else record.quality.reasons,
        seconds=record.seconds.get("total"),
        warnings=record.warnings,
        time=record.finished,
    )


def check_place(folder: Path, made: bool) -> None:
    """Raises :class:`UserError` where something stands in the place of a result, whose record is not there, that may
    not be replaced: a file, or a folder with others than a result's. A result that lost its record is known by the
    manifest, which says that the cohort ``made`` it, and by the names of its files."""
    if not os.path.lexists(folder):
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file, and stands where a result belongs; move it away.")
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    stranger = next((n for n in names if not made or n not in _OURS or not (folder / n).is_file()), None)
    if stranger is not None:
        raise UserError(
            f"{folder} holds {quoted(stranger)} and no readable {RECORD}, so that it may not be replaced by a result; "
            "move it away."
        )


def remove_remains(folder: Path, made: Callable[[], bool]) -> None:
    """Remove the files of a result that cannot be used, because its record is lost; where there is a record, nothing.
    Raises as :func:`check_place`."""
    if not folder.is_dir() or look_into(folder).record is not None:
        return
    check_place(folder, made())
    for name in _OURS:
        with suppress(FileNotFoundError, NotADirectoryError):
            (folder / name).unlink()


def sizes_of(folder: Path, names: Sequence[str]) -> dict[str, int] | None:
    """Bytes of each of these files; None where one is missing or empty."""
    sizes = {name: (folder / name).stat().st_size for name in names if (folder / name).is_file()}
    return sizes if len(sizes) == len(set(names)) and all(sizes.values()) else None


def _holds_labels(file: Path) -> bool:
    """Whether a file of another size than it was written with holds a label map: somebody has corrected it."""
    if not file.name.endswith("dseg.nii.gz"):
        return False
    from uresnet.io import read_labels  # here: it loads torch

    try:
        with held_warnings([]):
            read_labels(file)
    except UserError:
        return False
    return True


def _volumes(file: Path, record: RunRecord) -> dict[str, dict[int, float | None]]:
    """mm³ by role and FreeSurfer id. Raises :class:`UserError`, ``ValueError`` or ``KeyError`` for a table that is not
    what was written."""
    _, rows = read_rows(file)
    found: dict[str, dict[int, float | None]] = {role: {} for role in record.inputs}
    for row in rows:
        for role, volumes in found.items():
            value = None if row[f"{role}_mm3"] == "n/a" else float(row[f"{role}_mm3"])
            if value is not None and not (isfinite(value) and value >= 0):
                raise ValueError("no volume")
            if row["index"] != "n/a":  # else it is no structure
                volumes[int(row["index"])] = value
    scheme = SCHEMES.get(record.model.scheme)
    if scheme is not None and not all(set(scheme.ids) <= set(volumes) for volumes in found.values()):
        raise ValueError("rows are missing")
    return found
