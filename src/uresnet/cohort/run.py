"""A cohort from its jobs to its manifest: what is done already, an engine for the rest, a note of each that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uresnet.cohort.hashes import ContentHashes, with_keys
from uresnet.cohort.jobs import HIDDEN, Job, Options, Outcome
from uresnet.cohort.manifest import LINES, Manifest
from uresnet.cohort.results import result_of
from uresnet.core.exchange import recover
from uresnet.core.files import check_output_folder
from uresnet.errors import UserError

_PATIENCE = 2.0  # seconds before work that another run holds is asked for again


class Engine(Protocol):
    """Where jobs are done."""

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do all jobs; what came of each, as they end."""

    def close(self) -> None:
        """End what was started."""


@dataclass(frozen=True)
class Plan:
    """The ``jobs`` of a cohort with their keys, those that are ``left`` to do, and what is known of the others."""

    jobs: tuple[Job, ...]
    left: tuple[Job, ...]
    done: tuple[Outcome, ...]


def check_folder(folder: Path) -> None:
    """Raises :class:`UserError` for a folder that cannot take a cohort, or in which something else lies."""
    check_output_folder(folder, overwrite=True)
    if folder.is_dir() and not ((folder / LINES).exists() or (folder / HIDDEN).exists()) and any(folder.iterdir()):
        raise UserError(f"{folder} holds files that are no cohort's; choose a new folder.")


def plan(jobs: Sequence[Job], options: Options, progress: Callable[[], None] = lambda: None) -> Plan:
    """What is left to do: jobs without a result, those whose last try failed, and those whose inputs, options or model
    are no longer the same. ``progress`` is called for each scan, whose content has to be read for that.

    The manifest learns of results that a killed run did not come to note.
    """
    folder = options.folder
    (folder / HIDDEN).mkdir(parents=True, exist_ok=True)
    recover(folder)
    keyed = with_keys(jobs, options, ContentHashes(folder), progress)
    manifest = Manifest(folder)
    noted = manifest.outcomes()
    left, done = [], []
    for job in keyed:
        there = result_of(folder / job.id, job.key)
        if there is None:
            left.append(job)
            continue
        known = noted.get(job.id)
        if known is None or known.key != job.key or known.state != "done":
            manifest.note(there)
            known = there
        done.append(known)
    return Plan(tuple(keyed), tuple(left), tuple(done))


def run(
    planned: Plan, options: Options, engine: Engine, watch: Callable[[Outcome], None] = lambda outcome: None
) -> list[Outcome]:
    """Do what is left, and note each outcome in the manifest before ``watch`` sees it. Returns those of all jobs.

    Jobs that another run on the same folder works on are waited for. The engine is closed in the end.
    """
    manifest, ended = Manifest(options.folder), list(planned.done)
    waiting = list(planned.left)
    try:
        while waiting:
            by_id, busy = {job.id: job for job in waiting}, list[Job]()
            for outcome in engine.outcomes(waiting):
                if outcome.state == "busy":
                    busy.append(by_id[outcome.id])
                    continue
                manifest.note(outcome)
                ended.append(outcome)
                watch(outcome)
            if len(busy) == len(waiting):
                time.sleep(_PATIENCE)
            waiting = busy
    finally:
        engine.close()
        recover(options.folder)
        manifest.write_table(planned.jobs)
    return ended
