"""The options that several verbs share, and the endings of the files that verbs write."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from uresnet.core.choices import BrainMethod, ExtraName, FailOn, FormatName, Freedom, OutputName

IMAGE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
FORMATS = ", ".join(get_args(FormatName))
POINT_SUFFIXES = (".csv", ".tsv", ".fcsv", ".mrk.json")

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A packaged model (see uresnet info), or a .safetensors or .hdf5 file. auto: the default model for "
        "T1-weighted images, the models any and default together for others and for thick slices; masses of 1 ml and "
        "more are looked for in all images, lesions of the white matter in FLAIR images, and large ones in the others.",
        show_default="auto",
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|mps",
        help="Where the network runs. auto: a CUDA GPU if there is one, else the CPU.",
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="The number of CPU threads.", show_default="all cores")
]
FreedomOption = Annotated[
    Freedom | None,
    typer.Option(
        "--transform",
        help="What the registration may change: affine and deformation (joint), or one of them.",
        show_default="joint",
    ),
]
ExactOption = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Compute the reference on the CPU, which takes several times as long: without what is faster and gives "
        "almost the same numbers, and with all digits in the files.",
        show_default="off",
    ),
]
BrainOption = Annotated[
    BrainMethod,
    typer.Option(help="auto: remove the skull if there is one. none: the images contain nothing but brain."),
]
FromOption = Annotated[
    FormatName | None,
    typer.Option(
        "--from",
        metavar="FORMAT",
        help=f"The format of the transform files: {FORMATS}. Bare 4×4 matrices and Learn2Reg fields need it.",
        show_default="what the files say",
    ),
]
MovingOption = Annotated[
    Path | None, typer.Option("--moving", metavar="FILE", help="The moving image, for formats that need its grid.")
]
FixedOption = Annotated[
    Path | None, typer.Option("--fixed", metavar="FILE", help="The fixed image, for formats that need its grid.")
]
MovingNowOption = Annotated[
    Path | None,
    typer.Option("--moving", metavar="FILE", help="The moving image, if it is no longer where run.json says."),
]
FixedNowOption = Annotated[
    Path | None,
    typer.Option("--fixed", metavar="FILE", help="The fixed image, if it is no longer where run.json says."),
]
ResultsArgument = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="An output folder of uresnet register.", show_default=False)
]
OutputFolderOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="The folder for the results.", show_default=False)
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace the results of an earlier run in the same folder.")
]
OverwriteFilesOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace what exists under the names of the files to write.")
]
ReportOption = Annotated[
    bool | None,
    typer.Option(
        "--report/--no-report", help="Write report.html, a page that shows the results.", show_default="--report"
    ),
]
OutputsOption = Annotated[
    str | None,
    typer.Option(
        "--outputs",
        metavar="NAME,...",
        help=f"What to write, separated by commas: {', '.join(get_args(OutputName))}. run.json is always written.",
        show_default="all but mask and stripped",
    ),
]
SpacingOption = Annotated[
    float | None,
    typer.Option(
        "--field-spacing",
        metavar="MM",
        min=0.3,
        max=8,
        help="Voxels of the displacements in transform.h5 and its inverse. 1.0 makes these files a third as large, and "
        "the inverse is then off by 0.03 mm instead of 0.008 mm on average.",
        show_default="as computed, 0.7",
    ),
]
MaskOption = Annotated[bool, typer.Option("--mask", help="Write the brain mask too.", show_default="off")]
StrippedOption = Annotated[
    bool,
    typer.Option("--stripped", help="Write the image without what lies outside the brain too.", show_default="off"),
]
FailOnOption = Annotated[
    FailOn | None,
    typer.Option(
        help="End with exit code 3, after everything is written, when the verdict is this one or a worse one.",
        show_default="exit code 0 whatever the verdict",
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print only warnings, errors and a verdict below good.")
]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Print the details that are also in log.txt beside the results.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Print the traceback of an unexpected error.")]


def extras_of(mask: bool, stripped: bool) -> tuple[ExtraName, ...]:
    """What ``--mask`` and ``--stripped`` ask for."""
    wanted: dict[ExtraName, bool] = {"mask": mask, "stripped": stripped}
    return tuple(name for name, asked in wanted.items() if asked)
