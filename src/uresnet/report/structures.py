"""Structures as pages list them: both sides of a pair together, their volumes, and how much the sides differ.

Pages and the viewer colour a structure as the table in ``core/labels.py`` says (the lateral ventricle: (120, 18, 134)).
A :class:`~uresnet.core.labels.LabelClass` has that colour as ``hex_colour``, and ``templates/macros.html.j2`` draws
with it. The figures for print have a palette of their own (``figures.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan

from uresnet.core.image import LabelMap
from uresnet.core.labels import ABNORMAL, FREESURFER, LabelClass, LabelScheme, mirrored_id
from uresnet.measures.volumes import known_volume, structure_volumes
from uresnet.quality.predicted_dice import CALIBRATIONS
from uresnet.results.record import InputRecord, RunRecord


@dataclass(frozen=True)
class Group:
    """A structure without its side, and its ``members``: (left, right), or itself alone."""

    name: str
    members: tuple[LabelClass, ...]


@dataclass(frozen=True)
class Row:
    """One structure of a table. ``volumes`` in ml by image, None where it was not looked for; ``asymmetry``, by image,
    is shown once for ``both`` sides; ``dice`` is None where neither segmentation has the structure; ``predicted`` is
    the Dice with an expert's label that is expected of each image's, None where none is."""

    structure: LabelClass
    volumes: dict[str, float | None]
    asymmetry: dict[str, float | None]
    both: bool
    dice: float | None = None
    predicted: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The structure's name, in words."""
        return words(self.structure.name)

    @property
    def difference(self) -> float | None:
        """(moving − fixed) as a percentage of the fixed image's volume; None where one is not known."""
        moving, fixed = self.volumes["moving"], self.volumes["fixed"]
        return None if moving is None or fixed is None else percent(moving - fixed, fixed)


def groups(structures: Iterable[LabelClass]) -> list[Group]:
    """Left and right of a pair together, left first, in the order in which the pairs appear."""
    by_id = {structure.id: structure for structure in structures}
    found, seen = [], set[int]()
    for structure in by_id.values():
        if structure.id in seen:
            continue
        sides = sorted({structure.id, mirrored_id(structure.id)} & set(by_id), key=lambda i: not _is_left(i))
        seen |= set(sides)
        bare = structure.name.removeprefix("Left-").removeprefix("Right-") if len(sides) == 2 else structure.name
        found.append(Group(words(bare), tuple(by_id[i] for i in sides)))
    return found


def table_rows(
    scheme: LabelScheme | None,
    volumes: dict[str, dict[int, float]],
    dice: dict[str, float] | None = None,
    inputs: Mapping[str, InputRecord] | None = None,
) -> list[Row]:
    """A row per structure, sides of a pair one below the other. ``volumes`` in mm³ by image and FreeSurfer id;
    ``dice`` by structure's name; ``inputs`` are what the record says of the images."""
    if scheme is None or not volumes:
        return []
    rows = []
    predicted = {image: found.predicted_dice or {} for image, found in (inputs or {}).items()}
    contrasts = {image: found.contrast for image, found in (inputs or {}).items()}
    for group in groups(scheme.classes):
        for n, structure in enumerate(group.members):
            overlap = (dice or {}).get(structure.name, nan)
            rows.append(
                Row(
                    structure,
                    {
                        image: _in_ml(known_volume(by_id, structure.id, scheme, contrasts.get(image)))
                        for image, by_id in volumes.items()
                    },
                    {image: asymmetry(by_id, structure.id) for image, by_id in volumes.items()},
                    both=len(group.members) == 2 and n == 0,
                    dice=overlap if isfinite(overlap) else None,
                    predicted={image: by_name.get(structure.name) for image, by_name in predicted.items()},
                )
            )
    return rows


def is_predicted(record: RunRecord) -> bool:
    """Whether the Dice of any structure was predicted."""
    return any(image.predicted_dice for image in record.inputs.values())


def why_not_predicted(record: RunRecord) -> str:
    """Why no Dice was predicted, in a sentence; empty where one was."""
    if is_predicted(record) or record.model.sha256 in CALIBRATIONS:
        return ""
    return (
        "None is given, because it is calibrated, with experts' labels, for T1-weighted images and the model “default” "
        f"only; the labels here are by “{record.model.name}”."
    )


def asymmetry(volumes: dict[int, float], structure: int) -> float | None:
    """(left − right) as a percentage of their mean, for the left structure of a pair; None for any other, and for
    abnormal tissue, which no two sides have alike."""
    if structure in ABNORMAL or not _is_left(structure) or mirrored_id(structure) not in volumes:
        return None
    left, right = volumes[structure], volumes[mirrored_id(structure)]
    return percent(left - right, (left + right) / 2)


def _in_ml(mm3: float | None) -> float | None:
    return None if mm3 is None else mm3 / 1000


def percent(part: float, whole: float) -> float | None:
    """``part`` as a percentage of ``whole``; None where there is no whole."""
    return 100 * part / whole if whole > 0 else None


def present(scheme: LabelScheme, *maps: LabelMap) -> list[LabelClass]:
    """The structures that any of the label maps holds."""
    volumes = [structure_volumes(labels, scheme) for labels in maps]
    return [structure for structure in scheme.classes if any(by_id[structure.id] for by_id in volumes)]


_IN_FULL = {"Inf-Lat-Vent": "Inferior Lateral Ventricle", "VentralDC": "Ventral Diencephalon", "WM": "White Matter"}
_OF_ABNORMAL = {
    "WM-hypointensities": "Lesions of the white matter",
    "Lesion": "Mass, cavity or stroke",
    "Left-Lesion": "Left mass, cavity or stroke",
    "Right-Lesion": "Right mass, cavity or stroke",
}
"""Abnormal tissue as the verdict calls it: FreeSurfer's names are those of other findings, in T1-weighted images."""


def words(name: str) -> str:
    """``Left-Inf-Lat-Vent`` without its hyphens, and in full."""
    if name in _OF_ABNORMAL:
        return _OF_ABNORMAL[name]
    for short, full in _IN_FULL.items():
        name = name.replace(short, full)
    return name.replace("-", " ").replace("_", " ")


def _is_left(structure: int) -> bool:
    return FREESURFER[structure].name.startswith("Left-")
