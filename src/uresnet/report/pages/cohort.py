"""The pages of a cohort: an index that can be sorted, and the structures that are unusual in it."""

from __future__ import annotations

import base64
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from uresnet._version import __version__
from uresnet.core.image import Image
from uresnet.core.labels import FREESURFER, LabelClass, LabelScheme
from uresnet.errors import UserError, counted, held_warnings
from uresnet.io import read_image, read_labels
from uresnet.quality.verdict import SEVERITY
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.html import render
from uresnet.report.pages.registration import PAGE
from uresnet.report.pictures import data_uri, grey
from uresnet.report.slices import PLANES, View, cut, cut_labels, grey_window, plane_grid, view_of
from uresnet.results.record import RunRecord
from uresnet.results.record_text import plain_warnings
from uresnet.results.signs import PairSigns

THUMBNAIL_PIXELS = 64
_WINDOW_MM = 90.0  # of an outlier's picture


@dataclass(frozen=True)
class CohortRow:
    """One job on the index: ``level`` is its verdict, "" where there is no result; ``error`` says why, or what is lost
    of it; ``warnings`` are sentences."""

    id: str
    level: str
    reasons: tuple[str, ...] = ()
    error: str = ""
    dice: float | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    thumbnail: str = ""

    @classmethod
    def of(cls, name: str, record: RunRecord | None, error: str) -> CohortRow:
        if record is None:
            return cls(name, "", error=error)
        quality = record.quality
        dice = quality.signs.mean_dice if quality is not None and isinstance(quality.signs, PairSigns) else None
        return cls(
            name,
            "no verdict" if quality is None else quality.verdict.value,
            () if quality is None else quality.reasons,
            error,
            dice,
            record.seconds.get("total"),
            tuple(plain_warnings(record)),
        )

    def with_thumbnail(self, uri: str) -> CohortRow:
        return replace(self, thumbnail=uri)

    @property
    def order(self) -> tuple[int, float, str]:
        """The gravest first."""
        severity = 3 if not self.level else next((SEVERITY[k] for k in SEVERITY if k.value == self.level), 1)
        return -severity, 1.0 if self.dice is None else self.dice, self.id


@dataclass(frozen=True)
class Outlier:
    """A structure of an image (``role`` in the result ``id``) whose volume is unusual.

    ``usual_mm3`` is what the cohort's median share of the intracranial volume gives, ``z`` the robust z of the share.
    ``labels`` is the name of the label map.
    """

    id: str
    role: str
    path: str
    labels: str
    structure: int
    name: str
    mm3: float
    usual_mm3: float
    z: float


class Thumbnails:
    """Small pictures of results, kept in the ``store`` so that each is drawn once."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder, self.store = folder, store

    def of(self, name: str, record: RunRecord) -> str:
        """A data URI, empty where there is nothing to draw."""
        kept = self.store / f"{record.key or record.finished}.webp"
        with suppress(OSError):
            if content := kept.read_bytes():
                return "data:image/webp;base64," + base64.b64encode(content).decode("ascii")
        source = self.folder / name / "warped.nii.gz"
        try:
            with held_warnings([]):  # the record has them
                uri = _thumbnail(read_image(source if source.is_file() else next(iter(record.inputs.values())).path))
        except UserError:
            return ""
        with suppress(OSError, UserError):
            self.store.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(base64.b64decode(uri.partition(",")[2]))
        return uri


def cohort_page(folder: Path, rows: Sequence[CohortRow], outliers: int) -> str:
    """The index: a row for each result, the gravest first, sorted anew by a click on a column's head."""
    ordered = sorted(rows, key=lambda row: row.order)
    levels = ["did not run" if not row.level else row.level for row in ordered]
    links = [_link(folder, row.id) for row in ordered]
    return render(
        "cohort.html.j2",
        title=f"{counted(len(rows), 'result')} in {folder.resolve().name}",
        rows=list(zip(ordered, levels, links, strict=True)),
        counts={level: levels.count(level) for level in dict.fromkeys(levels)},
        outliers=outliers,
        size=THUMBNAIL_PIXELS,
        version=__version__,
    )


def outliers_page(folder: Path, outliers: Sequence[Outlier], total: int, images: int, fewest: int) -> str:
    """Pictures of unusual structures, each with its outline; among less than ``fewest`` images none is called so."""
    read: dict[str, Any] = {}
    cards = [(outlier, _picture(folder, outlier, read), _link(folder, outlier.id)) for outlier in outliers]
    return render(
        "outliers.html.j2",
        title=f"Unusual structures in {folder.resolve().name}",
        cards=cards,
        total=total,
        images=images,
        fewest=fewest,
        subpixels=SUBPIXELS,
        version=__version__,
    )


def _link(folder: Path, name: str) -> str | None:
    """To the page of a result, or to its folder where it has none."""
    places = (folder / name / PAGE, folder / name)
    return next((quote(os.path.relpath(place, folder)) for place in places if place.exists()), None)


def _thumbnail(image: Image) -> str:
    view = view_of(image)
    small = replace(view, pixel_mm=max(view.pixel_mm, float(view.extent_mm[:2].max()) / THUMBNAIL_PIXELS))
    grid = plane_grid(PLANES[0], small, slices=1)
    return data_uri(grey(cut(image, grid)[0], grey_window(image)), quality=60)


def _picture(folder: Path, outlier: Outlier, read: dict[str, Any]) -> dict[str, Any] | None:
    """The coronal slice through the middle of the structure; where there is none of it, through that of the image."""
    try:
        if outlier.path not in read:
            read.clear()  # outliers of one image do not stand together, and a cohort does not fit into memory
            with held_warnings([]):
                read[outlier.path] = read_image(outlier.path), read_labels(folder / outlier.id / outlier.labels)
        image, labels = read[outlier.path]
    except UserError:
        return None
    where = (labels.data == outlier.structure).nonzero().numpy()
    middle = labels.grid.points_to_world(where.mean(axis=0)) if len(where) else view_of(image).centre_mm
    pixel = max(0.5, float(image.grid.zooms.min()))
    grid = plane_grid(PLANES[1], View(middle, np.full(3, _WINDOW_MM), pixel), slices=1)
    structure = FREESURFER[outlier.structure]
    alone = LabelScheme("one", (LabelClass(structure.name, structure.abbreviation, (structure.id,)),))
    return {
        "uri": data_uri(grey(cut(image, grid)[0], grey_window(image)), quality=75),
        "width": grid.shape[0],
        "height": grid.shape[1],
        "paths": structure_paths(cut_labels(labels, grid)[0], alone),
        "classes": alone.classes,
    }
