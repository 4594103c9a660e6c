"""Verbs on networks and their data: ``train``, ``evaluate``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.combinations import refuse_idle
from uresnet.cli.console import TrainingDisplay
from uresnet.cli.options import (
    DebugOption,
    DeviceOption,
    OutputFolderOption,
    OverwriteOption,
    QuietOption,
    ReportOption,
    ThreadsOption,
)
from uresnet.cli.session import fail, session
from uresnet.core.choices import PACKAGED_CONFIGURATIONS
from uresnet.core.files import check_output_folder
from uresnet.errors import counted
from uresnet.evaluation.names import TABLES
from uresnet.model.catalogue import find_model

if TYPE_CHECKING:
    from uresnet.evaluation.scores import PairScores
    from uresnet.training.cost import Cost


def train(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help=f"A packaged configuration ({', '.join(PACKAGED_CONFIGURATIONS)}), or a YAML file.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DATA",
            help="A folder or a bundle that uresnet prepare wrote.",
            show_default="the one in the configuration",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="RUN", help="The folder for the run.", show_default="runs/CONFIG"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")] = False,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.01, metavar="MINUTES", help="Train for this time.", show_default="the epochs of the configuration"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure time and memory of one update; write nothing.")
    ] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write curves and pictures for TensorBoard too.")
    ] = False,
    report: ReportOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a network from a configuration and prepared data. To use several GPUs, start it with torchrun."""
    with session(device, threads, quiet, debug) as terminal_session:
        if dry_run:
            idle = {"--tensorboard": tensorboard, "--report": report is True}
            refuse_idle("--dry-run, which writes nothing", idle)
        from uresnet.config import load_config

        settings = load_config(config)
        folder = output or Path("runs") / config.stem
        chosen = terminal_session.load_torch()
        from uresnet.training import run
        from uresnet.training.cost import measure_cost
        from uresnet.training.parallel import join_team, leave_team

        if chosen == "cuda" and "LOCAL_RANK" in os.environ:  # set by torchrun
            chosen = f"cuda:{os.environ['LOCAL_RANK']}"
        if data is None:
            run.check_named_data(settings, str(config))
        options = run.RunOptions(data or Path(settings.data), folder, resume, tensorboard)
        settings = run.with_limits(settings, data, max_minutes)
        team = join_team(chosen)
        with TrainingDisplay(quiet or not team.leads) as display:
            trainer = run.open_training(settings, options, chosen, team, display)
            if settings.training.precision == "bf16" and not trainer.in_bfloat16:
                display.note("This processor has no fast bfloat16 (training.precision: bf16); it computes in float32.")
            if dry_run:
                print(_costs(measure_cost(trainer), chosen))
                return
            if trainer.progress.step:
                display.note(f"continuing after update {trainer.progress.step}")
            finished = run.train(trainer, options, stop=display.wants_to_stop)
        leave_team()
        if not team.leads:
            return
        if report is not False:
            from uresnet.report.pages import write_pages

            write_pages(folder)
        if not finished:
            again = " ".join(["uresnet", *sys.argv[1:], *([] if resume else ["--resume"])])
            fail(f"Stopped after update {trainer.progress.step}; continue with: {again}", 130)
        best = folder / "best.safetensors"
        if report is not False:
            terminal_session.terminal.say(f"Open {folder / 'report.html'}")
        used = "" if settings.heads else f"\nUse it with: uresnet register MOVING FIXED -o OUT --model {best}"
        terminal_session.terminal.say(f"{best}{used}")


def _costs(found: Cost, device: str) -> str:
    """What a dry run measured."""
    size = " × ".join(map(str, found.shape))
    others = f" and {found.other_contrasts} of other contrasts" if found.other_contrasts else ""
    scans = f"{counted(found.training_scans, 'scan')} to train on{others}, {found.validation_scans} to validate on"
    lines = [
        f"data      {scans}; {size} voxels",
        f"network   {found.weights:,} weights, on {device}",
        f"update    {counted(found.examples_per_update, 'example')}, {found.seconds:.2f} s",
    ]
    if found.memory:
        lines.append(f"memory    {found.memory / 2**30:.2f} GiB at most")
    if found.updates:
        lines.append(
            f"training  {counted(found.updates, 'update')}, about {found.updates * found.seconds / 3600:.2g} h"
        )
    return "\n".join(lines)


def evaluate(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder that uresnet prepare wrote.", show_default=False)
    ],
    output: OutputFolderOption,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="A model. Give the option several times to compare models.",
            show_default=False,
        ),
    ],
    split: Annotated[str, typer.Option(help="The split to evaluate on: train, val or test.")] = "test",
    pairs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Use only the first N pairs.", show_default="all")
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Evaluate models on labelled pairs, and write Table 1 of the paper.

    Every scan of the split is registered to the next one and back, with the same steps as uresnet register. The warped
    labels are compared with the true ones. The output is table1.md, pairs.csv (a row for each pair) and structures.csv
    (a row for each structure).

    If it is stopped, the same command continues with the pairs that are missing.
    """
    with session(device, threads, quiet, debug) as run:
        check_output_folder(output, overwrite, (data, *map(Path, model)), TABLES)
        for name in model:
            find_model(name)
        chosen = run.load_torch()
        from uresnet.evaluation.journal import Journal
        from uresnet.evaluation.pairs import open_pairs
        from uresnet.evaluation.run import evaluate as evaluate_models

        def note(pair: PairScores) -> None:
            scores = f"Dice {pair.mean('dice'):.3f}, {pair.seconds:.1f} s"
            run.terminal.note(f"{pair.model}  {pair.moving} → {pair.fixed}  {scores}")

        dataset, chosen_pairs = open_pairs(data, split, pairs)
        journal = Journal(output, dataset)
        done = evaluate_models(model, dataset, chosen_pairs, chosen, note, journal)
        files = done.save(output, overwrite, command=["uresnet", *sys.argv[1:]])
        journal.close()
        run.terminal.warn(done.record["warnings"])
        run.terminal.say((output / "table1.md").read_text(encoding="utf-8"))
        run.terminal.say(f"Results in {output}{os.sep}: {', '.join(file.name for file in files)}")
