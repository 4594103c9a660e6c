"""Which page a folder gets: a registration's, a training's, or the index of many."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from uresnet.core.files import RECORD, write_text
from uresnet.core.training_files import STEPS
from uresnet.errors import UserError
from uresnet.report.pages.index import find_outputs, index_page
from uresnet.report.pages.registration import PAGE, registration_page
from uresnet.report.pages.segmentation import segmentation_page
from uresnet.report.pages.training import training_page
from uresnet.results.record import read_record, record_path
from uresnet.results.registration import read_registered_pair
from uresnet.results.segmentation import is_segmentation, read_segmented_image

INDEX = "index.html"


_OURS = b'<meta name="generator" content="uresnet'


def write_pages(folder: Path, moving: Path | None = None, fixed: Path | None = None, overwrite: bool = False) -> Path:
    """Write the page of ``folder`` into it and return its path.

    An output folder of ``register`` or ``segment`` gets its report, a folder of a training its curves, and any other an
    index of the results under it, which get their own reports where they have none. ``folder`` can also be a label map
    that ``segment`` wrote. Raises :class:`UserError` for what holds none of these, and, without ``overwrite``, for a
    page there that is not of uresnet.
    """
    record = record_path(folder)
    if not folder.is_dir() and not record.exists():
        raise UserError(f"{folder} is not a folder; give the output of uresnet register, segment or train.")
    is_result, is_training = record.exists(), (folder / STEPS).exists()
    if not is_result and (moving or fixed):
        raise UserError(f"{folder} holds no single result; leave --moving and --fixed out.")
    page = _page_of(record) if is_result else folder / (PAGE if is_training else INDEX)
    if not overwrite:
        _check_ours(page)
    if is_result:
        write_text(_report(folder, moving, fixed), page)
        return page
    if is_training:
        write_text(training_page(folder), page)
        return page
    outputs = find_outputs(folder)
    for output in outputs:
        if not (output / PAGE).exists():
            with suppress(UserError):  # the index says what is wrong
                write_text(_report(output), output / PAGE)
    write_text(index_page(folder, outputs), page)
    return page


def _page_of(record: Path) -> Path:
    """The page beside a record: ``report.html``, or ``NAME_report.html`` beside ``NAME_run.json``."""
    return record.with_name(record.name.removesuffix(RECORD) + PAGE)


def _report(place: Path, moving: Path | None = None, fixed: Path | None = None) -> str:
    """The page of one result; the image that was segmented may be either."""
    if is_segmentation(read_record(place)):
        if moving and fixed:
            raise UserError(f"{place} is of one image; give either --moving or --fixed.")
        return segmentation_page(read_segmented_image(place, fixed or moving))
    return registration_page(read_registered_pair(place, moving, fixed))


def _check_ours(page: Path) -> None:
    """Raises :class:`UserError` where there is a file that no command of uresnet wrote."""
    if not os.path.lexists(page):
        return
    try:
        with page.open("rb") as file:
            ours = _OURS in file.read(4096)
    except OSError:
        ours = False
    if not ours:
        raise UserError(
            f"{page} exists already, and is no page that uresnet wrote; move it away, or replace it with --overwrite."
        )
