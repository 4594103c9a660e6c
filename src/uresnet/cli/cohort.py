"""Verbs on many images: ``cohort`` and ``group``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from uresnet.cli.combinations import check_refine, check_registration, refuse_idle
from uresnet.cli.jobs import end, look_at_target, run_jobs, tell_others, write_group
from uresnet.cli.options import (
    FORMATS,
    BrainOption,
    DebugOption,
    DeviceOption,
    FailOnOption,
    FreedomOption,
    MaskOption,
    ModelOption,
    OutputFolderOption,
    QuietOption,
    SpacingOption,
    StrippedOption,
    extras_of,
)
from uresnet.cli.session import Session, session
from uresnet.cohort.jobs import LEAN_OUTPUTS, EngineName
from uresnet.core.choices import FormatName, OutputName
from uresnet.errors import UserError
from uresnet.model.catalogue import check_segments, find_model
from uresnet.pipeline.names import chosen_outputs

if TYPE_CHECKING:
    from uresnet.cohort.jobs import Job, Options
    from uresnet.cohort.run import Engine

OutputsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME,...",
        help=f"What to write, separated by commas: {', '.join(get_args(OutputName))}. run.json is always written.",
        show_default=f"{', '.join(LEAN_OUTPUTS)}",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="The number of worker processes.", show_default="one for each core"),
]
WorkerThreadsOption = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="The number of CPU threads of each worker.", show_default="cores / workers"),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="The memory for all workers, such as 8GB: no more are started than fit."),
]
CacheOption = Annotated[
    str,
    typer.Option(
        "--cache-size", metavar="SIZE", help="How much disk the encodings of images may take while the cohort runs."
    ),
]


def cohort(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE",
            help="Pairs (columns id, moving, fixed), or images (id, image) with one of the next three options.",
            show_default=False,
        ),
    ],
    output: OutputFolderOption,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Register all images of the table to this one.")
    ] = None,
    all_pairs: Annotated[
        bool, typer.Option("--all-pairs", help="Register each two images of the table to each other, once.")
    ] = False,
    segment_only: Annotated[
        bool, typer.Option("--segment-only", help="Segment the images of the table; register nothing.")
    ] = False,
    model: ModelOption = None,
    transform: FreedomOption = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Use more iterations: about 0.005 higher Dice, 1.5 times the time.")
    ] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT,...", help=f"Write the transforms in these formats too: {FORMATS}."),
    ] = None,
    brain: BrainOption = "auto",
    outputs: OutputsOption = None,
    field_spacing: SpacingOption = None,
    mask: MaskOption = False,
    stripped: StrippedOption = False,
    report: Annotated[
        bool | None,
        typer.Option(
            "--report/--no-report",
            help="Write a page for each result too (report.html).",
            show_default="--no-report",
        ),
    ] = None,
    engine: Annotated[
        EngineName,
        typer.Option(help="Where the work is done: processes of this computer, a Dask cluster, or jobs of Slurm."),
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The scheduler of --engine dask, such as tcp://node1:8786.")
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="What --engine slurm asks for (YAML: queue, walltime, memory, jobs, …)."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N|slurm", help="Do only part I of N; slurm: the part of this task of an array (sbatch --array)."
        ),
    ] = None,
    workers: WorkersOption = None,
    threads: WorkerThreadsOption = None,
    memory: MemoryOption = None,
    cache_size: CacheOption = "10GB",
    device: DeviceOption = "auto",
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace results of other images under the same ids, and label maps changed by hand."
        ),
    ] = False,
    fail_on: FailOnOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Register or segment many images, each in a folder of its own.

    The model is loaded once in each worker, and each image is looked at once. A bad image costs its own pairs alone:
    they are named in the end, and the exit code is 4. What happened to each pair is in manifest.tsv.

    The same command continues what was stopped: it does what is missing, what failed, and what has changed since
    (contents of images, options or model). Results of other images, such as those of another --to, are replaced only
    with --overwrite. Tables of volumes, outliers and an index page are written in the end; see uresnet group.
    """
    with session(device, threads, quiet, debug) as run:
        from uresnet.cohort.table import shard as part_of

        part = _part(shard)
        if segment_only:
            _check_without_pairs(outputs, transform, refine, export, field_spacing)
        _check_engine(engine, scheduler, cluster, workers, threads, memory)
        wanted = chosen_outputs(outputs, report, extras_of(mask, stripped), LEAN_OUTPUTS)
        formats = _formats(export)
        check_model(run, model, segment_only, refine)
        if not segment_only:
            check_registration(find_model(model), transform, field_spacing, formats, outputs, wanted)
        jobs = _jobs(table, output, to, all_pairs, segment_only)
        options, count = options_of(run, output, model, len(jobs), workers, threads, memory, cache_size)
        from dataclasses import replace

        options = replace(
            options,
            transform=transform or "joint",
            refine=refine,
            brain=brain,
            outputs=wanted,
            field_spacing=field_spacing,
            formats=formats,
        )
        mine = part_of(jobs, *part) if part else jobs
        look_at_target(run, jobs)
        outcomes = run_jobs(run, mine, options, _engine(engine, scheduler, cluster, options, count, run), overwrite)
        if part is None:
            write_group(run, output)
            tell_others(run, jobs, output)
        end(run, outcomes, output, fail_on)


def group(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="An output folder of uresnet cohort.", show_default=False)
    ],
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write what a cohort says together: volumes, outliers and an index page.

    volumes_long.tsv has a row for each image and structure, volumes_wide.tsv a row for each image, both with the
    intracranial volume and the verdict. outliers.tsv has the structures that are unusual in this cohort (robust z of
    their share of the intracranial volume), and outliers.html shows them. index.html lists everything.
    """
    with session("cpu", None, quiet, debug) as run:
        write_group(run, folder)


def _part(shard: str | None) -> tuple[int, int] | None:
    """(part, parts) of ``--shard``. Raises :class:`UserError` for what is none."""
    if shard is None:
        return None
    if shard == "slurm":
        try:
            task, first, count = (int(os.environ[f"SLURM_ARRAY_TASK_{name}"]) for name in ("ID", "MIN", "COUNT"))
            step = int(os.environ.get("SLURM_ARRAY_TASK_STEP", "1"))
        except (KeyError, ValueError):
            raise UserError(
                "--shard slurm is for the tasks of an array (sbatch --array=1-10), and SLURM_ARRAY_TASK_ID is not set "
                "here; give --shard I/N instead."
            ) from None
        return (task - first) // step + 1, count
    number, slash, parts = shard.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and 1 <= int(number) <= int(parts)):
        raise UserError(f"--shard is {shard[:50]}; give I/N, such as 3/10, with I from 1 to N.")
    return int(number), int(parts)


def _jobs(table: Path, output: Path, to: Path | None, all_pairs: bool, segment_only: bool) -> list[Job]:
    from uresnet.cohort.run import check_folder
    from uresnet.cohort.table import read_images, read_pairs, scan_of

    if (to is not None) + all_pairs + segment_only > 1:
        raise UserError("Give one of --to, --all-pairs and --segment-only.")
    check_folder(output)
    if to is None and not all_pairs and not segment_only:
        return read_pairs(table, output)
    return read_images(table, output, None if to is None else scan_of(to), all_pairs)


def check_model(run: Session, model: str | None, segments: bool, refine: bool) -> None:
    """Raises :class:`UserError` for a model that cannot do what is asked of all jobs."""
    file = find_model(model)
    if segments:
        check_segments(file.card)
    if refine:
        run.load_torch()
        check_refine(file)


def options_of(
    run: Session,
    output: Path,
    model: str | None,
    jobs: int,
    workers: int | None,
    threads: int | None,
    memory: str | None,
    cache_size: str,
) -> tuple[Options, int]:
    """The options that say where and with what, and the number of workers."""
    from uresnet.cohort.jobs import Options
    from uresnet.cohort.limits import read_bytes, workers_and_threads

    cache = read_bytes(cache_size, "--cache-size")
    most = None if memory is None else read_bytes(memory, "--memory")
    count, each = workers_and_threads(jobs, workers, threads, most)
    file = find_model(model)
    return (
        Options(
            folder=output.absolute(),
            model=file.path,
            model_sha256=file.sha256 if file.general is None else f"{file.sha256} {file.general.sha256}",
            general=None if file.general is None else file.general.path,
            device=run.device_of_workers(),
            command=("uresnet", *sys.argv[1:]),
            threads=each,
            kept_encodings=cache,
        ),
        count,
    )


def _formats(export: list[str] | None) -> tuple[FormatName, ...]:
    if not export:
        return ()
    from uresnet.transform_files import parse_formats

    return tuple(parse_formats(",".join(export)))


def _check_without_pairs(
    outputs: str | None,
    transform: str | None,
    refine: bool,
    export: list[str] | None,
    field_spacing: float | None,
) -> None:
    of_pairs = {
        "--outputs": outputs is not None,
        "--transform": transform is not None,
        "--refine": refine,
        "--export": export is not None,
        "--field-spacing": field_spacing is not None,
    }
    refuse_idle("--segment-only, which registers nothing", of_pairs)


def _check_engine(
    name: EngineName,
    scheduler: str | None,
    cluster: Path | None,
    workers: int | None,
    threads: int | None,
    memory: str | None,
) -> None:
    """Raises :class:`UserError` for what an engine needs, and for what only another one uses."""
    if name == "dask" and scheduler is None:
        raise UserError("--engine dask needs the address of its scheduler: --scheduler tcp://HOST:8786.")
    if name == "slurm" and cluster is None:
        raise UserError("--engine slurm needs --cluster FILE, which says what to ask Slurm for.")
    why = {
        "local": "--engine local",
        "dask": "--engine dask, whose workers run already",
        "slurm": "--engine slurm, which asks for what --cluster says",
    }
    idle = {
        "--scheduler": scheduler is not None and name != "dask",
        "--cluster": cluster is not None and name != "slurm",
        "--workers": workers is not None and name != "local",
        "--memory": memory is not None and name != "local",
        "--threads": threads is not None and name == "slurm",
    }
    refuse_idle(why[name], idle)


def _engine(
    name: EngineName, scheduler: str | None, cluster: Path | None, options: Options, count: int, run: Session
) -> Engine:
    if name == "local":
        from uresnet.cohort.local import LocalWorkers

        return LocalWorkers(options, count, meanwhile=_load_pages)
    from uresnet.cohort.dask_engine import connect, slurm

    if name == "dask":
        assert scheduler is not None
        return connect(scheduler, options, run.terminal.note)
    assert cluster is not None
    return slurm(cluster, options, run.terminal.note)


def _load_pages() -> None:
    """Load what the tables and pages at the end need, which takes seconds."""
    import uresnet.cohort.group  # noqa: F401
