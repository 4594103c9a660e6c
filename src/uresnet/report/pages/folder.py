"""Which page a folder gets: a registration's, a training's, or the index of many."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from uresnet.core.files import RECORD, write_text
from uresnet.errors import UserError
from uresnet.report.pages.index import find_outputs, index_page
from uresnet.report.pages.registration import PAGE, registration_page
from uresnet.report.pages.training import STEPS, training_page
from uresnet.results.registration import read_registered_pair

INDEX = "index.html"


def write_pages(folder: Path, moving: Path | None = None, fixed: Path | None = None) -> Path:
    """Write the page of ``folder`` into it and return its path.

    An output folder of ``register`` gets its report, a folder of a training its curves, and any other an index of the
    registrations under it, which get their own reports where they have none. Raises :class:`UserError` for a folder
    that holds none of these.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the output folder of uresnet register or of uresnet train.")
    if (folder / RECORD).exists():
        page = folder / PAGE
        write_text(registration_page(read_registered_pair(folder, moving, fixed)), page)
        return page
    if (folder / STEPS).exists():
        page = folder / PAGE
        write_text(training_page(folder), page)
        return page
    outputs = find_outputs(folder)
    for output in outputs:
        if not (output / PAGE).exists():
            with suppress(UserError):  # the index says what is wrong
                write_text(registration_page(read_registered_pair(output)), output / PAGE)
    write_text(index_page(folder, outputs), folder / INDEX)
    return folder / INDEX
