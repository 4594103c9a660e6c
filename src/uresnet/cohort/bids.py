"""BIDS: which images a data set has, and where the results of a cohort stand in a data set of derivatives.

Follows BIDS 1.10 with the names of its derivatives. Transforms (``xfm``), volumes and pages have no place in the
standard yet; ``.bidsignore`` lists them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uresnet._version import __version__
from uresnet.cohort.jobs import Job, Scan
from uresnet.core.files import write_text, written_whole
from uresnet.core.reading import parse_json, read_text
from uresnet.errors import UserError, quoted
from uresnet.results.json_values import json_text

VERSION = "1.10.0"
_README = """# Derivatives of uresnet

Segmentations, brain masks, volumes and, where a target was given, registrations of the T1w images of a data set.

- `*_seg-aseg_dseg.nii.gz`: structures, with the ids of FreeSurfer's colour table (`*_dseg.tsv` names them)
- `*_desc-brain_mask.nii.gz`: the brain
- `*_space-NAME_desc-preproc_T1w.nii.gz`: the image, resampled onto the target
- `*_from-T1w_to-NAME_mode-image_xfm.h5`: the ITK transform that resamples the image onto the target; the other
  direction beside it
- several sessions of one participant: `sub-*/anat/*_desc-preproc_T1w.nii.gz` is their mean, "within" its space. They
  reach the target through it (`*_from-T1w_to-within_*`, `*_from-within_to-NAME_*`; `*_from-T1w_to-NAME_*` joins both)
- `*_volumes.tsv`, `*_run.json`, `*_report.html`: volumes in mm³, the record of the run with its verdict, and a page to
  look at first
"""
IGNORED = ("*_xfm.*", "*_volumes.tsv", "*_run.json", "*.html", "figures/", "logs/", "group_*", ".work/")
WITHIN = "within"
"""The space of the mean of a participant's sessions."""

_IMAGE = re.compile(r"(sub-[A-Za-z0-9]+)((?:_[a-z]+-[A-Za-z0-9]+)*)_T1w\.nii(?:\.gz)?")
_FILTERS = {"subject": "sub", "session": "ses", "acquisition": "acq", "run": "run", "reconstruction": "rec"}

_Named = list[tuple[str, str, dict[str, Any] | None]]
"""(file of a result, name in the derivatives, sidecar) of each."""


@dataclass(frozen=True)
class BidsImage:
    """A T1w image of a data set. ``entities`` are those of its name, in order: sub, ses, acq, run …"""

    path: Path
    entities: tuple[tuple[str, str], ...]

    @property
    def name(self) -> str:
        """``sub-01_ses-1_run-2``."""
        return "_".join(f"{key}-{value}" for key, value in self.entities)

    @property
    def subject(self) -> str:
        return dict(self.entities)["sub"]

    @property
    def session(self) -> str | None:
        return dict(self.entities).get("ses")

    @property
    def folder(self) -> Path:
        """Where its derivatives stand, within their data set."""
        session = [] if self.session is None else [f"ses-{self.session}"]
        return Path(f"sub-{self.subject}", *session, "anat")


def find_images(
    folder: Path,
    participants: Sequence[str] = (),
    sessions: Sequence[str] = (),
    filters: Mapping[str, Any] | None = None,
) -> list[BidsImage]:
    """The T1w images of a data set: of some ``participants`` and ``sessions`` (labels with or without ``sub-`` and
    ``ses-``; none: all), whose names fit the ``filters`` (entity → value or list of values).

    Raises :class:`UserError` for a folder that is no data set, a participant that it does not have, and where no image
    is left.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the root of a BIDS data set.")
    wanted = [label.removeprefix("sub-") for label in participants]
    chosen = [label.removeprefix("ses-") for label in sessions]
    missing = [label for label in wanted if not (folder / f"sub-{label}").is_dir()]
    if missing:
        raise UserError(f"{folder} has no participant {quoted(', '.join(missing), 100)}; check the labels.")
    found = []
    for place in ("sub-*/anat", "sub-*/ses-*/anat"):
        for path in sorted(folder.glob(f"{place}/*_T1w.nii*")):
            image = _image_of(path)
            if image is None or (wanted and image.subject not in wanted):
                continue
            if (not chosen or image.session in chosen) and _fits(image, filters or {}):
                found.append(image)
    if not found:
        raise UserError(
            f"{folder} has no T1w image (sub-*/[ses-*/]anat/*_T1w.nii.gz) of those that are asked for; give the root "
            "of a BIDS data set, or other labels."
        )
    return sorted(found, key=lambda image: image.name)


def read_filter(path: Path | None) -> dict[str, Any]:
    """What a filter file says of T1w images: ``{"t1w": {"acquisition": "mprage", "run": [1, 2]}}``. Raises
    :class:`UserError` for another file."""
    if path is None:
        return {}
    try:
        value = parse_json(read_text(path))
        filters = value.get("t1w", {})
        unknown = set(filters) - {*_FILTERS, *_FILTERS.values(), "datatype", "suffix", "extension"}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is no BIDS filter file; it should look like {{'t1w': {{'run': 1}}}}.") from error
    if unknown:
        raise UserError(f"{path}: unknown entity {quoted(sorted(unknown)[0])}; known are {', '.join(_FILTERS)}.")
    return {
        _FILTERS.get(key, key): item for key, item in filters.items() if key in _FILTERS or key in _FILTERS.values()
    }


def people_of(images: Sequence[BidsImage]) -> dict[str, list[BidsImage]]:
    """The images of each participant (``sub-01``) who has several sessions."""
    people: dict[str, list[BidsImage]] = {}
    for image in images:
        people.setdefault(f"sub-{image.subject}", []).append(image)
    return {name: own for name, own in people.items() if len({image.session for image in own}) > 1}


def jobs_of(images: Sequence[BidsImage], target: Scan | None) -> list[Job]:
    """A job for each image: its registration to the ``target``, or its segmentation."""
    return [Job(image.name, Scan(str(image.path.absolute())), target) for image in images]


def write_description(out: Path, source: Path) -> None:
    """``dataset_description.json``, ``.bidsignore`` and ``README`` of the derivatives, where they are not there."""
    out.mkdir(parents=True, exist_ok=True)
    description = {
        "Name": "uresnet: segmented and registered T1w images",
        "BIDSVersion": VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "uresnet", "Version": __version__}],
        "DatasetLinks": {"raw": source.absolute().as_uri()},
        "SourceDatasets": [{"URL": source.absolute().as_uri()}],
        "License": "n/a",
    }
    texts = {
        "dataset_description.json": json_text(description),
        ".bidsignore": "".join(f"{pattern}\n" for pattern in IGNORED),
        "README": _README,
    }
    for name, text in texts.items():
        if not (out / name).exists():
            write_text(text, out / name)


def publish(
    result: Path, image: BidsImage, out: Path, space: str | None, origin: str = "T1w", sources: Sequence[BidsImage] = ()
) -> list[Path]:
    """Give the files of a ``result`` their names in the derivatives, each whole; returns them.

    ``space`` names the target that the image was registered to, None where it was segmented only; ``origin`` names that
    of the image in the names of transforms; ``sources`` are the images that it was made of, if others than itself.
    Files are linked, not copied, where the file system allows: they take no more space. Each image has a sidecar.
    """
    stem = image.name
    role = "" if space is None else "moving_"
    raw = [_raw(source) for source in sources or (image,)]
    native: dict[str, Any] = {"Sources": raw, "SpatialReference": "orig"}
    labels = native | {"Manual": False, "Description": "Structures by uresnet"}
    mask = native | {"Type": "Brain", "Description": "The brain"}
    named: _Named = [
        (f"{role}dseg.nii.gz", f"{stem}_seg-aseg_dseg.nii.gz", labels),
        ("dseg.tsv", f"{stem}_seg-aseg_dseg.tsv", None),
        (f"{role}brain_mask.nii.gz", f"{stem}_desc-brain_mask.nii.gz", mask),
        ("volumes.tsv", f"{stem}_volumes.tsv", None),
        ("report.html", f"{stem}_report.html", None),
        ("run.json", f"{stem}_run.json", None),
    ]
    if space is not None:
        named += _in_space(stem, space, origin, raw)
    return _published(result, out / image.folder, named)


def publish_mean(mean: Path, person: BidsImage, out: Path, sources: Sequence[BidsImage]) -> list[Path]:
    """The same of the mean of a person's images (the folder ``mean``): the mean itself, and the transforms between it
    and each of its ``sources``."""
    from uresnet.cohort.template import MEAN, TRANSFORMS, from_mean, to_mean  # here: it loads torch

    about = {"SpatialReference": "orig", "SkullStripped": False, "Description": "The mean of its sources"}
    about |= {"Sources": [_raw(source) for source in sources]}
    written = _published(mean, out / person.folder, [(MEAN, f"{person.name}_desc-preproc_T1w.nii.gz", about)])
    for image in sources:
        ways: _Named = [
            (to_mean(image.name), _transform_name(image.name, "T1w", WITHIN), None),
            (from_mean(image.name), _transform_name(image.name, WITHIN, "T1w"), None),
        ]
        written += _published(mean / TRANSFORMS, out / image.folder, ways)
    return written


def publish_joined(result: Path, image: BidsImage, out: Path, space: str) -> list[Path]:
    """The same of an image that was brought to the target through such a mean."""
    return _published(result, out / image.folder, _in_space(image.name, space, "T1w", [_raw(image)]))


def _in_space(stem: str, space: str, origin: str, raw: Sequence[str]) -> _Named:
    """What an image has in the space of a target, and the transforms between both."""
    about = {"Sources": list(raw), "SpatialReference": space}
    image = about | {"SkullStripped": False, "Description": f"Resampled onto {space}"}
    labels = about | {"Manual": False, "Description": f"Structures by uresnet, resampled onto {space}"}
    return [
        ("warped.nii.gz", f"{stem}_space-{space}_desc-preproc_T1w.nii.gz", image),
        ("warped_dseg.nii.gz", f"{stem}_space-{space}_seg-aseg_dseg.nii.gz", labels),
        ("dseg.tsv", f"{stem}_space-{space}_seg-aseg_dseg.tsv", None),
        ("transform.h5", _transform_name(stem, origin, space), None),
        ("inverse_transform.h5", _transform_name(stem, space, origin), None),
    ]


def _transform_name(stem: str, start: str, end: str) -> str:
    return f"{stem}_from-{start}_to-{end}_mode-image_xfm.h5"


def _raw(image: BidsImage) -> str:
    """The BIDS URI of an image of the data set."""
    return f"bids:raw:{(image.folder / image.path.name).as_posix()}"


def _published(result: Path, place: Path, named: _Named) -> list[Path]:
    place.mkdir(parents=True, exist_ok=True)
    written = []
    for source, name, sidecar in named:
        if not (result / source).is_file():
            continue
        _placed(result / source, place / name)
        written.append(place / name)
        if sidecar is not None:
            written.append(place / name.replace(".nii.gz", ".json"))
            write_text(json_text(sidecar), written[-1])
    return written


def append_log(out: Path, image: BidsImage, line: str) -> None:
    """Add a line to the log of a participant."""
    path = out / "logs" / f"sub-{image.subject}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(" ".join(line.split()) + "\n")


def _placed(source: Path, target: Path) -> None:
    """The same file under another name; a copy where links are not possible."""
    with written_whole(target) as beside:
        beside.unlink()
        try:
            os.link(source, beside)
        except OSError:
            shutil.copyfile(source, beside)


def _image_of(path: Path) -> BidsImage | None:
    named = _IMAGE.fullmatch(path.name)
    if named is None:
        return None
    parts = [part.split("-", 1) for part in path.name.split("_")[:-1]]
    return BidsImage(path, tuple((key, value) for key, value in parts))


def _fits(image: BidsImage, filters: Mapping[str, Any]) -> bool:
    entities = dict(image.entities)
    for key, wanted in filters.items():
        values = wanted if isinstance(wanted, list) else [wanted]
        known = entities.get(key)
        if not any(_same(known, value) for value in values):
            return False
    return True


def _same(known: str | None, wanted: Any) -> bool:
    """``run-01`` is run 1; null is an entity that is not there."""
    if known is None or wanted is None:
        return known is None and wanted is None
    with suppress(ValueError, TypeError):
        return int(known) == int(wanted)
    return known == str(wanted)
