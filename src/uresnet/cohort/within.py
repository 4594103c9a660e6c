"""People with several sessions: an unbiased mean of each person's own images, which is registered to the target.

Registered to a target alone, each session finds its own way there, and the difference of two ways looks like a change
of the brain. Here the sessions of a person share the way from their mean to the target, and none of them is the one
that the others are compared with (Reuter, Schmansky, Rosas, Fischl 2012).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from uresnet.cohort.jobs import Job, Options, Outcome, Scan
from uresnet.cohort.results import sizes_of
from uresnet.cohort.template import (
    MEAN,
    TRANSFORMS,
    Building,
    RunCohort,
    TemplateOptions,
    anywhere,
    from_mean,
    round_options,
    to_mean,
)
from uresnet.core.background import scan_background
from uresnet.core.files import fresh_files, write_text
from uresnet.core.grid import Grid
from uresnet.errors import UserError
from uresnet.io import read_grid, read_image, read_labels, write_image, write_labels
from uresnet.pipeline.rounding import stored_image, stored_transform
from uresnet.results.record import now
from uresnet.transform import Affine, Composite, displacement_on, resample
from uresnet.transform_files import read_transform, write_itk_composite

_ROUNDS = 1  # of deformation after the affine one: the images of one person differ little
_TO_TARGET = "to_target"
_KEY = "made_from.txt"
_JOINED = ("transform.h5", "inverse_transform.h5", "warped.nii.gz", "warped_dseg.nii.gz", "dseg.tsv")
_TOO_FEW = (
    "Fewer than two of its images could be segmented, which make no mean; mend the others, or run it again with "
    "--subject-anatomical-reference sessionwise."
)


@dataclass(frozen=True)
class Person:
    """A person's images: (id, scan with its structures in the file ``labels``) of each."""

    id: str
    scans: tuple[tuple[str, Scan], ...]
    labels: Mapping[str, Path]


@dataclass(frozen=True)
class Within:
    """What came of a person: the ``outcome`` of registering the mean to the target, the folder ``mean`` with what
    :func:`uresnet.cohort.template.build_template` writes, ``to_target`` with the result of that registration, and for
    each image a folder with ``transform.h5``, ``inverse_transform.h5``, ``warped.nii.gz``, ``warped_dseg.nii.gz`` and
    ``dseg.tsv`` between it and the target."""

    outcome: Outcome
    mean: Path
    to_target: Path
    images: Mapping[str, Path]


def register_within(
    people: Sequence[Person], target: Scan, folder: Path, base: Options, do: RunCohort
) -> dict[str, Within]:
    """Build the mean of each person in the ``folder``, register it to the ``target``, and join both ways. What is done
    already is not done again. What goes wrong is in the outcome of that person alone."""
    failed: dict[str, Outcome] = {}
    buildings: dict[str, Building] = {}
    for person in people:
        if len(person.scans) < 2:
            failed[person.id] = _failure(person.id, _TOO_FEW)
            continue
        settings = TemplateOptions(iterations=_ROUNDS, spacing=_spacing(person), sharpening=0.0)
        buildings[person.id] = Building(person.scans, folder / person.id, settings)
    for number in range(_ROUNDS + 1):
        chosen = round_options(base, folder, number)  # one cohort for all people
        outcomes = do([job for building in buildings.values() for job in building.jobs], chosen)
        for name, building in list(buildings.items()):
            try:
                building.take(chosen.folder, [outcome for outcome in outcomes if outcome.id in building.scans])
            except UserError as error:
                failed[name] = _failure(name, str(error))
                del buildings[name]
    last = replace(base, folder=folder / _TO_TARGET, encodings=chosen.encodings)
    jobs = [Job(name, Scan(str((folder / name / MEAN).absolute())), target) for name in buildings]
    ended = {outcome.id: outcome for outcome in (do(jobs, last) if jobs else [])} | failed
    return {person.id: _joined(person, target, folder, ended[person.id]) for person in people}


def _joined(person: Person, target: Scan, folder: Path, outcome: Outcome) -> Within:
    """Every image of a person brought to the target through the mean."""
    mean, to_target = folder / person.id, folder / _TO_TARGET / person.id
    images: dict[str, Path] = {}
    try:
        for name, scan in person.scans if outcome.state == "done" else ():
            if (mean / TRANSFORMS / to_mean(name)).is_file():
                images[name] = folder / "images" / name
                _bring(name, scan, person.labels[name], target, (mean, to_target), images[name], outcome.key)
    except UserError as error:
        outcome = _failure(person.id, str(error))
    return Within(outcome, mean, to_target, images)


def _bring(
    name: str, scan: Scan, labels_file: Path, target: Scan, ways: tuple[Path, Path], folder: Path, key: str
) -> None:
    """Write the transforms between an image and the target, and what is resampled with them, unless they are there."""
    noted = folder / _KEY
    if noted.is_file() and noted.read_text(encoding="utf-8", errors="replace") == _made_from(key, folder):
        return
    mean, to_target = ways
    image, labels, grid = read_image(scan.image), read_labels(labels_file), read_grid(target.image)
    there = read_labels(to_target / "fixed_dseg.nii.gz")
    forward = _as_one(
        [read_transform(to_target / "transform.h5"), read_transform(mean / TRANSFORMS / to_mean(name))], grid
    )
    back = _as_one(
        [read_transform(mean / TRANSFORMS / from_mean(name)), read_transform(to_target / "inverse_transform.h5")],
        image.grid,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with fresh_files(folder, overwrite=True, record=_KEY) as beside:
        for way, start, end, file in (
            (forward, there, labels, "transform.h5"),
            (back, labels, there, "inverse_transform.h5"),
        ):
            write_itk_composite(stored_transform(way, start, end, compact=True), beside / file, exact=True)
        warped = resample(forward, image, grid, fill=scan_background(image.data.numpy()))
        write_image(stored_image(warped), beside / "warped.nii.gz")
        write_labels(resample(forward, labels, grid), beside / "warped_dseg.nii.gz")
        shutil.copyfile(labels_file.with_name("dseg.tsv"), beside / "dseg.tsv")
        write_text(_made_from(key, beside), beside / _KEY)


def _made_from(key: str, folder: Path) -> str:
    """What is noted of joined ways: the hash of what they were made from, and the bytes of each file."""
    return f"{key}\n{json.dumps(sizes_of(folder, _JOINED))}\n"


def _as_one(ways: Sequence[Composite], grid: Grid) -> Composite:
    """The same map as one field on ``grid`` and one affine, which holds beyond the field too."""
    parts = [anywhere(part) for way in ways for part in way.parts]
    affine = Affine.identity()
    for part in parts:
        affine = affine.then(part) if isinstance(part, Affine) else affine
    field = displacement_on(Composite([*parts, affine.inverse()]), grid)
    return Composite([field, affine])


def _spacing(person: Person) -> float:
    """Voxels of the mean, mm: as large as those of the first image are on average."""
    return float(np.clip(read_grid(person.scans[0][1].image).voxel_volume ** (1 / 3), 0.3, 8))


def _failure(name: str, error: str) -> Outcome:
    return Outcome(id=name, state="failed", error=error, time=now())
