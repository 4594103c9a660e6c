"""Verbs that show results: ``report``, ``figure``, ``view``."""

from __future__ import annotations

import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from uresnet.cli.options import DebugOption, FixedNowOption, MovingNowOption, OverwriteFilesOption, ResultsArgument
from uresnet.cli.session import session
from uresnet.core.files import check_exist


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="The output of uresnet register, segment or train, or a folder with many of the first two.",
            show_default=False,
        ),
    ],
    moving: MovingNowOption = None,
    fixed: FixedNowOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace also a page that uresnet did not write.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Write a page: of a registration or segmentation, of a training with its curves, or an index of many results.

    A page of uresnet that is there already is written again.
    """
    with session(debug=debug):
        check_exist(folder, moving, fixed)
        from uresnet.report.pages import write_pages

        print(write_pages(folder, moving, fixed, overwrite))


def figure(
    folder: ResultsArgument,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="The folder for the figures.", show_default="the results' folder"
        ),
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="png,svg,pdf", help="The file types, separated by commas.")
    ] = "png,svg,pdf",
    width_mm: Annotated[float, typer.Option("--width", min=20, max=1000, help="The width on paper, in mm.")] = 174.0,
    moving: MovingNowOption = None,
    fixed: FixedNowOption = None,
    overwrite: OverwriteFilesOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw a result for print, like Figures 2 and 3 of the paper."""
    with session(debug=debug):
        check_exist(folder, moving, fixed)
        from uresnet.report.figures import write_figures

        for path in write_figures(folder, output or folder, formats.split(","), width_mm, (moving, fixed), overwrite):
            print(path)


def view(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="The output of uresnet register or segment.", show_default=False)
    ],
    fixed: Annotated[
        Path | None,
        typer.Option(
            "--fixed", metavar="FILE", help="The fixed or segmented image, if it is no longer where run.json says."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port of the server; 0 takes a free one.")] = 0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
    debug: DebugOption = False,
) -> None:
    """Show a result in the browser, slice by slice. Only this computer can connect; Ctrl-C ends it."""
    with session(debug=debug):
        check_exist(folder, fixed)
        from uresnet.report.viewer import make_server

        with make_server(folder, port, fixed) as server:
            address = f"http://127.0.0.1:{server.server_address[1]}/"
            print(f"{address}  (Ctrl-C ends it)", flush=True)
            if browser:
                webbrowser.open(address)
            with suppress(KeyboardInterrupt):
                server.serve_forever()
            print()
