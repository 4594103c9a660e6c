"""Verbs on transform files: ``apply``, ``compose``, ``convert``, ``invert``, ``jacobian``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uresnet.cli.combinations import refuse_idle
from uresnet.cli.console import Terminal, of_them
from uresnet.cli.options import (
    FORMATS,
    IMAGE_SUFFIXES,
    POINT_SUFFIXES,
    DebugOption,
    FixedOption,
    FromOption,
    MovingOption,
    OverwriteFilesOption,
    QuietOption,
    ThreadsOption,
)
from uresnet.cli.pipes import is_piped, piped
from uresnet.cli.session import Session, session
from uresnet.core.choices import FormatName, Interpolation
from uresnet.core.files import check_exist, check_output_file, check_output_files, fresh_outputs
from uresnet.core.format_files import FORMAT_FILES, TRANSFORM_SUFFIXES, converted_files
from uresnet.errors import UserError, counted
from uresnet.pipeline.progress import Stages

if TYPE_CHECKING:
    from uresnet.transform import Composite
    from uresnet.transform_files import FileKind, PointTable

TransformArgument = Annotated[Path, typer.Argument(metavar="TRANSFORM", help="A transform file.", show_default=False)]


def apply(
    transforms: Annotated[
        list[Path],
        typer.Argument(metavar="TRANSFORM", help="One or more transform files, in order.", show_default=False),
    ],
    image: Annotated[
        Path,
        typer.Argument(metavar="IMAGE", help="The moving image, its label map, or points.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.", show_default=False)
    ],
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An image whose grid the result takes: the fixed image, or another in its world. For points: the "
            "image that they lie in.",
        ),
    ] = None,
    interpolation: Annotated[
        Interpolation | None,
        typer.Option(
            help="How values between voxels are computed.",
            show_default="label for label maps (NIfTI intent 1002, or whole numbers in patches), else linear",
        ),
    ] = None,
    fill: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="The value outside of IMAGE.",
            show_default="the background of IMAGE: the commonest value at its border",
        ),
    ] = None,
    volumes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.tsv",
            help="For label maps: write the volume of each label before and after.",
            show_default=False,
        ),
    ] = None,
    lps: Annotated[
        bool | None,
        typer.Option(
            "--lps/--ras",
            help="The points are in LPS, as ANTs writes them, or in RAS.",
            show_default="what the file says, else RAS; a table with a column t, as of ANTs, needs one of the two",
        ),
    ] = None,
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    overwrite: OverwriteFilesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Resample an image or a label map, or map points, through one or more transforms.

    The order of several transforms is that of antsApplyTransforms -t A -t B: the first one starts from the fixed image.
    The volumes of a 4D image are resampled one by one. A voxel of a label map gets the label with the largest share.
    Integers stay integers, rounded; scaled integers and fractions become float32.

    Points go the other way than images. transform.h5 resamples the MOVING image onto the FIXED grid, and maps points of
    the FIXED image (world mm, columns x, y, z) to the moving image. For points of the moving image, use
    inverse_transform.h5. A column "inside" is 0 for points outside the deformation, or outside --like if it is given,
    and for points that were 0 in it already, else 1. If the table has no header, this last column has no name. Points
    are read from .csv and .tsv tables with a header that names x, y, z, or with exactly three columns, and from 3D
    Slicer's .fcsv and .mrk.json.

    IMAGE can be - for standard input (NIfTI, MGZ, NRRD or a zip of DICOM files; no points). With --output - the result
    goes to standard output (.nii.gz).
    """
    with (
        session("cpu", threads, quiet or is_piped(output), debug) as run,
        piped(image, output) as (image, output),
    ):
        _check_image(image)
        kept = next((ending for ending in POINT_SUFFIXES if image.name.lower().endswith(ending)), None)
        points = kept is not None
        if points and interpolation is not None:
            raise UserError(f"{image} holds points, which are not interpolated; leave out --interpolation.")
        if points and (fill is not None or volumes is not None):
            raise UserError(
                f"{image} holds points, which have no outside and no volumes; leave out --fill and --volumes."
            )
        if not points and lps is not None:
            raise UserError(f"{image} is an image, whose file says where it lies; leave out --lps and --ras.")
        if not points and like is None:
            raise UserError("The grid of the result is missing; give the fixed image with --like FIXED.")
        inputs = [*transforms, image, like, moving, fixed]
        check_output_file(
            output, tuple(dict.fromkeys((kept, ".csv", ".tsv"))) if kept else IMAGE_SUFFIXES, inputs, overwrite
        )
        files = [output, volumes] if volumes is not None else [output]
        if volumes is not None:
            check_output_file(volumes, (".tsv",), inputs, overwrite)
        check_exist(*inputs)
        run.load_torch()
        kind, stages = _file_kind(format, moving, fixed), _stages(run)
        if like is None or points:
            from uresnet.transform_files import apply_to_points, write_points

            table = apply_to_points(transforms, image, lps, kind, like)
            with fresh_outputs(files, overwrite) as (place,):
                write_points(table, place)
            _report_points(
                table, output, "the deformation" if like is None else f"the deformation or {like}", run.terminal
            )
            return
        from uresnet.transform_files import apply_transform

        with stages("read"):
            result = apply_transform(transforms, image, like, interpolation, kind, fill)
        with stages("resample"), fresh_outputs(files, overwrite) as places:
            result.write(*places)
        hint = "" if interpolation else "; --interpolation changes it"
        outside = f", {result.job.outside:g} outside" if result.job.outside else ""
        run.terminal.say(
            f"interpolation {result.interpolation} ({result.reason}{hint}), {result.job.dtype}{outside} → {output}"
        )


_TRANSFORM_ALONE = (".h5", ".hdf5", ".hdf", ".mat", ".txt", ".tfm", ".lta", ".m3z", ".xfm")


def _check_image(image: Path) -> None:
    """Raises :class:`UserError` for a transform in the place of the image: arguments that are swapped."""
    if image.name.lower().endswith(_TRANSFORM_ALONE):
        raise UserError(
            f"{image} is a transform by its name, and stands where the image belongs; transforms come first: uresnet "
            "apply TRANSFORM IMAGE."
        )


def _stages(run: Session) -> Stages:
    """Stages that are reported where they take long."""

    def progress(stage: str, seconds: float | None) -> None:
        if seconds is None:
            run.terminal.begin(stage)
        elif seconds >= _LONG_S:
            run.terminal.progress(stage, seconds)

    return Stages(progress)


_LONG_S = 1.0


def _report_points(table: PointTable, output: Path, known: str, terminal: Terminal) -> None:
    """``known``: what points are inside of, in words."""
    assert table.inside is not None
    outside = [str(n) for n, inside in enumerate(table.inside, start=1) if not inside]
    column = "column inside" if table.header else "the last column"
    meaning = f"{column}: 1 inside, 0 outside"
    if output.name.lower().endswith((".fcsv", ".mrk.json")):
        column = meaning = "the descriptions of points"
    if outside:
        first = ", ".join(outside[:10]) + (", …" if len(outside) > 10 else "")
        terminal.warn(
            [
                f"{of_them(len(outside), len(table.points), 'point')} outside {known} (point {first}). Outside a "
                f"deformation only the affine parts move points; see {column}."
            ]
        )
    mapped = counted(len(table.points), "point")
    system = "LPS" if table.lps else "RAS"
    terminal.say(f"{mapped} ({system}) of the fixed image → moving image: {output} ({meaning})")


def _file_kind(format: FormatName | None, moving: Path | None, fixed: Path | None) -> FileKind | None:
    """What the command line says about transform files."""
    if format is None and moving is None and fixed is None:
        return None
    from uresnet.io import read_grid
    from uresnet.transform_files import FileKind

    grids = {name: read_grid(path) for name, path in (("fixed", fixed), ("moving", moving)) if path is not None}
    return FileKind(format, grids.get("fixed"), grids.get("moving"))


def compose(
    transforms: Annotated[
        list[Path],
        typer.Argument(metavar="TRANSFORM", help="Two or more transform files, in order.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The transform to write.", show_default=False)
    ],
    like: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An image whose grid a dense warp (.nii.gz) takes.")
    ] = None,
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    overwrite: OverwriteFilesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Compose transforms into one file.

    The order A B is that of antsApplyTransforms -t A -t B: a point of the fixed image goes through A first, then
    through B. If A resamples X onto FIXED, and B resamples MOVING onto X, the result resamples MOVING onto FIXED.
    """
    with session("cpu", threads, quiet, debug) as run:
        if len(transforms) < 2:
            raise UserError(f"{transforms[0]} is one transform; give two or more. To convert one: uresnet convert.")
        inputs = (*transforms, like, moving, fixed)
        check_output_file(output, TRANSFORM_SUFFIXES, inputs, overwrite)
        if output.name.lower().endswith((".h5", *FORMAT_FILES["itk"].affine)):
            refuse_idle(f"an output {output.suffix}, which has no grid", {"--like": like is not None})
        check_exist(*inputs)
        run.load_torch()
        from uresnet.io import read_grid
        from uresnet.transform_files import read_chain, write_transform

        kind = _file_kind(format, moving, fixed)
        chain = read_chain(transforms, kind).simplified()
        grid = read_grid(like) if like is not None else (kind.fixed if kind else None)
        dense = output.name.lower().endswith((".nii", ".nii.gz"))
        with _stages(run)("write"), fresh_outputs([output], overwrite) as (place,):
            write_transform(chain, place, "nifti" if dense else None, grid, kind.moving if kind else None)
        held = "one displacement for each voxel" if dense or output.name.lower().endswith(".mgz") else _in_words(chain)
        run.terminal.say(f"{counted(len(transforms), 'transform')} → {output} ({held})")


def _in_words(chain: Composite) -> str:
    """``1 affine, 2 deformations``: what a composition is made of, once neighbouring affines are one."""
    from uresnet.transform import Affine

    affines = sum(isinstance(part, Affine) for part in chain.parts)
    counts = ((affines, "affine"), (len(chain.parts) - affines, "deformation"))
    return ", ".join(counted(count, noun) for count, noun in counts if count)


def convert(
    transform: Annotated[
        Path, typer.Argument(metavar="TRANSFORM", help="A transform file of any program.", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|PREFIX|FOLDER",
            help="The file to write, or, without an ending, the beginning of the names of several files, or a folder "
            "that exists.",
            show_default=False,
        ),
    ],
    to: Annotated[
        FormatName,
        typer.Option("--to", metavar="FORMAT", help=f"The format to write: {FORMATS}.", show_default=False),
    ],
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    overwrite: OverwriteFilesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Convert a transform for another program, and print how exact the result is.

    With an ending, the output is one file: .h5 .nii.gz .mat .txt .tfm (itk, ants), .nii.gz .mat .txt (fsl: FNIRT-style
    warps, FLIRT; greedy: LPS mm, plain matrices), .mgz .lta (freesurfer), .nii.gz (nifti: LPS mm; learn2reg: voxels).
    .mat, .txt, .tfm and .lta hold affines only.

    Without an ending, all files of the format are written, with the inverse, and their names begin with the output: -o
    out/s01_ writes out/s01_0GenericAffine.mat; in a folder, -o out, they have plain names. With --overwrite, files of
    the format that an earlier conversion wrote under such names and this one does not write are removed.
    """
    with session("cpu", threads, quiet, debug) as run:
        inputs = (transform, moving, fixed)
        check_output_files(converted_files(output, to), overwrite, inputs)
        check_exist(*inputs)
        run.load_torch()
        from uresnet.transform_files import convert_transform

        kind = _file_kind(format, moving, fixed)
        written = convert_transform(transform, output, to, kind, overwrite, _stages(run))
        for file, exactness in written.items():
            run.terminal.say(f"{file}   {exactness}")


def invert(
    transform: TransformArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The transform to write: .h5, or for an affine .mat, .txt or .tfm. uresnet convert writes others.",
            show_default=False,
        ),
    ],
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    overwrite: OverwriteFilesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Invert a transform, and print how exact the inverse is."""
    with session("cpu", threads, quiet, debug) as run:
        inputs = (transform, moving, fixed)
        check_output_file(output, (".h5", ".mat", ".txt", ".tfm"), inputs, overwrite)
        check_exist(*inputs)
        run.load_torch()
        from uresnet.transform_files import check_holds, read_chain, write_transform

        stages = _stages(run)
        chain = read_chain(transform, _file_kind(format, moving, fixed))
        check_holds(output, chain)
        with stages("invert"):
            inverse = chain.inverse()
        with stages("write"), fresh_outputs([output], overwrite) as (place,):
            write_transform(inverse, place)
        run.terminal.say(f"inverse {inverse.residual or 'exact'} → {output}")


def jacobian(
    transform: TransformArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The image to write.", show_default=False)
    ],
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="An image whose grid the result takes.", show_default="the grid of the deformation"
        ),
    ] = None,
    log: Annotated[
        bool,
        typer.Option("--log", help="Write the natural logarithm: 0 where nothing grows or shrinks, -20.7 at folds."),
    ] = False,
    format: FromOption = None,
    moving: MovingOption = None,
    fixed: FixedOption = None,
    threads: ThreadsOption = None,
    overwrite: OverwriteFilesOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write the Jacobian determinant of a transform: above 1 where tissue is larger in the moving image."""
    with session("cpu", threads, quiet, debug) as run:
        inputs = (transform, like, moving, fixed)
        check_output_file(output, IMAGE_SUFFIXES, inputs, overwrite)
        check_exist(*inputs)
        run.load_torch()
        from uresnet.io import write_image
        from uresnet.transform_files import jacobian_of

        determinant, folded = jacobian_of(transform, like, log, _file_kind(format, moving, fixed))
        with fresh_outputs([output], overwrite) as (place,):
            write_image(determinant, place)
        run.terminal.say(f"{100 * folded:.3g} % of the voxels fold → {output}")
