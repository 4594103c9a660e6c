"""The folders of a cohort's results, as their records tell of them. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from uresnet.cohort.jobs import Outcome
from uresnet.core.exchange import recover
from uresnet.core.files import RECORD
from uresnet.errors import UserError
from uresnet.results.record import RunRecord, read_record


def read_result(folder: Path) -> RunRecord | None:
    """The record of a whole result, None where there is none. What a killed process left half replaced is put back."""
    if not folder.is_dir():
        return None
    recover(folder)
    try:
        return read_record(folder)
    except UserError:
        return None


def read_whole(folder: Path) -> tuple[RunRecord | None, str]:
    """The record of a result, and what is lost of it, in words: what the record lists and somebody has deleted."""
    record = read_result(folder)
    if record is None:
        return None, f"{RECORD}: delete its folder" if folder.is_dir() else "its folder"
    there = {path.name for path in folder.iterdir()}
    return record, ", ".join(name for name in record.files or () if name not in there)


def result_of(folder: Path, key: str) -> Outcome | None:
    """What a folder holds, where that is the whole result of the job with this ``key``."""
    record, lost = read_whole(folder)
    return None if record is None or lost or record.key != key else outcome_of(folder.name, record)


def outcome_of(name: str, record: RunRecord) -> Outcome:
    """What a record says of the job ``name``, which is done."""
    return Outcome(
        id=name,
        state="done",
        key=record.key or "",
        verdict="" if record.quality is None else record.quality.verdict.value,
        seconds=record.seconds.get("total"),
        warnings=record.warnings,
        time=record.finished,
    )
