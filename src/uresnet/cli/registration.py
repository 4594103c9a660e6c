"""Verbs that run a model on images: ``register``, ``segment``, ``demo``."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.options import (
    FORMATS,
    IMAGE_SUFFIXES,
    BrainOption,
    DebugOption,
    DeviceOption,
    FailOnOption,
    ModelOption,
    OutputFolderOption,
    OverwriteOption,
    QuietOption,
    ReportOption,
    ThreadsOption,
)
from uresnet.cli.pipes import is_piped, piped
from uresnet.cli.session import Session, session
from uresnet.core.choices import BrainMethod, FailOn, Freedom
from uresnet.core.files import check_exist, check_output_file, check_output_files, check_output_folder
from uresnet.model.catalogue import find_model
from uresnet.pipeline.names import registration_names, segmentation_files

if TYPE_CHECKING:
    from uresnet.pipeline.save import Registration
    from uresnet.results.record import Quality


def register(
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="The moving image.", show_default=False)],
    fixed: Annotated[
        Path, typer.Argument(metavar="FIXED", help="The fixed image. The moving one comes to it.", show_default=False)
    ],
    output: OutputFolderOption,
    model: ModelOption = None,
    transform: Annotated[
        Freedom, typer.Option(help="What the registration may change: affine and deformation (joint), or one of them.")
    ] = "joint",
    refine: Annotated[
        bool, typer.Option("--refine", help="Use more iterations: about 0.005 higher Dice, 1.5 times the time.")
    ] = False,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT,...",
            help=f"Write the transform in these formats too, separated by commas: {FORMATS}. itk is always written.",
        ),
    ] = None,
    brain: BrainOption = "auto",
    moving_mask: Annotated[Path | None, typer.Option(metavar="FILE", help="A brain mask of the moving image.")] = None,
    fixed_mask: Annotated[Path | None, typer.Option(metavar="FILE", help="A brain mask of the fixed image.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    report: ReportOption = True,
    overwrite: OverwriteOption = False,
    fail_on: FailOnOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Register two brain images, and segment both, each on its own grid."""
    with session(device, threads, quiet, debug) as run:
        names = registration_names(report, ",".join(export or []).split(","))
        inputs = (moving, fixed, moving_mask, fixed_mask)
        check_output_folder(output, overwrite, (*inputs, _file(model)), names)
        model_file = find_model(model)
        check_exist(*inputs)
        chosen = run.load_torch()
        from uresnet.pipeline.register import register as register_pair
        from uresnet.transform_files import parse_formats

        formats = parse_formats(",".join(export or ["itk"]))
        result = register_pair(
            moving,
            fixed,
            model=model_file,
            transform=transform,
            refine=refine,
            brain=brain,
            masks=(moving_mask, fixed_mask),
            device=chosen,
            progress=run.terminal.progress,
        )
        result.save(output, overwrite, _command(), report, formats, run.terminal.progress)
        run.terminal.warn(result.warnings)
        run.terminal.say(_summary(result, output, run.terminal.seconds))
        _alert(run, result.record.quality, fail_on)


def segment(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image to segment.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The label map to write.", show_default=False)
    ],
    model: ModelOption = None,
    brain: BrainOption = "auto",
    mask: Annotated[Path | None, typer.Option(metavar="FILE", help="A brain mask of the image.")] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write ..._report.html, a page that shows the result.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of an earlier run that have the same names.")
    ] = False,
    fail_on: FailOnOption = None,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment one brain image on its own grid.

    The values of the label map are FreeSurfer ids. Beside it the command writes tables of names and colours for BIDS,
    Freeview, 3D Slicer and ITK-SNAP, the volumes in mm³, the record of the run with its verdict, and a page that shows
    the result.

    IMAGE can be - for standard input (NIfTI, MGZ, NRRD or a zip of DICOM files). With --output - the label map alone
    goes to standard output (.nii.gz).
    """
    to_pipe = is_piped(output)
    quiet, report = quiet or to_pipe, report and not to_pipe
    with session(device, threads, quiet, debug) as run:
        with piped(image, output) as (image, output):
            quality = _segment(run, image, mask, output, model, brain, report, overwrite)
        _alert(run, quality, fail_on)


def _segment(
    run: Session,
    image: Path,
    mask: Path | None,
    output: Path,
    model: str | None,
    brain: BrainMethod,
    report: bool,
    overwrite: bool,
) -> Quality | None:
    """Writes the files and returns the verdict."""
    inputs = (image, mask, _file(model))
    check_output_file(output, IMAGE_SUFFIXES, inputs, overwrite)
    check_output_files(list(segmentation_files(output, report).values()), overwrite, inputs)
    model_file = find_model(model)
    check_exist(image, mask)
    chosen = run.load_torch()
    from uresnet.pipeline.segment import segment as segment_image

    result = segment_image(
        image, model=model_file, brain=brain, mask=mask, device=chosen, progress=run.terminal.progress
    )
    result.save(output, report, run.terminal.progress, overwrite, _command())
    run.terminal.warn(result.warnings)
    found = sum(1 for volume in result.volumes.values() if volume)
    run.terminal.say(f"{found} of {len(result.volumes)} structures found → {output}")
    run.terminal.say(_verdict(result.record.quality))
    return result.record.quality


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder for the results.")
    ] = Path("uresnet-demo"),
    model: ModelOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Download two public brain images, register one to the other, and segment both."""
    with session(device, threads, quiet, debug) as run:
        check_output_folder(output, overwrite, names=registration_names(True, ()))
        model_file = find_model(model)
        from uresnet.datasets.demo import COLIN27, ICBM152, cache_folder, fetch_brain
        from uresnet.pipeline.progress import Stages

        with Stages(run.terminal.progress)("fetch two brains"):
            moving, fixed = fetch_brain(COLIN27), fetch_brain(ICBM152)
        chosen = run.load_torch()
        from uresnet.pipeline.register import register as register_pair

        result = register_pair(moving, fixed, model=model_file, device=chosen, progress=run.terminal.progress)
        result.save(output, overwrite, _command(), progress=run.terminal.progress)
        say = run.terminal.say
        run.terminal.warn(result.warnings)
        say(f"\nmoving  {COLIN27.what}\nfixed   {ICBM152.what}\n        both kept in {cache_folder()}")
        say(_summary(result, output, run.terminal.seconds))
        say(f"\nOpen {output}/report.html first.\nYour own images: uresnet register MOVING FIXED -o OUT")
        _alert(run, result.record.quality, None)


def _alert(run: Session, quality: Quality | None, fail_on: FailOn | None) -> None:
    """A verdict below good on standard error, also where all else is quiet, and the exit code that it asks for."""
    assert quality is not None
    if quality.verdict == "good":
        return
    run.terminal.alert(_verdict(quality))
    if fail_on is not None and (quality.verdict == "failed" or fail_on == "look"):
        raise typer.Exit(3)


def _file(model: str | None) -> Path | None:
    """The file that ``--model`` names, if it names one."""
    return None if model is None else Path(model)


def _command() -> list[str]:
    """The command line, as the record keeps it."""
    return ["uresnet", *sys.argv[1:]]


def _summary(result: Registration, output: Path, seconds: dict[str, float]) -> str:
    """``seconds``: of the stages, that of writing among them, which the record of the run cannot hold."""
    record, measures = result.record, result.measures
    total = record.seconds["total"] + seconds.get("write", 0.0)
    lines = ["", f"model   {record.model.name} on {record.device}, {total:.1f} s"]
    for name, image in record.inputs.items():
        size = " × ".join(f"{mm:g}" for mm in image.voxel_mm)
        lines.append(f"{name:<8}{image.brain}; {image.brain_mm3 / 1000:.0f} ml, {image.axes}, voxels of {size} mm")
    lines += [
        f"brains  overlap {measures.overlap_before:.3f} before, {measures.overlap_after:.3f} after (Dice of the masks)",
        f"folds   {100 * measures.folding_fraction:.3g} % of the brain; SD log Jacobian {measures.sd_log_jacobian:.3f}",
        f"inverse {measures.inverse_mean_mm:.3f} mm error on average, {measures.inverse_max_mm:.3f} mm at most",
    ]
    if result.scheme is not None:
        lines += ["", f"{'structure':<34}{'moving':>10}{'fixed':>10}  ml"]
        for structure in result.scheme.classes:
            volumes = [result.volumes[name][structure.id] / 1000 for name in ("moving", "fixed")]
            lines.append(f"{structure.name:<34}{volumes[0]:>10.1f}{volumes[1]:>10.1f}")
    lines += ["", _verdict(record.quality)]
    return "\n".join([*lines, "", f"Results in {output}{os.sep}"])


def _verdict(quality: Quality | None) -> str:
    assert quality is not None
    reasons = "\n        ".join(quality.reasons)
    return f"verdict {quality.verdict}: {reasons or 'Automatic checks passed.'}"
