"""Structures as pages list them: both sides of a pair together, their volumes, and how much the sides differ."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite, nan

from uresnet.core.image import LabelMap
from uresnet.core.labels import FREESURFER, LabelClass, LabelScheme, mirrored_id
from uresnet.measures.volumes import structure_volumes


@dataclass(frozen=True)
class Group:
    """A structure without its side, and its ``members``: (left, right), or itself alone."""

    name: str
    members: tuple[LabelClass, ...]


@dataclass(frozen=True)
class Row:
    """One structure of a table. ``volumes`` in ml by image; ``asymmetry``, by image, is shown once for ``both`` sides;
    ``dice`` is None where neither segmentation has the structure."""

    structure: LabelClass
    volumes: dict[str, float]
    asymmetry: dict[str, float | None]
    both: bool
    dice: float | None = None

    @property
    def name(self) -> str:
        """In words."""
        return words(self.structure.name)

    @property
    def difference(self) -> float | None:
        """(moving − fixed) as a percentage of the fixed image's volume."""
        return percent(self.volumes["moving"] - self.volumes["fixed"], self.volumes["fixed"])


def groups(structures: Iterable[LabelClass]) -> list[Group]:
    """Left and right of a pair together, left first, in the order in which the pairs appear."""
    by_id = {one.id: one for one in structures}
    found, seen = [], set[int]()
    for one in by_id.values():
        if one.id in seen:
            continue
        pair = sorted({one.id, mirrored_id(one.id)} & set(by_id), key=lambda i: not _is_left(i))
        seen |= set(pair)
        bare = one.name.removeprefix("Left-").removeprefix("Right-") if len(pair) == 2 else one.name
        found.append(Group(words(bare), tuple(by_id[i] for i in pair)))
    return found


def table_rows(
    scheme: LabelScheme | None, volumes: dict[str, dict[int, float]], dice: dict[str, float] | None = None
) -> list[Row]:
    """A row per structure, sides of a pair one below the other. ``volumes`` in mm³ by image and FreeSurfer id;
    ``dice`` by structure's name."""
    if scheme is None or not volumes:
        return []
    rows = []
    for group in groups(scheme.classes):
        for n, one in enumerate(group.members):
            overlap = (dice or {}).get(one.name, nan)
            rows.append(
                Row(
                    one,
                    {name: of.get(one.id, 0.0) / 1000 for name, of in volumes.items()},
                    {name: asymmetry(of, one.id) for name, of in volumes.items()},
                    both=len(group.members) == 2 and n == 0,
                    dice=overlap if isfinite(overlap) else None,
                )
            )
    return rows


def asymmetry(volumes: dict[int, float], structure: int) -> float | None:
    """(left − right) as a percentage of their mean, for the left structure of a pair; None for any other."""
    if not _is_left(structure) or mirrored_id(structure) not in volumes:
        return None
    left, right = volumes[structure], volumes[mirrored_id(structure)]
    return percent(left - right, (left + right) / 2)


def percent(part: float, whole: float) -> float | None:
    """None of nothing."""
    return 100 * part / whole if whole > 0 else None


def present(scheme: LabelScheme, *maps: LabelMap) -> list[LabelClass]:
    """The structures that any of the label maps holds."""
    volumes = [structure_volumes(one, scheme) for one in maps]
    return [one for one in scheme.classes if any(of[one.id] for of in volumes)]


def words(name: str) -> str:
    """``Left-Cerebral-Cortex`` as a person writes it."""
    return name.replace("-", " ").replace("_", " ")


def _is_left(structure: int) -> bool:
    return FREESURFER[structure].name.startswith("Left-")
