"""The record of a run: what ran on what, how long each stage took, what was assumed, what was measured.

In memory it is typed; ``run.json`` is its only JSON form. A record that was written and read back equals the one in
memory, because all numbers in it are rounded when it is made.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from uresnet._version import __version__
from uresnet.core.files import RECORD
from uresnet.core.reading import parse_json, read_text
from uresnet.errors import UserError, quoted
from uresnet.results.json_values import from_json_value, json_text, number, to_json_value
from uresnet.results.signs import ImageSigns, PairSigns


class Level(StrEnum):
    """Good: the automatic checks passed. Look: a person should look before using it. Failed: do not use it."""

    good = "good"
    look = "look"
    failed = "failed"


@dataclass(frozen=True, kw_only=True)
class OtherModelRecord:
    """A model that was asked beside the one that ran; ``sha256`` is that of its file."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The model that ran; ``sha256`` is that of its file, ``scheme`` the name of its label scheme or empty; ``licence``
    is that of its weights, as its card has it: empty where that has none, None in records of earlier versions.
    ``specialist`` is a model that saw the T1-weighted image, or the predicted one, too, ``contrast_by`` one that only
    said the contrast of the images and where they have masses; None where none did."""

    name: str
    kind: str
    sha256: str
    scheme: str
    licence: str | None = None
    specialist: OtherModelRecord | None = None
    contrast_by: OtherModelRecord | None = None

    @property
    def names(self) -> str:
        """Of the model, and of the specialist where one was asked."""
        return self.name if self.specialist is None else f"{self.name} together with {self.specialist.name}"


@dataclass(frozen=True, kw_only=True)
class InputRecord:
    """One image as it was given: ``shape`` in voxels of ``voxel_mm``, ``axes`` where its axes point ("LAS"); ``brain``
    says how its brain was found; ``notes`` say how it was conformed, to a grid of ``conformed_shape``.
    ``intracranial_mm3`` is None where there is no estimate, ``contrast`` (a
    :data:`~uresnet.core.choices.Contrast`) where nothing looked for it. ``predicted_dice`` is how well the label of
    each structure that was found is expected to agree with an expert's, by name; None from a model that is not
    calibrated (:mod:`uresnet.quality.predicted_dice`). ``drawn_mm3`` is the volume that a mask of the user's calls
    abnormal, None without one."""

    path: str
    shape: tuple[int, int, int]
    voxel_mm: tuple[float, float, float]
    axes: str
    brain: str
    brain_mm3: float
    conformed_shape: tuple[int, int, int]
    notes: tuple[str, ...]
    intracranial_mm3: float | None = None
    contrast: str | None = None
    predicted_dice: Mapping[str, float] | None = None
    drawn_mm3: float | None = None


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What can be measured of a registration without labels.

    ``folding_fraction`` and ``sd_log_jacobian`` are over the fixed brain; ``inverse_mean_mm`` and ``inverse_max_mm``
    are the distances of the fixed brain's points from where the transform and then its inverse put them;
    ``overlap_before`` and ``overlap_after`` are the Dice of the two brain masks where the files place them, and after
    the transform.
    """

    folding_fraction: float
    sd_log_jacobian: float
    inverse_mean_mm: float
    inverse_max_mm: float
    overlap_before: float
    overlap_after: float

    def rounded(self) -> Measures:
        """As the record keeps them."""
        return Measures(
            folding_fraction=self.folding_fraction,
            sd_log_jacobian=round(self.sd_log_jacobian, 5),
            inverse_mean_mm=round(self.inverse_mean_mm, 5),
            inverse_max_mm=round(self.inverse_max_mm, 5),
            overlap_before=round(self.overlap_before, 4),
            overlap_after=round(self.overlap_after, 4),
        )

    def to_json_value(self) -> dict[str, Any]:
        """In the file, mean and largest error of the inverse stand together, and so do the two overlaps."""
        return {
            "folding_fraction": self.folding_fraction,
            "sd_log_jacobian": self.sd_log_jacobian,
            "inverse_residual_mm": {"mean": self.inverse_mean_mm, "max": self.inverse_max_mm},
            "brain_overlap": {"before": self.overlap_before, "after": self.overlap_after},
        }

    @classmethod
    def from_json_value(cls, value: Any, where: str) -> Measures:
        """Raises ``ValueError`` for a value that is missing or no number."""
        inverse, overlap = f"{where}.inverse_residual_mm", f"{where}.brain_overlap"
        folding_fraction = number(value, "folding_fraction", where)
        return cls(
            folding_fraction=folding_fraction,
            sd_log_jacobian=number(value, "sd_log_jacobian", where),
            inverse_mean_mm=number(value.get("inverse_residual_mm"), "mean", inverse),
            inverse_max_mm=number(value.get("inverse_residual_mm"), "max", inverse),
            overlap_before=number(value.get("brain_overlap"), "before", overlap),
            overlap_after=number(value.get("brain_overlap"), "after", overlap),
        )


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The verdict and its reasons, the gravest first, with the signs that it was made from, rounded; those of a file
    that another version wrote are None when this version measures others."""

    verdict: Level
    reasons: tuple[str, ...]
    signs: PairSigns | ImageSigns | None


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What ``run.json`` says of a registration ("moving" and "fixed" in ``inputs``) or of a segmentation ("image").

    ``finished`` is the time, UTC, ISO 8601; ``versions`` are those of uresnet, Python, the packages that decide the
    numbers, and the machine; ``seconds`` are by stage, with their "total"; ``warnings`` say what was assumed or
    repaired, a sentence each; ``exact`` is there where the reference was computed. ``transform`` (what was allowed to
    move), ``refined`` and ``measures`` are those of a registration. ``command`` and ``files`` are known once the
    results are written, and so are ``sizes``, the bytes of these files but for pages, which may be written again.
    ``key`` is a hash of inputs, options and model, by which a cohort recognises what is done
    already.
    """

    finished: str
    versions: Mapping[str, str]
    model: ModelRecord
    device: str
    threads: int
    inputs: Mapping[str, InputRecord]
    seconds: Mapping[str, float]
    warnings: tuple[str, ...]
    transform: str | None = None
    refined: bool | None = None
    exact: bool | None = None
    measures: Measures | None = None
    quality: Quality | None = None
    command: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    sizes: Mapping[str, int] | None = None
    key: str | None = None

    def to_json(self) -> str:
        """The text of ``run.json``."""
        return json_text(to_json_value(self))

    @classmethod
    def from_json(cls, text: str) -> RunRecord:
        """Raises ``ValueError`` for a text that is no JSON or no such record."""
        return from_json_value(cls, parse_json(text))


def record_path(place: Path) -> Path:
    """Where the record of a result is: in its folder, or beside the label map that ``segment`` wrote."""
    if place.is_dir():
        return place / RECORD
    return place.with_name(re.sub(r"\.(nii|nii\.gz|mgz|mgh)$", "", place.name, flags=re.IGNORECASE) + f"_{RECORD}")


def read_record(folder: Path) -> RunRecord:
    """``run.json`` of an output folder, or ``NAME_run.json`` of a label map ``NAME.nii.gz`` that ``segment`` wrote.
    Raises :class:`UserError` where there is none, or a damaged one."""
    path = record_path(folder)
    try:
        return RunRecord.from_json(read_text(path))
    except FileNotFoundError:
        raise UserError(f"{folder} has no {path.name}; give what uresnet register or segment wrote.") from None
    except (OSError, ValueError) as error:
        what = quoted(str(error), 200)
        raise UserError(
            f"{path} is damaged, or is not the record of a run ({what}); run uresnet register or segment again."
        ) from None


def environment() -> dict[str, str]:
    """Versions of uresnet, of Python and of the packages that decide the numbers, and the machine."""
    packages = ("torch", "numpy", "scipy", "nibabel", "h5py", "safetensors")
    return {
        "uresnet": __version__,
        "python": platform.python_version(),
        **{name: found for name in packages if (found := _installed(name))},
        "platform": platform.platform(),
    }


def now() -> str:
    """The time, UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
