"""The folders of a cohort's results, as their records tell of them. Loads no torch."""

from __future__ import annotations

from pathlib import Path

from uresnet.cohort.jobs import SEGMENTATION_RECORD, Outcome
from uresnet.core.exchange import recover
from uresnet.core.files import RECORD
from uresnet.core.reading import read_text
from uresnet.errors import UserError
from uresnet.results.record import RunRecord


def read_result(folder: Path) -> RunRecord | None:
    """The record of a whole result, None where there is none. What a killed process left half replaced is put back."""
    if not folder.is_dir():
        return None
    recover(folder)
    for name in (RECORD, SEGMENTATION_RECORD):
        try:
            return RunRecord.from_json(read_text(folder / name))
        except (OSError, ValueError, UserError):
            continue
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
