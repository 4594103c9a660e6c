"""How many jobs are run and shown: for all verbs on many images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from uresnet.cli.session import Session
from uresnet.cohort.jobs import named
from uresnet.core.choices import FailOn
from uresnet.errors import UserError, counted

if TYPE_CHECKING:
    from uresnet.cohort.jobs import Job, Options, Outcome
    from uresnet.cohort.run import Engine, Plan

SOME_FAILED = 4
"""The exit code of a cohort of which some failed."""

_SHOWN = 20
_SHOWN_TO_LOOK_AT = 5


def run_jobs(
    run: Session, jobs: Sequence[Job], options: Options, engine: Engine, overwrite: bool = True
) -> list[Outcome]:
    """Plan, run, and show how far it is. Used by all verbs on many images.

    Raises :class:`UserError` where results of other images, or label maps that somebody has changed, would be replaced
    without ``overwrite``.
    """
    from uresnet.cohort.run import plan
    from uresnet.cohort.run import run as run_planned

    scans = len({scan for job in jobs for scan in job.scans})
    with run.terminal.bar("looking at the images", scans) as step:
        planned = plan(jobs, options, step)
    if planned.of_others and not overwrite:
        raise UserError(
            f"{options.folder} holds results of other images under the same ids: {_images(planned)}; choose "
            "another folder, or replace them with --overwrite."
        )
    if planned.at_risk and not overwrite:
        raise UserError(
            f"Results that have to be made again hold label maps that were changed since: {_at_risk(planned)}; move "
            "these label maps away, or replace them with --overwrite."
        )
    _tell(run, planned)
    with _Display(run, len(jobs), len(planned.done)) as display:
        return run_planned(planned, options, engine, display.show)


def look_at_target(run: Session, jobs: Sequence[Job]) -> None:
    """Read the image that all jobs share. Raises :class:`UserError` where none of them could be done."""
    from uresnet.cohort.table import check_target

    run.terminal.warn(f"of the target: {sentence}" for sentence in check_target(jobs))


def write_group(run: Session, folder: Path) -> None:
    """Write the tables and pages of a cohort."""
    from uresnet.cohort.group import write_group as write

    run.load_torch()
    with run.terminal.bar("tables and pages", 1) as step:
        paths, said = write(folder)
        for path in paths:
            run.terminal.note(f"  {path}")
        step()
    run.terminal.warn(said)


def tell_others(run: Session, jobs: Sequence[Job], folder: Path) -> None:
    """What the tables and pages hold of jobs that the table does not name."""
    from uresnet.cohort.manifest import Manifest

    others = list(Manifest(folder).outcomes().keys() - {job.id for job in jobs})
    if others:
        run.terminal.note(
            f"The tables and pages also have {counted(len(others), 'job')} of earlier tables in {folder}: "
            f"{named(sorted(others))}"
        )


def _tell(run: Session, planned: Plan) -> None:
    """What a plan found in the folder."""
    if planned.done:
        are = "is" if len(planned.done) == 1 else "are"
        run.terminal.note(f"{counted(len(planned.done), 'result')} of {len(planned.jobs)} {are} there already")
    if planned.lost:
        found = counted(len(planned.lost), "result")
        are = "is" if len(planned.lost) == 1 else "are"
        what = named(list(planned.lost), planned.lost)
        run.terminal.warn([f"{found} {are} not whole any longer, and will be made again: {what}."])
    if planned.edited:
        what = named(list(planned.edited), planned.edited)
        have = f"{counted(len(planned.edited), 'result')} {'has' if len(planned.edited) == 1 else 'have'}"
        stay = f"{have} label maps that were changed since, and stay: {what}; delete one to have its result made again."
        run.terminal.warn([stay])
    if planned.changed:
        found = counted(len(planned.changed), "result")
        run.terminal.note(f"{found} will be replaced: contents of images, options or model were others")
    if planned.of_others:
        found = counted(len(planned.of_others), "result")
        run.terminal.warn([f"{found} of other images will be replaced: {_images(planned)}."])
    if planned.at_risk:
        run.terminal.warn([f"Label maps that were changed since will be replaced: {_at_risk(planned)}."])


def _at_risk(planned: Plan) -> str:
    """The label maps that somebody has changed and that would be replaced."""
    return named(list(planned.at_risk), planned.at_risk)


def _images(planned: Plan) -> str:
    """The results of other images that would be replaced, with those images."""
    from uresnet.results.record_text import file_name

    images = {
        name: " and ".join(file_name(image.path) for image in record.inputs.values())
        for name, record in planned.of_others.items()
    }
    return named(list(images), images)


def end(run: Session, outcomes: Sequence[Outcome], output: Path, fail_on: FailOn | None) -> None:
    """What came of everything, and the exit code."""
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    verdicts = {name: [o.id for o in done if o.verdict == name] for name in ("good", "look", "failed")}
    said = ", ".join(f"{len(ids)} {name}" for name, ids in verdicts.items() if ids)
    run.terminal.say(
        f"{len(done)} done{f' (verdicts: {said})' if said else ''}, {len(failed)} failed → {output}{os.sep}"
    )
    warned = [outcome for outcome in done if outcome.warnings]
    if warned:
        some = f"{len(warned)} of {counted(len(done), 'result')} {'has' if len(warned) == 1 else 'have'} warnings"
        run.terminal.warn([f"{some}, the first: {warned[0].warnings[0]} All are in manifest.tsv."])
    _alert(run, "failed", [(outcome.id, outcome.error) for outcome in failed])
    for name, shown in (("failed", _SHOWN), ("look", _SHOWN_TO_LOOK_AT)):
        judged = [(o.id, "".join(o.reasons[:1])) for o in done if o.verdict == name]
        _alert(run, f"verdict {name}", judged, shown)
    if failed:
        raise typer.Exit(SOME_FAILED)
    if fail_on is not None and (verdicts["failed"] or (fail_on == "look" and verdicts["look"])):
        raise typer.Exit(3)


def _alert(run: Session, what: str, said: Sequence[tuple[str, str]], shown: int = _SHOWN) -> None:
    """What is wrong with each of some jobs, in a sentence; the first of them where they are many."""
    for job, sentence in said[:shown]:
        run.terminal.alert(f"{what}  {job}: {sentence}")
    if len(said) > shown:
        run.terminal.alert(f"… and {len(said) - shown} more: see manifest.tsv")


class _Display:
    """One bar on a terminal, with rate, time left and failures so far; a line for each job elsewhere."""

    def __init__(self, run: Session, total: int, done: int) -> None:
        import rich.progress as bars

        self._run = run
        self._total, self._ended, self._failed = total, done, 0
        console = run.terminal.console
        columns = [
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=30),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        ]
        self._bar = bars.Progress(
            *columns,
            bars.TextColumn("{task.fields[failures]}"),
            console=console,
            disable=run.terminal.quiet or not console.is_terminal,
            speed_estimate_period=3600,
        )
        self._task = self._bar.add_task("cohort", total=total, completed=done, rate="", failures="")

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, outcome: Outcome) -> None:
        self._ended += 1
        self._failed += outcome.state == "failed"
        failures = f"[red]{self._failed} failed[/red]" if self._failed else ""
        speed = self._bar.tasks[0].speed
        rate = "" if not speed else f"{speed:.2f}/s" if speed >= 1 else f"{60 * speed:.1f}/min"
        self._bar.update(self._task, completed=self._ended, rate=rate, failures=failures)
        if self._bar.disable:
            what = outcome.error if outcome.state == "failed" else f"{outcome.verdict} {outcome.seconds or 0:.1f} s"
            self._run.terminal.note(f"[{self._ended}/{self._total}] {outcome.id}  {outcome.state}  {what}")
