"""The verb that segments images one by one: ``segment``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.combinations import check_masked, refuse_idle
from uresnet.cli.options import (
    BrainOption,
    DebugOption,
    DeviceOption,
    ExactOption,
    FailOnOption,
    MaskOption,
    ModelOption,
    QuietOption,
    StrippedOption,
    ThreadsOption,
    VerboseOption,
    extras_of,
)
from uresnet.cli.outcome import command_line, exit_on, log_result, model_file, tell_verdict
from uresnet.cli.pipes import is_piped, piped
from uresnet.cli.session import Session, fail, session
from uresnet.core.choices import BrainMethod, SegmentationExtra
from uresnet.core.exact import exact_device
from uresnet.core.files import check_exist, check_output_files, check_output_folder
from uresnet.errors import UserError, quoted
from uresnet.model.catalogue import ModelFile, check_segments, find_model
from uresnet.pipeline.names import distinct_names, is_label_file, segmentation_files

if TYPE_CHECKING:
    from uresnet.model.checkpoint import Model
    from uresnet.results.record import Quality


@dataclass(frozen=True)
class _Request:
    """What the command line asks for, the same for every image."""

    model: ModelFile
    brain: BrainMethod
    mask: Path | None
    lesion: Path | None
    report: bool
    overwrite: bool
    extras: tuple[SegmentationExtra, ...]
    named: bool
    piped: bool
    exact: bool


def segment(
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="The image to segment, or several.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER|FILE",
            help="The folder for the results, or the label map to write (.nii.gz, .mgz); it is made.",
            show_default=False,
        ),
    ],
    model: ModelOption = None,
    brain: BrainOption = "auto",
    brain_mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A brain mask of the image, to use instead of searching.")
    ] = None,
    lesion: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A mask of abnormal tissue of the image, to use in addition.")
    ] = None,
    mask: MaskOption = False,
    stripped: StrippedOption = False,
    synthesise: Annotated[
        bool,
        typer.Option(
            "--synthesise",
            help="Write what the image would look like T1-weighted too, with its page.",
            show_default="off",
        ),
    ] = False,
    exact: ExactOption = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    report: Annotated[
        bool | None,
        typer.Option("--report/--no-report", help="Write a page that shows the result.", show_default="--report"),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the results of an earlier run.", show_default="off")
    ] = False,
    fail_on: FailOnOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    debug: DebugOption = False,
) -> None:
    """Segment brain images, each on its own grid.

    The values of the label map are FreeSurfer ids. Beside it the command writes tables of names and colours for BIDS,
    Freeview, 3D Slicer and ITK-SNAP, the volumes in mm³, the record of the run with its verdict, and a page that shows
    the result. Several images get a folder each, named after them, inside FOLDER. Where -o names a FILE, the files
    beside it are named after it.

    IMAGE can be - for standard input (NIfTI, MGZ, NRRD or a zip of DICOM files). With --output - the label map alone
    goes to standard output (.nii.gz).
    """
    to_pipe = is_piped(output)
    with session(device, threads, quiet or to_pipe, debug, verbose and not to_pipe) as run:
        check_masked(brain, brain_mask)
        if to_pipe:
            added = {"--mask": mask, "--stripped": stripped, "--synthesise": synthesise, "--report": report is True}
            refuse_idle("--output -, which writes a label map alone", added | {"--verbose": verbose})
        page = report is not False and not to_pipe
        if exact:
            exact_device(device)
        single = len(images) == 1
        with piped(images[0], output) if single else nullcontext((images[0], output)) as (first, output):
            listed = [first] if single else images
            places = _places(listed, output, brain_mask or lesion)
            inputs = (*listed, brain_mask, lesion, model_file(model))
            extras = (*extras_of(mask, stripped), *(("t1",) if synthesise else ()))
            for place in places:
                _check_place(place, page, overwrite, inputs, extras)
            model_found = find_model(model)
            check_segments(model_found.card)
            request = _Request(
                model_found, brain, brain_mask, lesion, page, overwrite, extras, not single, to_pipe, exact
            )
            check_exist(*listed, brain_mask, lesion)
            qualities = _segment_all(run, listed, places, request)
        exit_on(fail_on, *qualities)


def _places(images: Sequence[Path], output: Path, mask: Path | None) -> list[Path]:
    """Where each image's results go."""
    if len(images) == 1:
        return [output]
    if is_label_file(output):
        raise UserError(
            f"{len(images)} images need a folder with -o, not the file {output}; a brain mask goes with --brain-mask."
        )
    if mask is not None:
        raise UserError("--brain-mask and --lesion belong to one image; segment one image at a time with them.")
    if any(is_piped(image) for image in images):
        raise UserError("- stands for one image; give it alone.")
    return [output / name for name in distinct_names(images)]


def _check_place(
    place: Path, report: bool, overwrite: bool, inputs: Sequence[Path | None], extras: Sequence[SegmentationExtra]
) -> None:
    files = list(segmentation_files(place, report, extras).values())
    if is_label_file(place):
        check_output_files(files, overwrite, inputs, makes_folder=True)
    else:
        check_output_folder(place, overwrite, inputs, [file.name for file in files])


def _segment_all(
    run: Session, images: Sequence[Path], places: Sequence[Path], request: _Request
) -> list[Quality | None]:
    """Writes the files of each image and returns the verdicts. An image that cannot be used costs only itself; then
    the command ends with exit code 2."""
    device = run.load_torch()
    from uresnet.model.checkpoint import load_model

    network, failed = load_model(request.model), 0
    qualities: list[Quality | None] = []
    for number, (image, place) in enumerate(zip(images, places, strict=True), start=1):
        if len(images) > 1:
            run.terminal.note(f"{image} ({number} of {len(images)})")
        try:
            qualities.append(_segment_one(run, network, device, image, place, request))
        except UserError as error:
            if len(images) == 1:
                raise
            failed += 1
            run.terminal.alert(f"error: {quoted(error, len(str(error)))}")
            run.terminal.transcript.clear()
    if failed:
        fail(f"{failed} of {len(images)} images could not be segmented.", 2)
    if len(images) > 1:
        run.terminal.say(
            f"\nResults in {places[0].parent}{os.sep}; see them all with: uresnet report {places[0].parent}"
        )
    return qualities


def _segment_one(
    run: Session, network: Model, device: str, image: Path, place: Path, request: _Request
) -> Quality | None:
    run.terminal.begin("load libraries")
    from uresnet.core.labels import ABNORMAL
    from uresnet.pipeline.segment import segment as segment_image
    from uresnet.quality.verdict import told_abnormal_ml

    result = segment_image(
        image,
        model=network,
        brain=request.brain,
        mask=request.mask,
        lesion=request.lesion,
        synthesise="t1" in request.extras,
        exact=request.exact,
        device="cpu" if request.exact else device,
        progress=run.terminal.progress,
    )
    result.save(place, request.report, run.terminal.progress, request.overwrite, command_line(), extras=request.extras)
    run.terminal.warn(result.warnings)
    anatomy = [volume for structure, volume in result.volumes.items() if structure not in ABNORMAL]
    abnormal = _abnormal(result.volumes, told_abnormal_ml(result.record))
    contrast = result.record.inputs["image"].contrast
    seen = "" if contrast is None else f"{contrast}; "
    run.terminal.say(
        f"{seen}model {result.record.model.names}; "
        f"{sum(map(bool, anatomy))} of {len(anatomy)} structures found{abnormal} → {place}"
    )
    tell_verdict(run, result.record, str(image) if request.named else "")
    if not request.piped:
        log_result(run, result.record, segmentation_files(place, False)["log"])
    return result.record.quality


def _abnormal(volumes: Mapping[int, float], told_ml: float) -> str:
    """All abnormal tissue and the ids that it has in the label file, by the ``volumes`` in mm³, where some of it is
    worth a word."""
    from uresnet.core.labels import ABNORMAL

    if not told_ml:
        return ""
    ids = sorted(structure for structure in ABNORMAL if volumes.get(structure))
    millilitres = sum(volumes[structure] for structure in ids) / 1000
    return f", {millilitres:.1f} ml of abnormal tissue ({'id' if len(ids) == 1 else 'ids'} {', '.join(map(str, ids))})"
