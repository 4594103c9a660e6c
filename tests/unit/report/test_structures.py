"""Both sides of a pair stand together, and their difference is what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report_results import made_up_results
from uresnet.core.labels import SCHEMES
from uresnet.quality.verdict import DEFAULT_MODEL
from uresnet.report.pages.registration import registration_page
from uresnet.report.structures import groups, table_rows, why_not_predicted, words
from uresnet.results.record import InputRecord

SIDED = SCHEMES["freesurfer28"]


def test_every_structure_is_in_one_group_left_before_right() -> None:
    found = groups(SIDED.classes)
    assert len(found) == 16  # 12 pairs and 4 of the middle
    assert sorted(one.id for group in found for one in group.members) == sorted(SIDED.ids)
    thalamus = next(group for group in found if group.name == "Thalamus")
    assert [one.id for one in thalamus.members] == [10, 49]
    assert [group.name for group in found if len(group.members) == 1] == [
        "3rd Ventricle",
        "4th Ventricle",
        "Brain Stem",
        "CSF",
    ]


def test_a_side_without_its_other_keeps_its_name() -> None:
    (alone,) = groups([one for one in SIDED.classes if one.id == 49])
    assert alone.name == "Right Thalamus"


def test_rows_hold_millilitres_and_asymmetry_once_a_pair() -> None:
    volumes = {"image": dict.fromkeys(SIDED.ids, 1000.0) | {10: 9000.0, 49: 7000.0, 4: 0.0, 43: 0.0}}
    rows = {row.structure.id: row for row in table_rows(SIDED, volumes, {"Left-Thalamus": 0.8})}
    left, right = rows[10], rows[49]
    assert (left.volumes["image"], right.volumes["image"]) == (9.0, 7.0)
    assert left.asymmetry["image"] == pytest.approx(25)  # (9 − 7) / 8
    assert (left.both, right.both, rows[16].both) == (True, False, False)
    assert (left.dice, right.dice) == (0.8, None)
    assert rows[4].asymmetry["image"] is None
    assert rows[16].asymmetry["image"] is None


def test_a_page_says_why_no_dice_is_predicted() -> None:
    results = made_up_results()
    said = why_not_predicted(results.record)
    assert said.startswith("None is given, because") and f"“{results.record.model.name}”" in said
    assert "<strong>Predicted Dice:</strong> none is given, because" in registration_page(results)
    calibrated = replace(results.record, model=replace(results.record.model, sha256=DEFAULT_MODEL))
    assert why_not_predicted(calibrated) == ""  # a brain without structures has other reasons
    inputs = dict(results.record.inputs)
    inputs["fixed"] = replace(inputs["fixed"], predicted_dice={"Left-Thalamus": 0.91})
    assert why_not_predicted(replace(results.record, inputs=inputs)) == ""


def test_rows_hold_the_predicted_dice_of_each_image() -> None:
    inputs = dict(made_up_results().record.inputs)
    inputs["fixed"] = replace(inputs["fixed"], predicted_dice={"Left-Thalamus": 0.91})
    volumes = {image: dict.fromkeys(SIDED.ids, 1000.0) for image in inputs}
    rows = {row.structure.id: row for row in table_rows(SIDED, volumes, inputs=inputs)}
    assert rows[10].predicted == {"moving": None, "fixed": 0.91}
    assert rows[49].predicted == {"moving": None, "fixed": None}


def test_difference_is_relative_to_the_fixed_image() -> None:
    volumes = {"moving": dict.fromkeys(SIDED.ids, 1500.0), "fixed": dict.fromkeys(SIDED.ids, 1200.0)}
    assert table_rows(SIDED, volumes)[0].difference == pytest.approx(25)


def test_merged_structures_have_no_sides() -> None:
    scheme = SCHEMES["tissue3"]
    rows = table_rows(scheme, {"image": dict.fromkeys(scheme.ids, 1.0)})
    assert [row.both for row in rows] == [False] * 3
    assert all(row.asymmetry["image"] is None for row in rows)


def test_abnormal_tissue_that_was_not_looked_for_has_no_volume() -> None:
    """As in ``volumes.tsv``; and its sides are not compared."""
    scheme = SCHEMES["freesurfer35"]
    volumes = {"image": dict.fromkeys(scheme.ids, 1000.0) | {25: 5000.0, 57: 0.0, 77: 0.0}}
    about = InputRecord(
        path="x.nii",
        shape=(9, 9, 9),
        voxel_mm=(1.0, 1.0, 1.0),
        axes="RAS",
        brain="",
        brain_mm3=1.0,
        conformed_shape=(9, 9, 9),
        notes=(),
        contrast="T1",
    )
    rows = {row.structure.id: row for row in table_rows(scheme, volumes, None, {"image": about})}
    assert [rows[i].volumes["image"] for i in (25, 57, 77)] == [5.0, 0.0, None]
    assert rows[25].asymmetry["image"] is None and rows[10].asymmetry["image"] == 0.0
    flair = {"image": replace(about, contrast="FLAIR")}
    assert {row.structure.id: row for row in table_rows(scheme, volumes, None, flair)}[77].volumes["image"] == 0.0


def test_abnormal_tissue_has_the_names_of_the_verdict() -> None:
    """FreeSurfer calls 77 hypointensities, after T1-weighted images; in FLAIR images they are bright."""
    names = {structure.id: words(structure.name) for structure in SCHEMES["freesurfer35"].classes}
    assert (names[77], names[25], names[57]) == (
        "Lesions of the white matter",
        "Left mass, cavity or stroke",
        "Right mass, cavity or stroke",
    )
    assert [group.name for group in groups(SCHEMES["freesurfer35"].classes)][-2:] == [
        "Mass, cavity or stroke",
        "Lesions of the white matter",
    ]
