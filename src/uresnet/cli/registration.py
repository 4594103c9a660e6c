"""Verbs that register a pair of images: ``register``, ``demo``."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.combinations import check_masked, check_refine, check_registration
from uresnet.cli.options import (
    FORMATS,
    BrainOption,
    DebugOption,
    DeviceOption,
    ExactOption,
    FailOnOption,
    FreedomOption,
    MaskOption,
    ModelOption,
    OutputFolderOption,
    OutputsOption,
    OverwriteOption,
    QuietOption,
    ReportOption,
    SpacingOption,
    StrippedOption,
    ThreadsOption,
    VerboseOption,
    extras_of,
)
from uresnet.cli.outcome import command_line, exit_on, log_result, model_file, tell_verdict
from uresnet.cli.session import session
from uresnet.core.exact import exact_device
from uresnet.core.files import LOG, check_exist, check_output_folder
from uresnet.core.steps import watched_steps
from uresnet.errors import UserError
from uresnet.model.catalogue import find_model
from uresnet.pipeline.names import DEFAULT_OUTPUTS, chosen_outputs, registration_names

if TYPE_CHECKING:
    from uresnet.pipeline.save import Registration


def register(
    moving: Annotated[Path, typer.Argument(metavar="MOVING", help="The moving image.", show_default=False)],
    fixed: Annotated[
        Path, typer.Argument(metavar="FIXED", help="The fixed image. The moving one comes to it.", show_default=False)
    ],
    output: OutputFolderOption,
    model: ModelOption = None,
    transform: FreedomOption = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine",
            help="Use more iterations: on ten test pairs a Dice of 0.840 instead of 0.835, in 28 s instead of 19 s "
            "on two CPU cores.",
            show_default="off",
        ),
    ] = False,
    exact: ExactOption = False,
    export: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FORMAT,...",
            help=f"Write the transform in these formats too, separated by commas: {FORMATS}. itk is always written.",
        ),
    ] = None,
    brain: BrainOption = "auto",
    wanted: OutputsOption = None,
    field_spacing: SpacingOption = None,
    mask: MaskOption = False,
    stripped: StrippedOption = False,
    moving_mask: Annotated[Path | None, typer.Option(metavar="FILE", help="A brain mask of the moving image.")] = None,
    fixed_mask: Annotated[Path | None, typer.Option(metavar="FILE", help="A brain mask of the fixed image.")] = None,
    moving_lesion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A mask of abnormal tissue of the moving image: nothing is matched to it."),
    ] = None,
    fixed_lesion: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A mask of abnormal tissue of the fixed image: nothing is matched to it."),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    report: ReportOption = None,
    overwrite: OverwriteOption = False,
    fail_on: FailOnOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Register two brain images, and segment both, each on its own grid."""
    with session(device, threads, quiet, debug, verbose) as run, watched_steps(run.terminal.step):
        on = exact_device(device) if exact else None
        if exact and field_spacing is not None:
            raise UserError("--exact leaves displacements on their voxels; leave --field-spacing out.")
        outputs = chosen_outputs(wanted, report, extras_of(mask, stripped))
        formats = ",".join(export or []).split(",")
        names = registration_names(outputs, formats)
        inputs = (moving, fixed, moving_mask, fixed_mask, moving_lesion, fixed_lesion)
        check_output_folder(output, overwrite, (*inputs, model_file(model)), names)
        found_model = find_model(model)
        check_masked(brain, moving_mask, fixed_mask)
        check_registration(found_model, transform, field_spacing, formats, wanted, outputs)
        check_exist(*inputs)
        chosen = run.load_torch(registers=True)
        if refine:
            check_refine(found_model)
        run.terminal.begin("load libraries")
        from uresnet.pipeline.register import register as register_pair
        from uresnet.transform_files import parse_formats

        exported = parse_formats(",".join(export or ["itk"]))
        result = register_pair(
            moving,
            fixed,
            model=found_model,
            transform=transform or "joint",
            refine=refine,
            exact=exact,
            brain=brain,
            masks=(moving_mask, fixed_mask),
            lesions=(moving_lesion, fixed_lesion),
            device=on or chosen,
            progress=run.terminal.progress,
        )
        save = partial(result.save, output, overwrite, command_line(), formats=exported, outputs=outputs)
        save(progress=run.terminal.progress, field_spacing=field_spacing)
        run.terminal.warn(result.warnings)
        run.terminal.say(_summary(result, output, run.terminal.seconds))
        tell_verdict(run, result.record)
        log_result(run, result.record, output / LOG)
        exit_on(fail_on, result.record.quality)


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
        check_output_folder(output, overwrite, names=registration_names(DEFAULT_OUTPUTS, ()))
        found_model = find_model(model)
        from uresnet.datasets.demo import COLIN27, ICBM152, cache_folder, fetch_brain
        from uresnet.pipeline.progress import Stages

        with Stages(run.terminal.progress)("fetch two brains"):
            moving, fixed = fetch_brain(COLIN27), fetch_brain(ICBM152)
        chosen = run.load_torch(registers=True)
        from uresnet.pipeline.register import register as register_pair

        result = register_pair(moving, fixed, model=found_model, device=chosen, progress=run.terminal.progress)
        result.save(output, overwrite, command_line(), progress=run.terminal.progress)
        say = run.terminal.say
        run.terminal.warn(result.warnings)
        say(f"\nmoving  {COLIN27.what}\nfixed   {ICBM152.what}\n        both kept in {cache_folder()}")
        say(_summary(result, output, run.terminal.seconds))
        tell_verdict(run, result.record)
        say(f"\nOpen {output}/report.html first.\nYour own images: uresnet register MOVING FIXED -o OUT")


def _summary(result: Registration, output: Path, seconds: dict[str, float]) -> str:
    """``seconds``: of the stages, that of writing among them, which the record of the run cannot hold."""
    record, measures = result.record, result.measures
    total = record.seconds["total"] + seconds.get("write", 0.0)
    lines = ["", f"model   {record.model.names} on {record.device}, {total:.1f} s"]
    for name, image in record.inputs.items():
        size = " × ".join(f"{mm:g}" for mm in image.voxel_mm)
        seen = "" if image.contrast is None else f"{image.contrast}; "
        lines.append(
            f"{name:<8}{seen}{image.brain}; {image.brain_mm3 / 1000:.0f} ml, {image.axes}, voxels of {size} mm"
        )
    lines += [
        f"brains  overlap {measures.overlap_before:.3f} before, {measures.overlap_after:.3f} after (Dice of the masks)",
        f"folds   {100 * measures.folding_fraction:.3g} % of the brain; SD log Jacobian {measures.sd_log_jacobian:.3f}",
        f"inverse {measures.inverse_mean_mm:.3f} mm error on average, {measures.inverse_max_mm:.3f} mm at most",
    ]
    if result.scheme is not None:
        lines += ["", f"{'structure':<34}{'moving':>10}{'fixed':>10}  ml"]
        for structure in result.scheme.classes:
            cells = [_volume(result, name, structure.id) for name in ("moving", "fixed")]
            lines.append(f"{structure.name:<34}{cells[0]:>10}{cells[1]:>10}")
    return "\n".join([*lines, "", f"Results in {output}{os.sep}"])


def _volume(result: Registration, name: str, structure: int) -> str:
    """ml of a structure of an image; n/a of abnormal tissue that was not looked for."""
    from uresnet.measures.volumes import known_volume

    assert result.scheme is not None
    contrast = result.record.inputs[name].contrast
    mm3 = known_volume(result.volumes[name], structure, result.scheme, contrast)
    return "n/a" if mm3 is None else f"{mm3 / 1000:.1f}"
