"""The verb ``template``: a mean brain of many images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.cohort import (
    MemoryOption,
    WorkersOption,
    WorkerThreadsOption,
    check_model,
    options_of,
)
from uresnet.cli.jobs import end, look_at_target, run_jobs
from uresnet.cli.options import (
    BrainOption,
    DebugOption,
    DeviceOption,
    ModelOption,
    OutputFolderOption,
    QuietOption,
)
from uresnet.cli.session import session
from uresnet.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uresnet.cohort.jobs import Options, Outcome, Scan


def template(
    images: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES...", help="Images, or one table with columns id and image.", show_default=False),
    ],
    output: OutputFolderOption,
    iterations: Annotated[int, typer.Option(min=1, max=20, metavar="N", help="Rounds of deformation.")] = 4,
    spacing: Annotated[float, typer.Option(min=0.3, max=8, metavar="MM", help="The voxels of the template.")] = 1.0,
    sharpening: Annotated[
        float, typer.Option(min=0, max=2, metavar="SHARE", help="How much fine detail is added to the mean; 0: none.")
    ] = 0.5,
    model: ModelOption = None,
    refine: Annotated[bool, typer.Option("--refine", help="Use more iterations in each registration.")] = False,
    brain: BrainOption = "auto",
    workers: WorkersOption = None,
    threads: WorkerThreadsOption = None,
    memory: MemoryOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make an unbiased mean brain of many images.

    Every image is registered to the present mean; the mean is then moved by the inverse of the mean of all maps and
    drawn anew. In the end no single image decides where it lies or what shape it has. Writes the mean, its
    segmentation, the transforms between it and every image, and a page that shows how it came about.

    The same command continues what was stopped.
    """
    with session(device, threads, quiet, debug) as run:
        check_model(run, model, True, refine)
        scans = _scans(images, output)
        options, count = options_of(run, output, model, len(scans), workers, threads, memory, "10GB")
        options = replace(options, refine=refine, brain=brain)
        from uresnet.cohort.jobs import Job
        from uresnet.cohort.local import LocalWorkers
        from uresnet.cohort.template import ROUNDS, TemplateOptions, build_template

        look_at_target(run, [Job(*scans[0], fixed=scans[0][1])])  # what all are registered to first
        (output / ROUNDS).mkdir(parents=True, exist_ok=True)
        outcomes: list[Outcome] = []

        def do(jobs: Sequence[Job], chosen: Options) -> Sequence[Outcome]:
            run.terminal.note(f"round {chosen.folder.name}: {len(jobs)} images")
            outcomes[:] = run_jobs(run, jobs, chosen, LocalWorkers(chosen, count))
            return outcomes

        rounds = build_template(
            scans, output, options, TemplateOptions(iterations=iterations, spacing=spacing, sharpening=sharpening), do
        )
        run.terminal.say(f"the mean of {rounds[-1].images} images → {output / 'template.nii.gz'}")
        end(run, outcomes, output, None)


def _scans(images: Sequence[Path], output: Path) -> list[tuple[str, Scan]]:
    from uresnet.cohort.run import check_folder
    from uresnet.cohort.table import read_images, scan_of
    from uresnet.cohort.template import ROUNDS
    from uresnet.core.files import check_exist
    from uresnet.pipeline.names import distinct_names

    if output.is_dir() and any(output.iterdir()) and not (output / ROUNDS).is_dir():
        raise UserError(f"{output} holds files that are no template's; choose a new folder.")
    if not output.is_dir():
        check_folder(output)
    if len(images) == 1 and images[0].suffix.lower() in (".tsv", ".csv"):
        found = [(job.id, job.moving) for job in read_images(images[0], output)]
    else:
        check_exist(*images)
        found = list(zip(distinct_names(images), map(scan_of, images), strict=True))
    if len(found) < 2:
        raise UserError("A mean is of at least two images; name more.")
    return found
