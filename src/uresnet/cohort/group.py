"""What a cohort says together: volumes over all images, which of them are unusual here, and pages that show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from uresnet.cohort.jobs import HIDDEN, named
from uresnet.cohort.manifest import LINES, Manifest
from uresnet.cohort.results import Found, look_into
from uresnet.core.files import write_text
from uresnet.core.labels import SCHEMES, tabulated
from uresnet.errors import UserError, counted
from uresnet.quality.verdict import SEVERITY
from uresnet.report.pages.cohort import CohortRow, Outlier, Thumbnails, cohort_page, outliers_page
from uresnet.results.record import Level, RunRecord

LONG, WIDE, OUTLIERS = "volumes_long.tsv", "volumes_wide.tsv", "outliers.tsv"
PAGES = ("index.html", "outliers.html")

UNUSUAL = 3.5
"""The robust z (deviation from the median, in units of 1.4826 times the median absolute deviation) of an outlier:
Iglewicz and Hoaglin's bound."""

FEWEST = 8
"""Images below which nothing is called unusual."""

_SHOWN = 200  # outliers on the page; the table has all


@dataclass(frozen=True)
class Measured:
    """An image whose structures were measured by a ``model``: in the result ``id`` it was the ``role`` ("moving",
    "fixed", "image"). ``volumes`` are mm³ by FreeSurfer id, None where a structure was not looked for; ``intracranial``
    is mm³ or None; ``predicted`` is the predicted Dice of structures, by name."""

    id: str
    role: str
    path: str
    verdict: str
    intracranial: float | None
    volumes: Mapping[int, float | None]
    predicted: Mapping[str, float] = field(default_factory=dict)
    model: str = ""

    @property
    def labels(self) -> str:
        """The name of its label map in the folder of the result."""
        return "dseg.nii.gz" if self.role == "image" else f"{self.role}_dseg.nii.gz"


def write_group(folder: Path) -> tuple[list[Path], list[str]]:
    """Write the tables and pages of a cohort into its folder; returns their paths, and what is wrong with results that
    were done, or has changed in them: sentences.

    What failed or was left undone is listed, and not measured. Raises :class:`UserError` for a folder that holds no
    cohort.
    """
    if not (folder / LINES).is_file():
        raise UserError(f"{folder} holds no cohort (there is no {LINES}); give the output folder of uresnet cohort.")
    measured: dict[tuple[str, str], Measured] = {}
    names: dict[int, str] = {}
    rows: list[CohortRow] = []
    thumbnails = Thumbnails(folder, folder / HIDDEN / "thumbnails")
    outcomes, lost, unmeasured = Manifest(folder).outcomes(), dict[str, str](), 0
    edited = dict[str, str]()
    for outcome in (outcomes[name] for name in sorted(outcomes)):  # they ended in any order
        there = look_into(folder / outcome.id) if outcome.state == "done" else Found(None)
        if there.record is not None and outcome.key and there.record.key != outcome.key:
            there = Found(None, "its folder holds another result")
        record, gone, found_here = there.record, there.lost, _measured(outcome.id, there)
        if there.edited:
            edited[outcome.id] = ", ".join(there.edited)
        if gone:
            lost[outcome.id] = gone
            unmeasured += not found_here
        again = f"Not whole any longer ({gone}); run the cohort again." if gone else ""
        rows.append(CohortRow.of(outcome.id, record, outcome.error or again))
        if record is None:
            continue
        rows[-1] = rows[-1].with_thumbnail(thumbnails.of(outcome.id, record))
        names |= _names(record)
        for found in found_here:
            # The fixed image of many pairs is one image, which is no worse than the best of them.
            known = measured.get((found.path, found.model))
            if known is None or _severity(found) < _severity(known):
                measured[found.path, found.model] = found
    images = list(measured.values())
    alike = [[image for image in images if image.model == model] for model in sorted({i.model for i in images})]
    outliers = sorted((o for some in alike for o in find_outliers(some, names)), key=lambda outlier: -abs(outlier.z))
    texts = {
        LONG: _long(images, names),
        WIDE: _wide(images, names),
        OUTLIERS: _outliers_table(outliers),
        "outliers.html": outliers_page(folder, outliers[:_SHOWN], len(outliers), len(images), FEWEST),
        "index.html": cohort_page(folder, rows, len(outliers)),
    }
    for name, text in texts.items():
        write_text(text, folder / name)
    done = sum(outcome.state == "done" for outcome in outcomes.values())
    said = [_lost_sentence(lost, unmeasured, done)] if lost else []
    if edited:
        said.append(
            f"The tables have the volumes of what was written, not of label maps that were changed since: "
            f"{named(list(edited), edited)}."
        )
    return [folder / name for name in texts], said


def _lost_sentence(lost: Mapping[str, str], unmeasured: int, done: int) -> str:
    some = f"{len(lost)} of {counted(done, 'result')} {'is' if len(lost) == 1 else 'are'} not whole any longer"
    what = f"{some}: {named(list(lost), lost)}"
    tables = f"; the tables leave out the volumes of {unmeasured} of them" if unmeasured else ""
    return f"{what}{tables}. Run the cohort again, which makes them again."


def find_outliers(images: Sequence[Measured], names: Mapping[int, str]) -> list[Outlier]:
    """Structures whose share of the intracranial volume is unusual among ``images``, the most unusual first; none among
    fewer than eight images.

    Structures without a spread, which most images do not have, are left out, and so are images without an intracranial
    volume, unless none has one: then the volumes themselves are compared.
    """
    known = [image for image in images if image.intracranial] or list(images)
    found = []
    for structure, name in names.items():
        having = [image for image in known if image.volumes.get(structure) is not None]
        if len(having) < FEWEST:
            continue
        volumes = np.array([image.volumes[structure] for image in having], dtype=np.float64)
        shares = volumes / np.array([image.intracranial or 1.0 for image in having])
        deviations = shares - np.median(shares)
        spread = 1.4826 * float(np.median(np.abs(deviations)))
        if spread <= 0:
            continue
        for image, volume, z in zip(having, volumes.tolist(), (deviations / spread).tolist(), strict=True):
            if abs(z) > UNUSUAL:
                usual = float(np.median(shares)) * (image.intracranial or 1.0)
                found.append(Outlier(image.id, image.role, image.path, image.labels, structure, name, volume, usual, z))
    return sorted(found, key=lambda outlier: -abs(outlier.z))


def _measured(name: str, found: Found) -> list[Measured]:
    if found.record is None:
        return []
    verdict = "" if found.record.quality is None else found.record.quality.verdict.value
    images = []
    for role, volumes in found.volumes.items():
        image = found.record.inputs[role]
        about = name, role, image.path, verdict, image.intracranial_mm3
        images.append(Measured(*about, volumes, image.predicted_dice or {}, found.record.model.name))
    return images


def _severity(image: Measured) -> int:
    return SEVERITY[Level(image.verdict)] if image.verdict else len(SEVERITY)


def _names(record: RunRecord) -> dict[int, str]:
    scheme = SCHEMES.get(record.model.scheme)
    return {} if scheme is None else {structure.id: structure.name for structure in tabulated(scheme).classes}


def _long(images: Sequence[Measured], names: Mapping[int, str]) -> str:
    columns = ("id", "image", "model", "verdict", "intracranial_mm3", "index", "name", "mm3", "predicted_dice", "path")
    rows: list[Sequence[str]] = [columns]
    for image in images:
        about = (image.id, image.role, image.model, image.verdict, _number(image.intracranial))
        for index, volume in image.volumes.items():
            name = names.get(index, "n/a")
            predicted = f"{image.predicted[name]:.3f}" if name in image.predicted else "n/a"
            rows.append((*about, str(index), name, _number(volume), predicted, image.path))
    return _table(rows)


def _wide(images: Sequence[Measured], names: Mapping[int, str]) -> str:
    rows: list[Sequence[str]] = [("id", "image", "model", "verdict", "intracranial_mm3", *names.values(), "path")]
    for image in images:
        volumes = (_number(image.volumes.get(index)) for index in names)
        about = (image.id, image.role, image.model, image.verdict, _number(image.intracranial))
        rows.append((*about, *volumes, image.path))
    return _table(rows)


def _outliers_table(outliers: Sequence[Outlier]) -> str:
    rows: list[Sequence[str]] = [("id", "image", "index", "name", "mm3", "usual_mm3", "robust_z", "path")]
    for o in outliers:
        rows.append(
            (o.id, o.role, str(o.structure), o.name, _number(o.mm3), _number(o.usual_mm3), f"{o.z:.2f}", o.path)
        )
    return _table(rows)


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "".join("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
