"""A cohort from its jobs to its manifest: what is done already, an engine for the rest, a note of each that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from uresnet.cohort.hashes import ContentHashes, with_keys
from uresnet.cohort.jobs import HIDDEN, Job, Options, Outcome
from uresnet.cohort.manifest import LINES, Manifest
from uresnet.cohort.results import check_place, look_into, outcome_of
from uresnet.core.exchange import recover
from uresnet.core.files import check_output_folder
from uresnet.errors import UserError
from uresnet.results.record import RunRecord

_PATIENCE = 2.0  # seconds before work that another run holds is asked for again


class Engine(Protocol):
    """Where jobs are done."""

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do all jobs; what came of each, as they end."""

    def close(self) -> None:
        """End what was started."""


@dataclass(frozen=True)
class Plan:
    """The ``jobs`` of a cohort with their keys, those that are ``left`` to do, and what is known of the others.

    Of those left, ``lost`` says what is missing or damaged of the result; ``changed`` are those whose results had other
    contents of the images, options or model; ``of_others`` has the records of those whose results are of other images.
    Of those done, ``edited`` says which label maps somebody has changed since; ``at_risk`` says the same of those left.
    """

    jobs: tuple[Job, ...]
    left: tuple[Job, ...]
    done: tuple[Outcome, ...]
    lost: Mapping[str, str] = field(default_factory=dict)
    changed: tuple[str, ...] = ()
    of_others: Mapping[str, RunRecord] = field(default_factory=dict)
    edited: Mapping[str, str] = field(default_factory=dict)
    at_risk: Mapping[str, str] = field(default_factory=dict)


def check_folder(folder: Path) -> None:
    """Raises :class:`UserError` for a folder that cannot take a cohort, or in which something else lies."""
    check_output_folder(folder, overwrite=True)
    if folder.is_dir() and not ((folder / LINES).exists() or (folder / HIDDEN).exists()) and any(folder.iterdir()):
        raise UserError(f"{folder} holds files that are no cohort's; choose a new folder.")


def plan(jobs: Sequence[Job], options: Options, progress: Callable[[], None] = lambda: None) -> Plan:
    """What is left to do: jobs without a whole result, those whose last try failed, and those whose inputs, options or
    model are no longer the same. ``progress`` is called for each scan, whose content has to be read for that.

    The manifest learns of results that a killed run did not come to note. Raises :class:`UserError` where something
    that is no result of this cohort stands in the place of one.
    """
    folder = options.folder
    (folder / HIDDEN).mkdir(parents=True, exist_ok=True)
    recover(folder)
    keyed = with_keys(jobs, options, ContentHashes(folder), progress)
    manifest = Manifest(folder)
    noted = manifest.outcomes()
    made = manifest.made()
    left, done = list[Job](), list[Outcome]()
    lost, edited, at_risk = dict[str, str](), dict[str, str](), dict[str, str]()
    changed, of_others = list[str](), dict[str, RunRecord]()
    for job in keyed:
        found, known = look_into(folder / job.id), noted.get(job.id)
        record, as_noted = found.record, known is not None and (known.key, known.state) == (job.key, "done")
        if record is None:
            check_place(folder / job.id, job.id in made)
        elif record.key == job.key and not found.lost:
            there = known if known is not None and as_noted else outcome_of(job.id, record)
            if there is not known:
                manifest.note(there)
            done.append(there)
            if found.edited:
                edited[job.id] = ", ".join(found.edited)
            continue
        left.append(job)
        if found.edited:
            at_risk[job.id] = ", ".join(found.edited)
        if record is None or record.key == job.key:
            if as_noted or record is not None or job.id in made:
                lost[job.id] = found.lost
        elif _paths(record) == _paths_of(job):
            changed.append(job.id)
        else:
            of_others[job.id] = record
    return Plan(tuple(keyed), tuple(left), tuple(done), lost, tuple(changed), of_others, edited, at_risk)


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


def _paths(record: RunRecord) -> dict[str, str]:
    return {role: image.path for role, image in record.inputs.items()}


def _paths_of(job: Job) -> dict[str, str]:
    """The same of a job, as its record will have them."""
    return {"image": job.moving.image} if job.fixed is None else {"moving": job.moving.image, "fixed": job.fixed.image}
