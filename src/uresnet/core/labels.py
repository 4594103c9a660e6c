"""The one table of brain structures: FreeSurfer id, name, abbreviation, colour, and the class schemes built on it.

Ids, names and colours are those of FreeSurfer's colour table. Classes are the channels of a network: class 0 is the
background of every scheme, and class c is ``scheme.classes[c - 1]``. Everything here is numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uresnet.errors import UserError

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Structure:
    """One row of the table. ``abbreviation`` is the paper's (Table 1) where it has one."""

    id: int
    name: str
    abbreviation: str
    colour: Colour

    @property
    def hex_colour(self) -> str:
        """``#rrggbb``, as dseg.tsv files have it."""
        return "#{:02x}{:02x}{:02x}".format(*self.colour)


def _table() -> dict[int, Structure]:
    sided = [  # left id, right id, name, abbreviation, colour (right colour where FreeSurfer's differs)
        (2, 41, "Cerebral-White-Matter", "CeblWM", (245, 245, 245), None),
        (3, 42, "Cerebral-Cortex", "CeblC", (205, 62, 78), None),
        (4, 43, "Lateral-Ventricle", "LV", (120, 18, 134), None),
        (5, 44, "Inf-Lat-Vent", "ILV", (196, 58, 250), None),
        (7, 46, "Cerebellum-White-Matter", "CblmWM", (220, 248, 164), None),
        (8, 47, "Cerebellum-Cortex", "CblmC", (230, 148, 34), None),
        (10, 49, "Thalamus", "Th", (0, 118, 14), None),
        (11, 50, "Caudate", "Ca", (122, 186, 220), None),
        (12, 51, "Putamen", "Pu", (236, 13, 176), None),
        (13, 52, "Pallidum", "Pa", (12, 48, 255), (13, 48, 255)),
        (17, 53, "Hippocampus", "Hi", (220, 216, 20), None),
        (18, 54, "Amygdala", "Am", (103, 255, 255), None),
        (25, 57, "Lesion", "Les", (255, 165, 0), None),
        (26, 58, "Accumbens-area", "Acc", (255, 165, 0), None),
        (28, 60, "VentralDC", "VDC", (165, 42, 42), None),
        (30, 62, "vessel", "Ves", (160, 32, 240), None),
        (31, 63, "choroid-plexus", "ChP", (0, 200, 200), (0, 200, 221)),
    ]
    single = [
        (0, "Unknown", "BG", (0, 0, 0)),
        (14, "3rd-Ventricle", "3V", (204, 182, 142)),
        (15, "4th-Ventricle", "4V", (42, 204, 164)),
        (16, "Brain-Stem", "BS", (119, 159, 176)),
        (24, "CSF", "CSF", (60, 60, 60)),
        (72, "5th-Ventricle", "5V", (120, 190, 150)),
        (77, "WM-hypointensities", "WMH", (200, 70, 255)),
        (78, "Left-WM-hypointensities", "L-WMH", (255, 148, 10)),
        (79, "Right-WM-hypointensities", "R-WMH", (255, 148, 10)),
        (80, "non-WM-hypointensities", "nWMH", (164, 108, 226)),
        (81, "Left-non-WM-hypointensities", "L-nWMH", (164, 108, 226)),
        (82, "Right-non-WM-hypointensities", "R-nWMH", (164, 108, 226)),
        (85, "Optic-Chiasm", "OC", (234, 169, 30)),
        (192, "Corpus_Callosum", "CC", (250, 255, 50)),
        (251, "CC_Posterior", "CCp", (0, 0, 64)),
        (252, "CC_Mid_Posterior", "CCmp", (0, 0, 112)),
        (253, "CC_Central", "CCc", (0, 0, 160)),
        (254, "CC_Mid_Anterior", "CCma", (0, 0, 208)),
        (255, "CC_Anterior", "CCa", (0, 0, 255)),
    ]
    rows = [Structure(*row) for row in single]
    for left, right, name, short, colour, right_colour in sided:
        rows.append(Structure(left, f"Left-{name}", f"L-{short}", colour))
        rows.append(Structure(right, f"Right-{name}", f"R-{short}", right_colour or colour))
    return {row.id: row for row in sorted(rows, key=lambda row: row.id)}


FREESURFER: dict[int, Structure] = _table()
"""Every structure we know by its FreeSurfer id, in order of id."""


@dataclass(frozen=True)
class LabelClass:
    """One class of a scheme: the FreeSurfer ``ids`` it holds; the first is the value that stands for it in files."""

    name: str
    abbreviation: str
    ids: tuple[int, ...]

    @property
    def id(self) -> int:
        """The value written for this class."""
        return self.ids[0]

    @property
    def colour(self) -> Colour:
        """Colour of the first id."""
        return FREESURFER[self.id].colour

    @property
    def hex_colour(self) -> str:
        """``#rrggbb`` of the first id."""
        return FREESURFER[self.id].hex_colour


@dataclass(frozen=True)
class LabelScheme:
    """Which structures a network or an evaluation tells apart. ``classes[c - 1]`` is class c; class 0 is background."""

    name: str
    classes: tuple[LabelClass, ...]

    def __post_init__(self) -> None:
        ids = [i for label in self.classes for i in label.ids]
        if len(set(ids)) != len(ids) or 0 in ids or not set(ids) <= set(FREESURFER):
            raise ValueError(f"scheme {self.name} holds an id twice, the background, or an id that is not in the table")

    @property
    def number_of_classes(self) -> int:
        """Classes with the background: the number of channels."""
        return len(self.classes) + 1

    @property
    def ids(self) -> tuple[int, ...]:
        """Values found in files of this scheme, without the background."""
        return tuple(label.id for label in self.classes)

    @property
    def sided(self) -> bool:
        """Whether it tells left from right."""
        return self.mirrored != tuple(range(self.number_of_classes))

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For every class (background first) the class it becomes when left and right are exchanged."""
        of_id = {i: c for c, label in enumerate(self.classes, start=1) for i in label.ids}
        return (0, *(of_id.get(mirrored_id(label.id), c) for c, label in enumerate(self.classes, start=1)))

    def classes_of(self, ids: Sequence[int]) -> list[int]:
        """The classes that stand in files for any of these FreeSurfer ids."""
        return [c for c, label in enumerate(self.classes, start=1) if label.id in ids]

    def to_classes(self, values: np.ndarray, where: str = "the label map", strict: bool = True) -> np.ndarray:
        """FreeSurfer values, any shape, to classes, uint8. Known structures outside the scheme become background.

        Cortical parcels (1000–1999 left, 2000–2999 right) count as cortex. A value that is not in the table points to
        another label convention: it raises :class:`UserError` naming ``where``, or with ``strict=False`` becomes
        background too.
        """
        values = fold_parcels(np.asarray(values))
        table = np.full(max(FREESURFER) + 1, -1, dtype=np.int16)
        table[list(FREESURFER)] = 0
        for c, label in enumerate(self.classes, start=1):
            table[list(label.ids)] = c
        if not strict:
            table[table < 0] = 0
            values = np.where((values >= 0) & (values < len(table)), values, 0)
        return np.asarray(_look_up(table, values, where, "FreeSurfer"), dtype=np.uint8)

    def to_ids(self, classes: np.ndarray) -> np.ndarray:
        """Classes 0 … C-1, any shape, to the values written to files, int16."""
        return np.asarray(np.array([0, *self.ids], dtype=np.int16)[np.asarray(classes)])


def mirrored_id(value: int) -> int:
    """The id of the same structure on the other side; itself for one that has no side."""
    name = FREESURFER[value].name
    mirrored = name.replace("Left-", "Right-") if name.startswith("Left-") else name.replace("Right-", "Left-")
    return next(row.id for row in FREESURFER.values() if row.name == mirrored)


def fold_parcels(values: np.ndarray) -> np.ndarray:
    """FreeSurfer's cortical parcels to cerebral cortex: 1000–1999 → 3, 2000–2999 → 42; other values untouched.

    Parcel 0 of each side ("unknown") and parcel 4 (corpus callosum) are no cortex and become background.
    """
    parcel = (values >= 1000) & (values < 3000)
    if not parcel.any():
        return values
    cortex = np.where(values < 2000, 3, 42)
    cortex = np.where(np.isin(values % 1000, (0, 4)), 0, cortex)
    return np.where(parcel, cortex, values)


# -- schemes ---------------------------------------------------------------------------------------------------------

_SIDED_28 = (2, 41, 3, 42, 4, 43, 7, 46, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 14, 15, 16, 17, 53, 18, 54, 24, 28, 60)
_SIDED_32 = (*_SIDED_28, 5, 44, 26, 58)

MASSES = (25, 57)
"""Ids of masses, cavities and strokes of the left and the right."""

LESION = 77
"""Id of lesions of the white matter."""

ABNORMAL = (*MASSES, LESION)
"""Ids of what is no anatomy."""


def looked_for(contrast: str | None) -> tuple[int, ...]:
    """The ids of ``ABNORMAL`` that are looked for in an image of a contrast; none where the contrast was not asked.

    Lesions of the white matter may be found elsewhere too, if they are large: there their absence says nothing.
    """
    if contrast is None:
        return ()
    return ABNORMAL if contrast == "FLAIR" else MASSES


def _each_its_own(ids: Sequence[int]) -> tuple[LabelClass, ...]:
    return tuple(LabelClass(FREESURFER[i].name, FREESURFER[i].abbreviation, (i,)) for i in sorted(ids))


def _merged(*groups: tuple[int, ...]) -> tuple[LabelClass, ...]:
    merged = []
    for ids in groups:
        row = FREESURFER[ids[0]]
        merged.append(LabelClass(row.name.removeprefix("Left-"), row.abbreviation.removeprefix("L-"), ids))
    return tuple(merged)


SCHEMES: dict[str, LabelScheme] = {
    scheme.name: scheme
    for scheme in (
        LabelScheme("tissue3", _merged((2, 41), (3, 42), (4, 43))),
        LabelScheme("tissue3_abnormal", _merged((2, 41), (3, 42), (4, 43), ABNORMAL)),
        LabelScheme("freesurfer28", _each_its_own(_SIDED_28)),
        LabelScheme("freesurfer32", _each_its_own(_SIDED_32)),
        LabelScheme("freesurfer34", (*_each_its_own(_SIDED_32), *_each_its_own((77,)), *_merged((25, 57)))),
        LabelScheme("freesurfer35", (*_each_its_own(_SIDED_32), *_each_its_own((25, 57, 77)))),
        # In the order of the paper's Table 1, which merges the sides and leaves the thalamus out.
        LabelScheme(
            "table1",
            _merged(
                *((16,), (24,), (8, 47), (7, 46), (2, 41), (12, 51), (28, 60), (13, 52), (11, 50), (4, 43)),
                *((17, 53), (14,), (15,), (18, 54), (3, 42)),
            ),
        ),
        LabelScheme("brain", (LabelClass("Brain", "Brain", (3, *(i for i in FREESURFER if i not in (0, 3, 24)))),)),
    )
}
"""``tissue3`` (the paper's three), ``tissue3_abnormal`` (these, and all of ``ABNORMAL`` in one class),
``freesurfer28`` (the paper's sided all-label set), ``freesurfer32`` (with the inferior lateral ventricles and the
accumbens areas), ``freesurfer34`` (what a network for any contrast tells apart:
``freesurfer32``, lesions of the white matter, and masses of either side in one class), ``freesurfer35`` (what is
written where abnormal tissue is: ``freesurfer32``, then ``ABNORMAL``), ``table1`` (15 merged, evaluation), ``brain``
(all in one class, but for the fluid around)."""


WITH_ABNORMAL = SCHEMES["freesurfer35"]
"""The scheme of what is written where abnormal tissue was found or drawn."""


def label_scheme(name: str) -> LabelScheme:
    """The scheme of that name. Raises :class:`UserError` for a name that is not in ``SCHEMES``."""
    if name not in SCHEMES:
        raise UserError(f"Unknown label scheme '{name}'; choose one of {', '.join(SCHEMES)}.")
    return SCHEMES[name]


def tabulated(scheme: LabelScheme) -> LabelScheme:
    """What tables list of a scheme: with the structures of ``freesurfer32`` all of ``ABNORMAL`` too, found or not."""
    healthy = SCHEMES["freesurfer32"].classes
    return WITH_ABNORMAL if scheme.classes[: len(healthy)] == healthy else scheme


# -- Neuromorphometrics (MICCAI 2012 multi-atlas labelling) ------------------------------------------------------------

# value → FreeSurfer id. Values known to the convention without a counterpart map to 0: unlabelled.
_NEUROMORPHOMETRICS: dict[int, int] = {
    **{0: 0, 4: 14, 11: 15, 15: 0, 23: 58, 30: 26, 31: 54, 32: 18, 35: 16, 36: 50, 37: 11, 38: 47, 39: 8, 40: 46},
    **{41: 7, 42: 0, 43: 0, 44: 41, 45: 2, 46: 24, 47: 53, 48: 17, 49: 44, 50: 5, 51: 43, 52: 4, 55: 52, 56: 13},
    **{57: 51, 58: 12, 59: 49, 60: 10, 61: 60, 62: 28, 63: 62, 64: 30, 65: 0, 66: 0, 69: 85, 74: 0, 75: 0, 76: 0},
    # Cortical gyri and sulci: even numbers right, odd ones left; eight numbers of the range are not used.
    **{v: 3 if v % 2 else 42 for v in range(100, 208) if v not in (110, 111, 130, 131, 158, 159, 188, 189)},
}
_VERMIS = (71, 72, 73)
_RIGHT_CEREBELLUM, _LEFT_CEREBELLUM = (38, 40), (39, 41)


def neuromorphometrics_to_freesurfer(
    values: np.ndarray, is_left: np.ndarray | None = None, where: str = "the label map"
) -> np.ndarray:
    """Manual labels of the MICCAI 2012 challenge, any shape, to FreeSurfer ids, int16; no counterpart becomes 0.

    The vermis (71–73) has no side there and two in FreeSurfer: ``is_left`` (bool, broadcastable to ``values``, see
    :func:`left_of_midline`) sends it to 8 or 47. Raises :class:`UserError` naming ``where`` for a value outside the
    convention, and ``ValueError`` when there is vermis and no ``is_left``.
    """
    values = np.asarray(values)
    table = np.full(max(_NEUROMORPHOMETRICS) + 1, -1, dtype=np.int16)
    table[list(_NEUROMORPHOMETRICS)] = list(_NEUROMORPHOMETRICS.values())
    table[list(_VERMIS)] = 0
    ids = _look_up(table, values, where, "Neuromorphometrics")
    vermis = np.isin(values, _VERMIS)
    if vermis.any():
        if is_left is None:
            raise ValueError("the vermis (71-73) needs is_left to be divided between the hemispheres")
        ids[vermis] = np.where(np.broadcast_to(is_left, values.shape)[vermis], 8, 47)
    return ids


def left_of_midline(values: np.ndarray, voxel_to_world: np.ndarray) -> np.ndarray:
    """Which voxels of a Neuromorphometrics label map (I, J, K) lie in the left half, bool (I, J, K).

    The midline is the plane half-way between the centroids of the left and the right cerebellum, at right angles to
    the line joining them (mm): the head may be turned. Raises ``ValueError`` when a side is missing.
    """
    matrix = np.asarray(voxel_to_world, dtype=np.float64)
    centroids = []
    for side in (_LEFT_CEREBELLUM, _RIGHT_CEREBELLUM):
        where = np.argwhere(np.isin(values, side))
        if not len(where):
            raise ValueError("the midline is found from both halves of the cerebellum, and one is missing")
        centroids.append(matrix[:3, :3] @ where.mean(axis=0) + matrix[:3, 3])
    to_left = centroids[0] - centroids[1]
    offset = to_left @ (matrix[:3, 3] - (centroids[0] + centroids[1]) / 2)
    per_axis = to_left @ matrix[:3, :3]
    i, j, k = (per_axis[a] * np.arange(n) for a, n in enumerate(values.shape))
    return np.asarray(i[:, None, None] + j[None, :, None] + k[None, None, :] + offset > 0)


def _look_up(table: np.ndarray, values: np.ndarray, where: str, convention: str) -> np.ndarray:
    whole = values.astype(np.int64)
    inside = (whole >= 0) & (whole < len(table))
    found: np.ndarray = table[np.where(inside, whole, 0)]
    unknown = np.unique(whole[~inside | (found < 0)])
    if len(unknown):
        shown = ", ".join(map(str, unknown[:5])) + (", …" if len(unknown) > 5 else "")
        raise UserError(f"{where} holds label values that are not {convention} labels ({shown}); convert it first.")
    return found
