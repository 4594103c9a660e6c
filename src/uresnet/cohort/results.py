"""The folders of a cohort's results, as their records tell of them. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from uresnet.cohort.jobs import Outcome
from uresnet.core.exchange import recover
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


def result_of(folder: Path, key: str) -> Outcome | None:
    """What a folder holds, where that is the result of the job with this ``key``."""
    record = read_result(folder)
    if record is None or record.key != key:
        return None
    return Outcome(
        id=folder.name,
        state="done",
        key=key,
        verdict="" if record.quality is None else record.quality.verdict.value,
        seconds=record.seconds.get("total"),
        warnings=len(record.warnings),
        time=record.finished,
    )
