"""The index of many results on one page, doubtful ones first."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from uresnet._version import __version__
from uresnet.core.files import RECORD
from uresnet.core.labels import SCHEMES
from uresnet.errors import UserError, counted
from uresnet.io import read_image, read_labels
from uresnet.quality.verdict import SEVERITY, judge_record
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.html import render
from uresnet.report.pages.registration import PAGE
from uresnet.report.pictures import data_uri, grey
from uresnet.report.slices import PLANES, cut, cut_labels, grey_window, plane_grid, view_of
from uresnet.results.record import Level, RunRecord, read_record
from uresnet.results.record_text import image_name, image_names
from uresnet.results.segmentation import is_segmentation, read_segmented_image
from uresnet.results.signs import PairSigns

THUMBNAIL_PIXELS = 160


@dataclass(frozen=True)
class Card:
    """One result on the index: its folder, its verdict, and a picture (the warped image with the fixed image's
    structures, or the segmented image with its own)."""

    name: str
    names: dict[str, str]
    link: str | None
    level: Level | None
    reasons: list[str]
    notes: tuple[str, ...]
    dice: float | None
    thumbnail: dict[str, Any] | None


def find_outputs(folder: Path) -> list[Path]:
    """The output folders of ``uresnet register`` and ``uresnet segment`` directly or indirectly under a folder, in
    order of their names. Raises :class:`UserError` where there are none.
    """
    images = ("warped.nii.gz", "dseg.nii.gz")
    found = sorted(r.parent for r in folder.rglob(RECORD) if any((r.parent / name).exists() for name in images))
    if not found:
        raise UserError(f"{folder} holds no output folder of uresnet register or segment.")
    return found


def index_page(folder: Path, outputs: list[Path]) -> str:
    """The page that lists ``outputs`` (under ``folder``), worst verdict first, then lowest Dice."""
    cards = sorted((_card(folder, output) for output in outputs), key=_order)
    counts = {level.value: sum(card.level is level for card in cards) for level in reversed(Level)}
    return render(
        "index.html.j2",
        title=f"{counted(len(cards), 'result')} in {folder.resolve().name}",
        cards=cards,
        counts=counts,
        subpixels=SUBPIXELS,
        version=__version__,
    )


def _order(card: Card) -> tuple[int, float, str]:
    severity = 1 if card.level is None else SEVERITY[card.level]
    return (-severity, 1.0 if card.dice is None else card.dice, card.name)


def _card(folder: Path, output: Path) -> Card:
    name = os.path.relpath(output, folder)
    try:
        record = read_record(output)
        verdict = judge_record(record)
        thumbnail = _thumbnail(output, record)
    except UserError as error:
        return Card(name, {}, None, Level.failed, [str(error)], (), None, None)
    page = output / PAGE
    link = quote(os.path.relpath(page, folder)) if page.exists() else None
    signs = record.quality.signs if record.quality is not None else None
    dice = signs.mean_dice if isinstance(signs, PairSigns) else None
    level, reasons, notes = (None, [], ()) if verdict is None else (verdict.level, verdict.reasons, verdict.notes)
    names = {"image": image_name(record)} if is_segmentation(record) else image_names(record)
    return Card(name, names, link, level, reasons, notes, dice, thumbnail)


def _thumbnail(output: Path, record: RunRecord) -> dict[str, Any]:
    """The middle axial slice of the warped or segmented image, and the outlines of the structures in it."""
    if is_segmentation(record):
        warped, labels = read_segmented_image(output).background, output / "dseg.nii.gz"
    else:
        warped, labels = read_image(output / "warped.nii.gz"), output / "fixed_dseg.nii.gz"
    view = view_of(warped)
    longest = float(view.extent_mm[:2].max())
    small = replace(view, pixel_mm=max(view.pixel_mm, longest / THUMBNAIL_PIXELS))
    grid = plane_grid(PLANES[0], small, slices=1)
    scheme = SCHEMES.get(record.model.scheme)
    paths: dict[int, str] = {}
    if scheme is not None and labels.exists():
        paths = structure_paths(cut_labels(read_labels(labels), grid)[0], scheme)
    picture = data_uri(grey(cut(warped, grid)[0], grey_window(warped)), quality=75)
    classes = scheme.classes if scheme is not None else ()
    return {"uri": picture, "width": grid.shape[0], "height": grid.shape[1], "paths": paths, "classes": classes}
