"""What abnormal tissue does to the verdict, and what is said of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report_results import made_up_results
from signs import BRAIN, GOOD, MODEL
from uresnet.core.image import LabelMap
from uresnet.core.labels import SCHEMES
from uresnet.quality.signs import measure_signs, structure_dice
from uresnet.quality.verdict import judge, judge_image, told_abnormal_ml
from uresnet.results.record import Level


def test_abnormal_tissue_is_a_mass_and_no_structure_that_has_to_agree() -> None:
    """A class that holds masses and lesions of both sides, found in the fixed image alone: its Dice is 0."""
    results = made_up_results()
    before = measure_signs(results)
    labels = results.fixed_segmentation
    values = labels.data.clone()
    values[:2, :2, :2] = 25
    painted = LabelMap(values, labels.grid)
    after = measure_signs(replace(results, fixed_segmentation=painted, scheme=SCHEMES["tissue3_abnormal"]))
    assert after.dice["Lesion"] == 0
    assert after.mean_dice == pytest.approx(before.mean_dice, abs=0.01)
    assert after.fixed.mass_ml == pytest.approx(8 * labels.grid.voxel_volume / 1000)
    assert after.moving.mass_ml == 0  # the network looks for it in both


def test_where_nobody_looked_for_a_mass_there_is_no_figure_of_it() -> None:
    """Both images of a pair have the classes of the one in which a mass was drawn, or found."""
    results = made_up_results()
    values = results.fixed_segmentation.data.clone()
    values[:2, :2, :2] = 25
    painted = LabelMap(values, results.fixed_segmentation.grid)
    signs = measure_signs(replace(results, fixed_segmentation=painted, scheme=SCHEMES["freesurfer35"]))
    assert signs.fixed.mass_ml and signs.moving.mass_ml is None


def test_what_was_drawn_is_not_called_a_mass() -> None:
    found = replace(BRAIN, contrast="FLAIR", mass_ml=2.4)
    for image, said, title in (
        (found, "Tissue looks abnormal (a mass, a cavity or a stroke)", "Mass, cavity or stroke"),
        (
            replace(found, drawn_ml=1.3),
            "The tissue that you have drawn counts as abnormal",
            "Abnormal tissue, drawn or",
        ),
        (
            replace(found, drawn_ml=2.4, contrast=None),  # nobody looked for more
            "The tissue that you have drawn counts as abnormal: volumes near it",
            "Abnormal tissue, drawn",
        ),
        (
            replace(found, drawn_ml=2.35),  # and nothing more was found
            "The tissue that you have drawn counts as abnormal: volumes near it",
            "Abnormal tissue, drawn",
        ),
    ):
        verdict = judge_image(image, MODEL)
        assert verdict.level is Level.look
        assert verdict.reasons[0].startswith(said) and "2.4 ml" in verdict.reasons[0]
        assert [f.rule.title.startswith(title) for f in verdict.findings if f.rule.sign == "mass_ml"] == [True]
    pair = judge(replace(GOOD, moving=replace(found, drawn_ml=1.3)), MODEL)
    assert any(reason.startswith("Moving image: the tissue that you have drawn") for reason in pair.reasons)
    assert any("with what was found beside it: registration matches nothing" in reason for reason in pair.reasons)
    assert not any("registration" in reason for reason in judge_image(found, MODEL).reasons)
    results = made_up_results()
    assert measure_signs(results).fixed.drawn_ml is None
    known = replace(results.record.inputs["fixed"], drawn_mm3=1500.0)
    record = replace(results.record, inputs={**results.record.inputs, "fixed": known})
    signs = measure_signs(replace(results, record=record))
    assert (signs.fixed.drawn_ml, signs.moving.drawn_ml) == (1.5, None)


def test_lesions_of_the_white_matter_are_told_and_lower_no_verdict() -> None:
    labels = made_up_results().fixed_segmentation
    for contrast, painted, told in (
        ("FLAIR", True, True),
        ("FLAIR", False, False),
        ("T2", True, True),
        ("T2", False, False),
    ):
        results = made_up_results()
        known = replace(results.record.inputs["fixed"], contrast=contrast)
        values = labels.data.clone()
        if painted:  # a part of the white matter: very much is told by a reason instead
            values[24:][values[24:] == 2] = 77
        results = replace(
            results,
            record=replace(results.record, inputs={**results.record.inputs, "fixed": known}),
            fixed_segmentation=LabelMap(values, labels.grid),
            scheme=SCHEMES["freesurfer35"],
        )
        signs = measure_signs(results)
        ml = float((values == 77).sum()) * labels.grid.voxel_volume / 1000
        # Outside FLAIR images they are not looked for, but what is found round a mass is measured.
        assert signs.fixed.lesion_ml == (pytest.approx(ml) if contrast == "FLAIR" or painted else None)
        assert signs.moving.lesion_ml is None
        notes = judge(signs, MODEL).notes
        assert [note.startswith(f"Fixed image: {ml:.3g} ml look like lesions") for note in notes] == [True] * told
        alone = judge_image(signs.fixed, MODEL).notes
        assert ["registration" in note for note in alone] == [False] * told
    good = replace(GOOD, fixed=replace(BRAIN, contrast="FLAIR", lesion_ml=50.0))
    assert judge(good, MODEL).level is judge(replace(good, fixed=replace(BRAIN, contrast="FLAIR")), MODEL).level
    assert judge_image(replace(BRAIN, contrast="FLAIR", lesion_ml=0.9), MODEL).notes == ()
    beside = judge_image(replace(BRAIN, contrast="T2", mass_ml=80.0, lesion_ml=30.0), MODEL)
    assert beside.notes[0].startswith("30 ml look like lesions of the white matter or swelling round the mass (id 77)")
    lopsided = judge_image(replace(BRAIN, contrast="T2", mass_ml=80.0, lopsided=0.2), MODEL)
    assert any("as they may be beside abnormal tissue" in reason for reason in lopsided.reasons)
    assert any("check that no part" in r for r in judge_image(replace(BRAIN, lopsided=0.2), MODEL).reasons)
    assert any("80 ml; good is none)" in reason for reason in lopsided.reasons)
    assert judge_image(replace(BRAIN, contrast="FLAIR", lesion_ml=1.0), MODEL).notes[0].startswith("1 ml look like")


@pytest.mark.parametrize(("moving", "dice"), [("T1", None), (None, None), ("FLAIR", 0.0)])
def test_abnormal_tissue_that_was_looked_for_in_one_image_alone_has_no_dice(moving: str | None, dice: float) -> None:
    results = made_up_results()
    values = results.fixed_segmentation.data.clone()
    values[:2, :2, :2] = 77
    contrasts = {"moving": moving, "fixed": "FLAIR"}
    inputs = {name: replace(image, contrast=contrasts[name]) for name, image in results.record.inputs.items()}
    results = replace(
        results,
        record=replace(results.record, inputs=inputs),
        fixed_segmentation=LabelMap(values, results.fixed_segmentation.grid),
        scheme=SCHEMES["freesurfer35"],
    )
    found = structure_dice(results)
    assert found["WM-hypointensities"] == dice
    assert found["Left-Cerebral-White-Matter"] > 0.5


@pytest.mark.parametrize(("ml", "level"), [(None, Level.good), (50.0, Level.good), (72.0, Level.look)])
def test_very_much_abnormal_white_matter_asks_for_a_look(ml: float | None, level: Level) -> None:
    flair = replace(BRAIN, contrast="FLAIR", lesion_ml=ml)
    for verdict in (judge_image(flair, MODEL), judge(replace(GOOD, moving=flair), MODEL)):
        assert verdict.level is level
        assert any("it may be a tumour" in reason for reason in verdict.reasons) is (level is Level.look)
        assert bool(verdict.notes) is (ml == 50.0)


def test_how_much_abnormal_tissue_is_worth_a_word() -> None:
    record = made_up_results().record
    for mass, lesion, told in ((None, None, 0.0), (0.3, 0.9, 0.3), (2.0, 1.5, 3.5), (None, 1.0, 1.0), (0.0, 0.99, 0.0)):
        signs = replace(BRAIN, mass_ml=mass, lesion_ml=lesion)
        quality = judge_image(signs, MODEL).quality(signs)
        assert told_abnormal_ml(replace(record, quality=quality)) == pytest.approx(told)
    assert told_abnormal_ml(replace(record, quality=None)) == 0


def test_so_much_of_a_brain_is_no_mass() -> None:
    """The larger half of a brain: an image that is damaged, or of a contrast that was not recognised."""
    for ml, level in ((300.0, Level.look), (590.0, Level.failed)):
        assert judge_image(replace(BRAIN, contrast="FLAIR", mass_ml=ml), MODEL).level is level


def test_what_was_not_looked_for_is_not_called_good() -> None:
    findings = {finding.rule.sign: finding for finding in judge_image(replace(BRAIN, mass_ml=None), MODEL).findings}
    assert findings["mass_ml"].judgement == "not judged" and findings["mass_ml"].wanted == "none"
    assert findings["brain_ml"].judgement == "good"
    unknown = judge_image(replace(BRAIN, labelled=None), MODEL)
    assert next(f for f in unknown.findings if f.rule.sign == "labelled").judgement == "look"
