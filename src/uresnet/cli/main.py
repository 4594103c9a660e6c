"""The ``uresnet`` command: thin verbs. The only place that prints and that picks a device.

torch is loaded inside the verbs that compute, after the arguments have been checked: help and ``info`` are instant.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from uresnet import __version__
from uresnet.core.files import check_output_file, check_output_folder
from uresnet.errors import InputWarning, UserError
from uresnet.model.catalogue import find_model, packaged_models

if TYPE_CHECKING:
    from uresnet.config import ConformSpec
    from uresnet.pipeline.register import Registration
    from uresnet.training.data.prepare import PrepareOptions
    from uresnet.training.data.sources import Skipped, Source
    from uresnet.training.run import Rehearsal
    from uresnet.transform_files import FileKind
    from uresnet.transform_files.points import PointTable

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
TRANSFORM_SUFFIXES = (".h5", ".mat", ".txt", ".tfm", ".lta", ".mgz", ".nii.gz", ".nii")

app = typer.Typer(
    help="Registers and segments 3D brain MRI: files in, files out.",
    epilog="Start with: uresnet demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class FreedomChoice(StrEnum):
    """What may move."""

    joint = "joint"
    affine = "affine"
    rigid = "rigid"
    deformable = "deformable"


class BrainChoice(StrEnum):
    """How the brain is found."""

    auto = "auto"
    none = "none"


class InterpolationChoice(StrEnum):
    """How values between voxels are made."""

    linear = "linear"
    nearest = "nearest"
    label = "label"
    cubic = "cubic"


class FormatChoice(StrEnum):
    """Whose transform files."""

    itk = "itk"
    ants = "ants"
    fsl = "fsl"
    freesurfer = "freesurfer"
    greedy = "greedy"
    nifti = "nifti"
    learn2reg = "learn2reg"


ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model", "-m", metavar="NAME|FILE", help="A packaged model (see info), a .safetensors or .hdf5 file."
    ),
]
DeviceOption = Annotated[str, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where the network runs.")]
ThreadsOption = Annotated[int | None, typer.Option(min=1, help="CPU threads; all cores by default.")]
BrainOption = Annotated[
    BrainChoice, typer.Option(help="auto: strip the skull where there is one. none: the images hold only brain.")
]
FromOption = Annotated[
    FormatChoice | None,
    typer.Option("--from", help="What the transform files are, where they do not say: a FLIRT matrix, Learn2Reg."),
]
MovingOption = Annotated[Path | None, typer.Option("--moving", help="The moving image, for formats that need it.")]
FixedOption = Annotated[Path | None, typer.Option("--fixed", help="The fixed image, for formats that need it.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace the results of an earlier run.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
ReportOption = Annotated[bool, typer.Option("--report/--no-report", help="Write report.html, a page to look at.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]


# -- verbs -------------------------------------------------------------------------------------------------------------


@app.command()
def register(
    moving: Annotated[Path, typer.Argument(help="The image to bring over.", show_default=False)],
    fixed: Annotated[Path, typer.Argument(help="The image to bring it onto.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    model: ModelOption = None,
    transform: Annotated[FreedomChoice, typer.Option(help="What may move.")] = FreedomChoice.joint,
    refine: Annotated[bool, typer.Option("--refine", help="Take longer and come closer.")] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(metavar="FORMAT,...", help="Also for: itk, ants, fsl, freesurfer, greedy, nifti, learn2reg."),
    ] = None,
    brain: BrainOption = BrainChoice.auto,
    moving_mask: Annotated[Path | None, typer.Option(help="Brain mask of the moving image.")] = None,
    fixed_mask: Annotated[Path | None, typer.Option(help="Brain mask of the fixed image.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    report: ReportOption = True,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Register two brains and segment both, each on its own grid."""
    with _told(debug):
        check_output_folder(output, overwrite)
        find_model(model)
        _check_exist(moving, fixed, moving_mask, fixed_mask)
        chosen = _device(device, threads)
        from uresnet.pipeline.register import register_pair
        from uresnet.transform_files import parse_formats

        formats = parse_formats(",".join(export or ["itk"]))
        with Narrator(quiet) as narrator:
            result = register_pair(
                moving,
                fixed,
                model=model,
                transform=transform.value,
                refine=refine,
                brain=brain.value,
                masks=(moving_mask, fixed_mask),
                device=chosen,
                progress=narrator,
            )
            with narrator.stage("write"):
                result.save(output, overwrite, command=["uresnet", *sys.argv[1:]], formats=formats, report=report)
        narrator.warn(result.warnings)
        narrator.say(_summary(result, output))


@app.command()
def segment(
    image: Annotated[Path, typer.Argument(help="The image to segment.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Label map to write.", show_default=False)],
    model: ModelOption = None,
    brain: BrainOption = BrainChoice.auto,
    mask: Annotated[Path | None, typer.Option(help="Brain mask of the image.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write ..._report.html, a page to look at.")
    ] = True,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment one brain on its own grid; values are FreeSurfer ids.

    Beside the label map go tables of its names and colours for BIDS, Freeview, 3D Slicer and ITK-SNAP, the volumes in
    mm³, and a page to look at. IMAGE may be - for standard input (NIfTI, MGZ, NRRD or a zip of DICOM files),
    --output - for standard output (.nii.gz, the label map alone).
    """
    piped = str(output) == "-"
    quiet, report = quiet or piped, report and not piped
    with _told(debug), _piped(image, output) as (image, output):
        check_output_file(output, IMAGE_SUFFIXES, (image, *([mask] if mask else [])))
        find_model(model)
        _check_exist(image, mask)
        chosen = _device(device, threads)
        from uresnet.pipeline.register import segment_image

        with Narrator(quiet) as narrator:
            result = segment_image(image, model=model, brain=brain.value, mask=mask, device=chosen, progress=narrator)
            with narrator.stage("write"):
                result.save(output, report)
        narrator.warn(result.warnings)
        found = sum(1 for volume in result.volumes.values() if volume)
        narrator.say(f"{found} of {len(result.volumes)} structures found → {output}")
        narrator.say(_verdict_line(result.record["quality"]))


@app.command()
def apply(
    transforms: Annotated[
        list[Path], typer.Argument(metavar="TRANSFORM...", help="One or more, in order.", show_default=False)
    ],
    image: Annotated[
        Path, typer.Argument(help="The moving image, a label map of it, or a .csv of points.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.", show_default=False)],
    like: Annotated[
        Path | None,
        typer.Option(
            help="An image whose grid the result takes: the fixed one, or any in its world. For points: where they lie."
        ),
    ] = None,
    interpolation: Annotated[
        InterpolationChoice | None,
        typer.Option(
            help="By default label for whole numbers in patches or called labels (intent 1002), else linear.",
            show_default=False,
        ),
    ] = None,
    lps: Annotated[bool, typer.Option("--lps", help="The .csv is in LPS, as ANTs writes it, not in RAS.")] = False,
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Bring an image, a label map or points through one or more transforms.

    Several transforms are taken in the order of antsApplyTransforms -t A -t B: the first is the one that starts from
    the fixed image. Series are resampled volume by volume; label maps by the label with the largest share of a voxel.
    The integers of a scan stay integers, rounded; scaled ones and fractions become float32.

    Points go the other way than images. transform.h5 brings the MOVING image onto the FIXED one; it takes points of the
    FIXED image (world mm, columns x, y, z) to the moving one. For points of the moving image use inverse_transform.h5.
    A last column, "inside", is 0 for points outside the deformation, or outside --like where it is given, else 1; a
    table without a header gets it without a name.

    The image may be - for standard input (NIfTI, MGZ, NRRD or a zip of DICOM files; no points), --output - for standard
    output (.nii.gz).
    """
    quiet = quiet or str(output) == "-"
    with _told(debug), _piped(image, output) as (image, output):
        if image.suffix.lower() == ".csv":
            if interpolation is not None:
                raise UserError(
                    f"{image} holds points, which are moved and not interpolated; leave --interpolation out."
                )
            check_output_file(output, (".csv",), (*transforms, image))
            _check_exist(*transforms, image, like, moving, fixed)
            _device("cpu", threads)
            from uresnet.transform_files.apply import apply_to_points

            table = apply_to_points(transforms, image, lps, _file_kind(format, moving, fixed), like)
            _save_points(table, output, "the deformation" if like is None else f"the deformation or {like}", quiet)
            return
        if like is None:
            raise UserError("say whose grid the result takes: --like FIXED.")
        check_output_file(output, IMAGE_SUFFIXES, (*transforms, image, like))
        _check_exist(*transforms, image, like, moving, fixed)
        _device("cpu", threads)
        from uresnet.io import write_series
        from uresnet.transform_files.apply import apply_transform

        kind = _file_kind(format, moving, fixed)
        result = apply_transform(transforms, image, like, interpolation.value if interpolation else None, kind)
        write_series(
            result.values, result.grid, output, result.source, names=result.interpolation in ("label", "nearest")
        )
        change = "" if interpolation else "; --interpolation changes it"
        Narrator(quiet).say(
            f"interpolation {result.interpolation} ({result.reason}{change}), {result.values.dtype} → {output}"
        )


def _save_points(table: PointTable, output: Path, known: str, quiet: bool) -> None:
    """``known``: what points are inside of, in words."""
    from uresnet.transform_files.points import write_points

    write_points(table, output)
    assert table.inside is not None
    rows = [n + 1 for n, inside in enumerate(table.inside) if not inside]
    column = "column inside" if table.header else "the last column"
    narrator = Narrator(quiet)
    if rows:
        first = ", ".join(map(str, rows[:10])) + (", …" if len(rows) > 10 else "")
        narrator.warn(
            [
                f"{len(rows)} of {len(table.points)} points lie outside {known} (point {first}); outside a deformation "
                f"only the affine parts move them; see {column}."
            ]
        )
    narrator.say(
        f"{len(table.points)} points of the fixed image → moving image: {output} ({column}: 1 inside, 0 outside)"
    )


def _file_kind(format: FormatChoice | None, moving: Path | None, fixed: Path | None) -> FileKind | None:
    """What the command line says about transform files."""
    if format is None and moving is None and fixed is None:
        return None
    from uresnet.io import read_grid
    from uresnet.transform_files import FileKind

    grids = (None if path is None else read_grid(path) for path in (fixed, moving))
    return FileKind(format.value if format else None, *grids)


@app.command()
def compose(
    transforms: Annotated[
        list[Path], typer.Argument(metavar="TRANSFORM...", help="Two or more, in order.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Transform to write.", show_default=False)],
    like: Annotated[
        Path | None, typer.Option(help="For a dense warp (.nii.gz): an image whose grid the warp takes.")
    ] = None,
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Chain transforms into one file.

    A B is the order of antsApplyTransforms -t A -t B: a point of the fixed image goes through A first, then through B.
    So from A (brings X onto FIXED) and B (brings MOVING onto X) comes what brings MOVING onto FIXED.
    """
    with _told(debug):
        check_output_file(output, TRANSFORM_SUFFIXES, tuple(transforms))
        _check_exist(*transforms, like, moving, fixed)
        _device("cpu", threads)
        from uresnet.io import read_grid
        from uresnet.transform_files import write_transform
        from uresnet.transform_files.apply import read_chain

        kind = _file_kind(format, moving, fixed)
        chain = read_chain(transforms, kind).simplified()
        grid = read_grid(like) if like is not None else (kind.fixed if kind else None)
        dense = output.name.endswith((".nii", ".nii.gz"))
        write_transform(chain, output, "nifti" if dense else None, fixed=grid, moving=kind.moving if kind else None)
        Narrator(quiet).say(f"{len(transforms)} transforms, {len(chain.parts)} parts → {output}")


@app.command()
def convert(
    transform: Annotated[Path, typer.Argument(help="A transform file of any of the programs.", show_default=False)],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="File to write; without an ending, how names begin.", show_default=False),
    ],
    to: Annotated[FormatChoice, typer.Option("--to", help="Whose transform to write.", show_default=False)],
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a transform as another program wants it, and say how exactly.

    With an ending the output is one file: .h5 .mat .txt (itk, ants), .mat (fsl: FLIRT; greedy: plain), .lta .mgz
    (freesurfer), .nii.gz (nifti, ants, greedy: LPS mm; fsl: FNIRT-style; learn2reg: voxels). Without one, all files of
    the format are written, with the inverse, and their names begin so: -o out/s01_ makes out/s01_0GenericAffine.mat.
    """
    with _told(debug):
        check_output_file(output, ("",), (transform,))
        _check_exist(transform, moving, fixed)
        _device("cpu", threads)
        from uresnet.transform_files.convert import convert_transform

        done = convert_transform(transform, output, to.value, _file_kind(format, moving, fixed))
        narrator = Narrator(quiet)
        for file, exactness in done.items():
            narrator.say(f"{file}   {exactness}")


@app.command()
def invert(
    transform: Annotated[Path, typer.Argument(help="A transform file.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Transform to write (.h5).", show_default=False)],
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the inverse of a transform and say how exact it is."""
    with _told(debug):
        check_output_file(output, (".h5", ".mat", ".txt"), (transform,))
        _check_exist(transform)
        _device("cpu", threads)
        from uresnet.transform_files import write_transform
        from uresnet.transform_files.apply import invert_transform

        inverse, residual = invert_transform(transform)
        write_transform(inverse, output)
        Narrator(quiet).say(f"inverse {'exact' if residual is None else residual} → {output}")


@app.command()
def jacobian(
    transform: Annotated[Path, typer.Argument(help="A transform file.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Image to write.", show_default=False)],
    like: Annotated[
        Path | None, typer.Option(help="An image whose grid the result takes; by default that of the deformation.")
    ] = None,
    log: Annotated[
        bool, typer.Option("--log", help="Its natural logarithm: 0 where nothing grows or shrinks; folds are -20.7.")
    ] = False,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the Jacobian determinant of a transform: above 1 where tissue is larger in the moving image."""
    with _told(debug):
        check_output_file(output, IMAGE_SUFFIXES, (transform, *([like] if like else [])))
        _check_exist(transform, like)
        _device("cpu", threads)
        from uresnet.io import write_image
        from uresnet.transform_files.apply import jacobian_of

        determinant, folded = jacobian_of(transform, like, log)
        write_image(determinant, output)
        Narrator(quiet).say(f"{100 * folded:.3g} % of the voxels fold → {output}")


preparing = typer.Typer(help="Make a training set: conform images and labels, split by person.", no_args_is_help=True)
app.add_typer(preparing, name="prepare")

DataOption = Annotated[Path, typer.Option("--output", "-o", metavar="DATA", help="Folder to make.", show_default=False)]
SplitOption = Annotated[
    Path | None, typer.Option(help="Table (id, split) to follow; by default people are divided at random.")
]
SeedOption = Annotated[int, typer.Option(help="Of the random split.")]
NameOption = Annotated[str, typer.Option(help="What the data are called, for the cards of models.")]
LicenceOption = Annotated[str, typer.Option(help="Licence that models inherit from the data.")]
ConformOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="Conform as this model sees its images (default, paper, a file); else as the paper does."
    ),
]


class LabelsChoice(StrEnum):
    """What label values mean."""

    freesurfer = "freesurfer"
    neuromorphometrics = "neuromorphometrics"


@preparing.command("pairs")
def prepare_pairs(
    table: Annotated[
        Path, typer.Argument(help="Tab-separated: image, labels, subject, split (mask, id).", show_default=False)
    ],
    output: DataOption,
    labels: Annotated[LabelsChoice, typer.Option(help="What label values mean.")] = LabelsChoice.freesurfer,
    brain: BrainOption = BrainChoice.auto,
    split: SplitOption = None,
    seed: SeedOption = 0,
    name: NameOption = "",
    licence: LicenceOption = "",
    conform: ConformOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prepare the images and label maps that a table names."""
    with _told(debug):
        chosen = _device(device, threads)
        from uresnet.training.data.prepare import PrepareOptions
        from uresnet.training.data.sources import sources_from_table

        sources = sources_from_table(table)
        spec = _conform_of(conform)
        how = PrepareOptions(labels.value, spec, brain.value, chosen, name, licence)
        _prepare(sources, [], output, how, split, seed, quiet)


@preparing.command("freesurfer")
def prepare_freesurfer(
    subjects_dir: Annotated[Path, typer.Argument(help="Folder of FreeSurfer subjects.", show_default=False)],
    output: DataOption,
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE|paper|paper-by-person",
            help="Table (id, split) to follow, or the paper's sessions of OASIS-3, as published or divided by person; "
            "by default people are divided at random.",
        ),
    ] = None,
    seed: SeedOption = 0,
    name: NameOption = "",
    licence: LicenceOption = "",
    conform: ConformOption = None,
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Prepare FreeSurfer subjects: mri/orig.mgz within brainmask.mgz, labels from aseg.mgz."""
    with _told(debug):
        _device("cpu", threads)
        from uresnet.training.data.prepare import PrepareOptions
        from uresnet.training.data.sources import PAPER, PAPER_BY_PERSON, sources_from_subjects, with_paper_splits

        sources, skipped = sources_from_subjects(subjects_dir)
        if str(split) in (PAPER, PAPER_BY_PERSON):
            sources, others = with_paper_splits(sources, by_person=str(split) == PAPER_BY_PERSON)
            skipped += others
            if str(split) == PAPER:
                name = f"{name or 'OASIS-3'}, the paper's split of sessions: people of the test set are also trained on"
                Narrator(quiet).warn(
                    [
                        "77 of the 141 test people of the paper's split also appear in training; use it to compare "
                        "with the paper, and --split paper-by-person for an honest test."
                    ]
                )
            split = None
        how = PrepareOptions(spec=_conform_of(conform), name=name, licence=licence)
        _prepare(sources, skipped, output, how, split, seed, quiet)


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A configuration (YAML file).", show_default=False)],
    data: Annotated[
        Path | None, typer.Option(help="Folder made by prepare; by default the one that the configuration names.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="RUN", help="Folder for the run; by default runs/CONFIG.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run stopped.")] = False,
    max_minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Train for so long instead of the configured epochs.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost; write nothing.")] = False,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves and pictures for TensorBoard.")
    ] = False,
    report: ReportOption = True,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a network from a configuration and prepared data; start with torchrun to use several GPUs."""
    with _told(debug):
        from uresnet.config import load_config

        settings = load_config(config)
        folder = output or Path("runs") / config.stem
        found = data or Path(settings.data)
        chosen = _device(device, threads)
        from uresnet.training import run
        from uresnet.training.parallel import join_team, leave_team

        if chosen == "cuda" and "LOCAL_RANK" in os.environ:
            chosen = f"cuda:{os.environ['LOCAL_RANK']}"
        settings = run.with_limits(settings, data, max_minutes)
        options = run.RunOptions(found, folder, resume, tensorboard)
        team = join_team(chosen)
        with TrainingView(quiet or not team.leads) as view:
            trainer = run.open_training(settings, options, chosen, team, view)
            if settings.training.precision == "bf16" and not trainer.halved:
                view.say("This processor has no fast bfloat16 (training.precision: bf16); convolutions are in float32.")
            if dry_run:
                view.rehearsed(run.rehearse(trainer), chosen)
                return
            if trainer.progress.step:
                view.say(f"going on after update {trainer.progress.step}")
            finished = run.train(trainer, options, stop=view.wants_to_stop)
        leave_team()
        if not team.leads:
            return
        if report:
            from uresnet.report.pages import write_pages

            write_pages(folder)
        if not finished:
            _fail(f"Stopped after update {trainer.progress.step}; go on with: {_again(resume)}", 130)
        if not quiet:
            best = folder / "best.safetensors"
            if report:
                print(f"Look at {folder / 'report.html'}")
            print(f"{best}\nUse it with: uresnet register MOVING FIXED -o OUT --model {best}")


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(help="Folder made by prepare.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the tables.", show_default=False)],
    model: Annotated[
        list[str],
        typer.Option(
            "--model", "-m", metavar="NAME|FILE", help="A model; give several to compare.", show_default=False
        ),
    ],
    split: Annotated[str, typer.Option(help="Which part of the data.")] = "test",
    pairs: Annotated[int | None, typer.Option(min=1, help="Only the first so many pairs.", show_default=False)] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Judge models on labelled pairs and write the paper's Table 1.

    Every scan of the split is registered to the next one and back, by the same steps as register, and the warped labels
    are compared with the true ones. Writes table1.md, pairs.csv (a row a pair) and structures.csv (a row a structure).
    Stopped, it goes on with what is missing when the same command is given again.
    """
    with _told(debug):
        check_output_folder(output, overwrite)
        for one in model:
            find_model(one)
        chosen = _device(device, threads)
        from uresnet.evaluation.run import Journal, open_pairs
        from uresnet.evaluation.run import evaluate as judge

        dataset, chosen_pairs = open_pairs(data, split, pairs)
        journal = Journal(output, dataset)
        with Narrator(quiet) as narrator:
            done = judge(
                model,
                dataset,
                chosen_pairs,
                chosen,
                lambda one: narrator.note(
                    f"{one.model}  {one.moving} → {one.fixed}  Dice {one.mean('dice'):.3f}, {one.seconds:.1f} s"
                ),
                journal,
            )
            files = done.save(output, overwrite, command=["uresnet", *sys.argv[1:]])
            journal.close()
        narrator.warn(done.record["warnings"])
        narrator.say((output / "table1.md").read_text(encoding="utf-8"))
        narrator.say(f"Results in {output}{os.sep}: {', '.join(file.name for file in files)}")


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="Output of register or train, or a folder of many.", show_default=False)
    ],
    moving: Annotated[Path | None, typer.Option(help="Where the moving image is now.")] = None,
    fixed: Annotated[Path | None, typer.Option(help="Where the fixed image is now.")] = None,
    debug: DebugOption = False,
) -> None:
    """Write the page of a result again, the curves of a training, or an index of many results."""
    with _told(debug):
        _check_exist(folder, moving, fixed)
        from uresnet.report.pages import write_pages

        print(write_pages(folder, moving, fixed))


@app.command()
def figure(
    folder: Annotated[Path, typer.Argument(help="Output folder of register.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the figures; by default the results' own.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="png,svg,pdf", help="File types, by commas.")
    ] = "png,svg,pdf",
    width_mm: Annotated[float, typer.Option("--width", min=20, max=1000, help="Width on paper, mm.")] = 174.0,
    moving: Annotated[Path | None, typer.Option(help="Where the moving image is now.")] = None,
    fixed: Annotated[Path | None, typer.Option(help="Where the fixed image is now.")] = None,
    debug: DebugOption = False,
) -> None:
    """Draw a result as the paper's Figures 2 and 3, fit for print."""
    with _told(debug):
        _check_exist(folder, moving, fixed)
        from uresnet.report.figures import write_figures

        for path in write_figures(folder, output or folder, formats.split(","), width_mm, (moving, fixed)):
            print(path)


@app.command()
def view(
    folder: Annotated[Path, typer.Argument(help="Output folder of register.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    debug: DebugOption = False,
) -> None:
    """Scroll through a result in the browser; served to this computer alone until Ctrl-C."""
    with _told(debug):
        _check_exist(folder)
        from uresnet.report.viewer import make_server

        with make_server(folder, port) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            print(f"{address}  (Ctrl-C ends it)", flush=True)
            if browser:
                import webbrowser

                webbrowser.open(address)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("uresnet-demo"),
    model: ModelOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Fetch two public brains, register one to the other and segment both."""
    with _told(debug):
        check_output_folder(output, overwrite)
        find_model(model)
        from uresnet.datasets.demo import COLIN27, ICBM152, cache_folder, fetch_brain

        with Narrator(quiet) as narrator:
            with narrator.stage("fetch two brains"):
                moving, fixed = fetch_brain(COLIN27), fetch_brain(ICBM152)
            chosen = _device(device, threads)
            from uresnet.pipeline.register import register_pair

            result = register_pair(moving, fixed, model=model, device=chosen, progress=narrator)
            with narrator.stage("write"):
                result.save(output, overwrite, command=["uresnet", *sys.argv[1:]])
        narrator.warn(result.warnings)
        narrator.say(f"\nmoving  {COLIN27.what}\nfixed   {ICBM152.what}\n        both kept in {cache_folder()}")
        narrator.say(_summary(result, output))
        narrator.say(f"\nYour own pair: uresnet register MOVING FIXED -o OUT   (look at {output}/report.html first)")


@app.command()
def info(
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say which version this is and which models it carries."""
    with _told(debug=False):
        facts = _facts()
        if as_json:
            print(json.dumps(facts, indent=2, ensure_ascii=False))
            return
        _show_facts(facts)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"uresnet {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Registers and segments 3D brain MRI: files in, files out."""


def main() -> NoReturn:
    """Run the command and exit: 0, 2 for what the user can mend, 130 after Ctrl-C, 1 for our own mistakes."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app(prog_name="uresnet")
    except KeyboardInterrupt:  # outside a verb: while it is being set up
        sys.exit(130)
    sys.exit(0)


# -- how verbs end -----------------------------------------------------------------------------------------------------


@contextmanager
def _told(debug: bool) -> Iterator[None]:
    """Turns every way to fail into a sentence on standard error and an exit code, and warnings about files into one."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", InputWarning)
            shown = warnings.showwarning
            warnings.showwarning = lambda message, category, *where: (
                print(f"warning: {message}", file=sys.stderr)
                if issubclass(category, InputWarning)
                else shown(message, category, *where)
            )
            yield
    except UserError as error:
        _fail(f"error: {error}", 2)
    except KeyboardInterrupt:
        _fail("Interrupted; nothing was written.", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (typer.Exit, SystemExit):
        raise
    except Exception as error:
        if debug:
            traceback.print_exc()
        _fail(f"unexpected error: {type(error).__name__}: {error} (run again with --debug to see where)", 1)


@contextmanager
def _piped(image: Path, output: Path) -> Iterator[tuple[Path, Path]]:
    """``-`` as files: the image from standard input, the result to standard output when all has gone well."""
    if "-" not in (str(image), str(output)):
        yield image, output
        return
    with tempfile.TemporaryDirectory(prefix="uresnet-") as folder:
        given, made = image, output
        if str(image) == "-":
            content = sys.stdin.buffer.read()
            if not content:
                raise UserError("- : nothing came on standard input; pipe an image into it.")
            given = Path(folder) / f"standard-input{_suffix_of(content)}"
            given.write_bytes(content)
        if str(output) == "-":
            made = Path(folder) / "standard-output.nii.gz"
        yield given, made
        if made is not output:
            sys.stdout.buffer.write(made.read_bytes())


def _suffix_of(content: bytes) -> str:
    """The file type of an image that came without a name, from its first bytes; NIfTI where they say nothing else."""
    zipped = content.startswith(b"\x1f\x8b")
    start = content[:4]
    if zipped:
        with suppress(zlib.error):
            start = zlib.decompressobj(wbits=31).decompress(content[:4096], 4)
    if start == b"\x00\x00\x00\x01":  # the version of an MGH file; NIfTI starts with its header's size, 348 or 540
        return ".mgz" if zipped else ".mgh"
    if start == b"PK\x03\x04":
        return ".zip"
    if start == b"NRRD":
        return ".nrrd"
    return ".nii.gz" if zipped else ".nii"


def _fail(sentence: str, code: int) -> NoReturn:
    print(sentence, file=sys.stderr)
    raise typer.Exit(code)


def _terminated(number: int, frame: FrameType | None) -> None:
    # As an exception, so that temporary files are removed on the way out.
    raise SystemExit(128 + number)


def _check_exist(*paths: Path | None) -> None:
    for path in paths:
        chosen = path is not None and Path(str(path).rpartition("#")[0] or "#").exists()  # one series of a DICOM folder
        if path is not None and not chosen and not path.exists() and not path.is_symlink():
            raise UserError(f"{path} does not exist; check the path.")


def _device(wanted: str, threads: int | None) -> str:
    """The device to compute on; checked, because a wrong one would fail only in the middle of the work."""
    kind, _, number = wanted.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdigit())):
        raise UserError(f"There is no device {wanted}; choose auto, cpu, cuda, cuda:N or mps.")
    _keep_memory()
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read when torch is loaded
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    if kind == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise UserError(
            f"{wanted} is not here: {torch.cuda.device_count()} CUDA devices are visible; try --device cpu."
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("mps is not available on this computer; try --device cpu.")
    return wanted


def _keep_memory() -> None:
    """Asks the C library to reuse large blocks instead of returning each to the system, which has to clear them again.

    On a CPU this halves the time of a network whose feature maps are large. Elsewhere than on glibc nothing happens.
    """
    top_pad, trim_threshold, mmap_max = -2, -1, -4  # M_… in malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 2**26)


# -- what verbs say ----------------------------------------------------------------------------------------------------


class Narrator:
    """Says what is going on, on standard error, a line per stage; results go to standard output."""

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        self.status = self.console.status("")

    def __enter__(self) -> Narrator:
        if self.console.is_terminal:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.status.stop()

    def __call__(self, stage: str, seconds: float | None) -> None:
        if seconds is None:
            self.status.update(f"{stage} …")
        else:
            self.console.print(f"  {stage:<18}[dim]{seconds:6.1f} s[/dim]")

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        from time import perf_counter

        self(name, None)
        start = perf_counter()
        yield
        self(name, perf_counter() - start)

    def note(self, line: str) -> None:
        self.console.print(line, soft_wrap=True, markup=False)

    def warn(self, sentences: list[str]) -> None:
        for sentence in sentences:
            print(f"warning: {sentence}", file=sys.stderr)

    def say(self, text: str) -> None:
        if not self.quiet:
            print(text)


def _conform_of(model: str | None) -> ConformSpec:
    from uresnet.config import ConformSpec
    from uresnet.model.checkpoint import conform_spec

    card = find_model(model).card if model else None
    return ConformSpec() if card is None else conform_spec(card, card.name)


def _prepare(
    sources: list[Source],
    skipped: list[Skipped],
    folder: Path,
    options: PrepareOptions,
    split: Path | None,
    seed: int,
    quiet: bool,
) -> None:
    """Split, prepare with a bar, and say what came of it."""
    from rich.progress import Progress

    from uresnet.training.data.prepare import SKIPPED, SPLIT, prepare
    from uresnet.training.data.sources import with_random_splits, with_splits_of

    divided = with_splits_of(sources, split) if split else with_random_splits(sources, seed)
    console = Console(stderr=True, quiet=quiet, highlight=False)
    with Progress(console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("preparing", total=len(divided))
        found = prepare(divided, folder, options, skipped, lambda scan: bar.advance(task))
    narrator = Narrator(quiet)
    narrator.warn([f"{one.id} left out: {one.reason}" for one in found.skipped])
    if sum(scan.split == "train" for scan in found.scans) < 2:
        narrator.warn(["Fewer than two scans are in the split train; a training needs a pair."])
    if found.skipped:
        narrator.warn([f"{len(found.skipped)} scans were left out; {folder / SKIPPED} lists them."])
    counts = {s: sum(scan.split == s for scan in found.scans) for s in dict.fromkeys(x.split for x in found.scans)}
    shown = ", ".join(f"{count} {name}" for name, count in counts.items())
    size = " × ".join(map(str, found.shape))
    again = f" ({found.reused} were there already)" if found.reused else ""
    narrator.say(f"{len(found.scans)} scans of {size} voxels{again}: {shown}\nsplit  {folder / SPLIT}")
    narrator.say(f"Train with: uresnet train CONFIG --data {folder}")


class TrainingView:
    """Shows a training on standard error, and lets Ctrl-C end it after the present update instead of within it."""

    def __init__(self, quiet: bool) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False)
        columns = [TextColumn("{task.description}"), BarColumn(bar_width=20), TextColumn("{task.percentage:>3.0f} %")]
        columns += [TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[terms]}")]
        self.bar = Progress(*columns, console=self.console, disable=quiet or not self.console.is_terminal)
        self.task = self.bar.add_task("training", total=1.0, terms="")
        self.stopping = False
        self.validated = ""
        self.said = -1

    def __enter__(self) -> TrainingView:
        self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self, event: object) -> None:
        from uresnet.training.loop import StepDone, Validation

        if isinstance(event, StepDone):
            terms = " ".join(f"{name} {value:.3f}" for name, value in event.terms.items())
            self.bar.update(self.task, completed=event.fraction, description=f"epoch {event.epoch + 1}", terms=terms)
            if not self.bar.disable or int(20 * event.fraction) == self.said:
                return
            self.said = int(20 * event.fraction)  # to a file: a line for every twentieth
            self.console.print(str(event), soft_wrap=True)
        elif isinstance(event, Validation):
            best = "  [bold](best so far)[/bold]" if event.is_best else ""
            self.console.print(f"{event}{best}", soft_wrap=True)
        else:
            self.console.print(f"warning: {event}", soft_wrap=True, markup=False)

    def say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def rehearsed(self, found: Rehearsal, device: str) -> None:
        """What a dry run measured, on standard output."""
        size = " × ".join(map(str, found.shape))
        print(f"data      {found.training_scans} scans to train on, {found.validation_scans} to judge by; {size}")
        print(f"network   {found.weights:,} weights, on {device}")
        print(f"update    {found.pairs_per_update} pairs, {found.seconds:.2f} s")
        if found.memory:
            print(f"memory    {found.memory / 2**30:.2f} GiB at most")
        if found.updates:
            print(f"training  {found.updates} updates, about {found.updates * found.seconds / 3600:.2g} h")

    def wants_to_stop(self) -> bool:
        return self.stopping

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.stopping:
            raise KeyboardInterrupt
        self.stopping = True
        self.console.print("stopping after this update (again: at once) …")


def _again(resumed: bool) -> str:
    """The command that goes on with a training."""
    return " ".join(["uresnet", *sys.argv[1:], *([] if resumed else ["--resume"])])


def _summary(result: Registration, output: Path) -> str:
    record, measures = result.record, result.measures
    lines = ["", f"model   {record['model']['name']} on {record['device']}, {record['seconds']['total']:.1f} s"]
    for name, one in record["inputs"].items():
        lines.append(f"{name:<8}{one['brain']}; {one['brain_mm3'] / 1000:.0f} ml, {one['axes']}, {one['voxel_mm']} mm")
    lines += [
        f"brains  overlap {measures.overlap_before:.3f} before, {measures.overlap_after:.3f} after (Dice of the masks)",
        f"folds   {100 * measures.folding_fraction:.3g} % of the brain; SD log Jacobian {measures.sd_log_jacobian:.3f}",
        f"inverse {measures.inverse_mean_mm:.3f} mm off on average, {measures.inverse_max_mm:.3f} mm at most",
    ]
    if result.scheme is not None:
        lines += ["", f"{'structure':<34}{'moving':>10}{'fixed':>10}  ml"]
        for one in result.scheme.classes:
            volumes = [result.volumes[name][one.id] / 1000 for name in ("moving", "fixed")]
            lines.append(f"{one.name:<34}{volumes[0]:>10.1f}{volumes[1]:>10.1f}")
    lines += ["", _verdict_line(record["quality"])]
    return "\n".join([*lines, "", f"Results in {output}{os.sep}"])


def _verdict_line(quality: dict[str, Any]) -> str:
    return f"verdict {quality['verdict']}: {' '.join(quality['reasons']) or 'nothing speaks against it'}"


def _facts() -> dict[str, Any]:
    models = packaged_models()
    return {
        "version": __version__,
        "python": sys.version.split()[0],
        "default_model": next(iter(models), None),
        "models": [
            {
                "name": name,
                "kind": model.card.kind,
                "structures": model.card.scheme,
                "licence": model.card.licence,
                "trained_on": model.card.trained_on,
                "figures": model.card.figures,
                "sha256": model.sha256,
                "file": str(model.path),
            }
            for name, model in models.items()
            if model.card is not None
        ],
    }


def _show_facts(facts: dict[str, Any]) -> None:
    print(f"uresnet {facts['version']} (Python {facts['python']})")
    if not facts["models"]:
        print("no model is packaged; give one with --model FILE")
    for model in facts["models"]:
        default = " (default)" if model["name"] == facts["default_model"] else ""
        print(f"\nmodel {model['name']}{default}")
        for key in ("structures", "licence", "trained_on"):
            if model[key]:
                print(f"  {key.replace('_', ' '):<12}{model[key]}")
        wide = max((len(what) for what in model["figures"]), default=0) + 2
        for what, value in model["figures"].items():
            print(f"  {what:<{wide}}{value}")
        print(f"  {'sha256':<12}{model['sha256']}")
