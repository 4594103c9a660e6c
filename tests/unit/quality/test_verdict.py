"""Each sign alone can spoil the verdict, nothing else can, and no broken thing is called good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from report_results import made_up_results, made_up_segmentation
from signs import BRAIN, GOOD, MODEL
from uresnet.core.image import LabelMap
from uresnet.core.labels import SCHEMES
from uresnet.model.catalogue import packaged_models
from uresnet.quality.signs import crossed_share, image_signs, measure_signs
from uresnet.quality.verdict import (
    IMAGE_RULES,
    MODEL_BOUNDS,
    PAIR_RULES,
    SCHEME_BOUNDS,
    Bounds,
    Rule,
    judge,
    judge_image,
    judge_record,
)
from uresnet.results.record import Level, ModelRecord
from uresnet.results.signs import PairSigns


def test_a_pair_without_a_bad_sign_is_good() -> None:
    verdict = judge(GOOD, MODEL)
    assert verdict.level is Level.good
    assert verdict.reasons == []


def beyond(bounds: Bounds) -> list[tuple[float, Level]]:
    """Values just beyond each bound and what they mean."""
    wanted = [(bounds.look_below, -1e-6, Level.look), (bounds.failed_below, -1e-6, Level.failed)]
    wanted += [(bounds.look_above, 1e-6, Level.look), (bounds.failed_above, 1e-6, Level.failed)]
    return [(at + step, level) for at, step, level in wanted if at is not None]


def changed(signs: Any, **values: Any) -> Any:
    """Signs of a pair or of an image with other values, by name."""
    return replace(signs, **values)


def own(rule: Rule) -> Bounds:
    """The bounds that hold for ``GOOD``."""
    return SCHEME_BOUNDS.get(MODEL.scheme, {}).get(rule.sign, rule.bounds)


@pytest.mark.parametrize("rule", PAIR_RULES, ids=lambda rule: rule.sign)
def test_each_sign_of_the_pair_can_spoil_it(rule) -> None:
    for value, level in beyond(own(rule)):
        verdict = judge(changed(GOOD, **{rule.sign: value}), MODEL)
        assert verdict.level is level
        assert len(verdict.reasons) == 1
        assert verdict.reasons[0].endswith(".")


@pytest.mark.parametrize("rule", IMAGE_RULES, ids=lambda rule: rule.sign)
@pytest.mark.parametrize("who", ["moving", "fixed"])
def test_each_sign_of_an_image_can_spoil_it(rule, who: str) -> None:
    for value, level in beyond(own(rule)):
        verdict = judge(changed(GOOD, **{who: changed(BRAIN, **{rule.sign: value})}), MODEL)
        assert verdict.level is level
        assert verdict.reasons[0].startswith(f"{who.capitalize()} image: ")


@pytest.mark.parametrize("rule", IMAGE_RULES, ids=lambda rule: rule.sign)
def test_each_sign_of_a_single_image_can_spoil_it(rule: Rule) -> None:
    assert judge_image(BRAIN, MODEL).level is Level.good
    for value, level in beyond(own(rule)):
        verdict = judge_image(changed(BRAIN, **{rule.sign: value}), MODEL)
        assert verdict.level is level
        assert not verdict.reasons[0].startswith("Image image")


# Signs of one brain of OASIS on voxels of 2 mm, segmented by the default model: every label is wrong in all of them.
USELESS = {
    "negative": {"distance": 7.98, "deep_over_rim": -0.244, "white_over_grey": 0.79, "lopsided": 0.087},
    "header upside down": {"distance": 1.48, "handedness": -0.122, "missing": 6},
    "two axes exchanged": {"width": 1.25, "height": 0.94, "distance": 7.63, "missing": 4, "lopsided": 0.213},
    "turned about the left-right axis": {"width": 1.07, "height": 1.33, "distance": 12.6, "missing": 1},
    "turned about the axis of the body": {"width": 1.25, "height": 0.94, "distance": 7.63, "missing": 5},
}


@pytest.mark.parametrize("values", USELESS.values(), ids=USELESS)
def test_a_useless_segmentation_has_failed(values: dict[str, float]) -> None:
    assert judge_image(changed(BRAIN, **values), MODEL).level is Level.failed


def test_bounds_of_the_model_come_before_those_of_its_structures(monkeypatch: pytest.MonkeyPatch) -> None:
    careful = replace(MODEL, sha256="1" * 64)
    monkeypatch.setattr("uresnet.quality.verdict.SCHEME_BOUNDS", {"freesurfer28": {"mean_dice": Bounds(0.7)}})
    monkeypatch.setattr("uresnet.quality.verdict.MODEL_BOUNDS", {careful.sha256: {"mean_dice": Bounds(0.9)}})
    assert judge(replace(GOOD, mean_dice=0.65), MODEL).level is Level.look
    assert judge(replace(GOOD, mean_dice=0.75), MODEL).level is Level.good
    assert judge(replace(GOOD, mean_dice=0.75), careful).level is Level.look
    assert judge(replace(GOOD, mean_dice=0.65), replace(MODEL, scheme="tissue3")).level is Level.good


def test_bounds_of_the_default_model_hold_for_its_file_and_not_for_its_name() -> None:
    shipped = packaged_models()["default"]
    assert shipped.card is not None
    default = ModelRecord(name="default", kind=shipped.card.kind, sha256=shipped.sha256, scheme=shipped.card.scheme)
    worse = replace(GOOD, mean_dice=0.70)
    assert judge(worse, default).level is Level.look
    assert judge(worse, replace(default, name="renamed")).level is Level.look
    assert judge(worse, replace(default, sha256="0" * 64)).level is Level.good


def test_small_ventricles_that_the_model_open_makes_too_large_are_no_sign_of_another_contrast() -> None:
    shipped = packaged_models()["open"]
    assert shipped.card is not None
    coarse = ModelRecord(name="open", kind=shipped.card.kind, sha256=shipped.sha256, scheme=shipped.card.scheme)
    for brightness, level in ((-0.6, Level.good), (-1.4, Level.look)):
        assert judge_image(replace(BRAIN, grey_over_csf=brightness), coarse).level is level
    assert judge_image(replace(BRAIN, grey_over_csf=-0.6), replace(coarse, sha256="0" * 64)).level is Level.look


def test_names_of_bounds_are_of_signs_that_exist() -> None:
    signs = {rule.sign for rule in (*PAIR_RULES, *IMAGE_RULES)}
    assert all(set(bounds) <= signs for bounds in (*SCHEME_BOUNDS.values(), *MODEL_BOUNDS.values()))


def test_not_a_number_is_never_good() -> None:
    for rule in PAIR_RULES:
        assert judge(changed(GOOD, **{rule.sign: float("nan")}), MODEL).level is Level.failed


def test_structures_that_could_not_be_compared_call_for_a_look() -> None:
    assert judge(replace(GOOD, mean_dice=None), MODEL).level is Level.look
    nothing = {"white_over_grey": None, "grey_over_csf": None, "labelled": None, "missing": None, "lopsided": None}
    without = replace(BRAIN, **nothing)
    assert (
        judge(replace(GOOD, mean_dice=None, crossed=None, dice={}, moving=without, fixed=without), MODEL).level
        is Level.good
    )


def test_a_symmetric_brain_has_no_handedness_and_may_be_good() -> None:
    assert judge(replace(GOOD, fixed=replace(BRAIN, handedness=None)), MODEL).level is Level.good


def test_a_brain_the_other_way_round_calls_for_a_look_and_one_that_is_hard_to_tell_does_not() -> None:
    mirrored = judge(replace(GOOD, moving=replace(BRAIN, handedness=-0.17)), MODEL)
    assert mirrored.level is Level.look
    assert "left and right may be exchanged" in mirrored.reasons[0]
    assert judge(replace(GOOD, moving=replace(BRAIN, handedness=-0.01)), MODEL).level is Level.good


def test_large_numbers_are_written_out() -> None:
    small = judge(replace(GOOD, fixed=replace(BRAIN, brain_ml=2345.6)), MODEL)
    assert "2346 ml" in small.reasons[0]


def test_what_explains_a_pair_stands_before_it_and_the_gravest_first() -> None:
    turned = replace(BRAIN, missing=9, handedness=-0.2)
    reasons = judge(replace(GOOD, mean_dice=0.1, correlation=0.5, fixed=turned), MODEL).reasons
    starts = ["Fixed image: the model did not find", "The structures of the warped", "Fixed image: left and right"]
    assert [reason.startswith(start) for reason, start in zip(reasons[:3], starts, strict=True)] == [True] * 3
    assert reasons[3].startswith("The warped and the fixed image are not similar") and len(reasons) == 4


def test_the_record_gives_the_verdict_back() -> None:
    bad = replace(GOOD, overlap=0.5, dice={"Cerebral-Cortex": None})
    verdict, record = judge(bad, MODEL), made_up_results().record
    assert judge_record(record) is None
    kept = replace(record, model=MODEL, quality=verdict.quality(bad))
    assert judge_record(kept) == verdict
    assert kept.quality is not None
    assert judge_record(replace(kept, quality=replace(kept.quality, signs=None))) is None


def test_the_record_of_a_single_image_gives_its_verdict_back() -> None:
    record = replace(made_up_segmentation(made_up_results()).record, model=MODEL)
    lopsided = replace(BRAIN, lopsided=0.9)
    verdict = judge_image(lopsided, MODEL)
    assert verdict.level is Level.failed
    assert judge_record(replace(record, quality=verdict.quality(lopsided))) == verdict


def test_the_record_keeps_five_decimals_and_none_for_what_is_not_a_number() -> None:
    signs = replace(GOOD, correlation=0.123456789, moving=replace(BRAIN, distance=float("nan"), width=0.7654321))
    kept = judge(signs, MODEL).quality(signs).signs
    assert isinstance(kept, PairSigns)
    assert (kept.correlation, kept.moving.width, kept.moving.distance) == (0.12346, 0.76543, None)


def test_signs_of_a_made_up_pair() -> None:
    results = made_up_results()
    signs = measure_signs(results)
    assert results.record.measures is not None
    assert signs.overlap == results.record.measures.overlap_after
    assert 0.5 < signs.mean_dice < 1
    assert signs.correlation > 0.7
    # An egg of 40 × 52 × 36 mm half axes, four thirds of pi times their product.
    assert signs.fixed.brain_ml == pytest.approx(313.7, rel=0.02)
    assert signs.fixed.width == pytest.approx(40 / 52, rel=0.05)
    assert signs.fixed.height == pytest.approx(36 / 52, rel=0.06)
    assert signs.fixed.white_over_grey > 1
    assert signs.fixed.grey_over_csf > 1


def test_signs_ignore_the_scale_of_intensities() -> None:
    results = made_up_results()
    assert results.fixed is not None
    brighter = replace(results, fixed=replace(results.fixed, data=results.fixed.data * 7.5))
    before, after = measure_signs(results).fixed, measure_signs(brighter).fixed
    assert after.distance == pytest.approx(before.distance, abs=1e-3)
    assert after.deep_over_rim == pytest.approx(before.deep_over_rim, abs=1e-4)
    assert after.white_over_grey == pytest.approx(before.white_over_grey, abs=1e-3)


def sided_head(results):
    """The fixed image's segmentation with the right half (the world's larger x is right) as FreeSurfer has it."""
    labels = results.fixed_segmentation
    index = np.stack(np.meshgrid(*[np.arange(n) for n in labels.grid.shape], indexing="ij"), axis=-1)
    right = (labels.grid.points_to_world(index) - labels.grid.centre_world)[..., 0] > 0
    values = labels.data.numpy()
    on_the_right = np.select([values == 2, values == 3, values == 4], [41, 42, 43], 0)
    return LabelMap(torch.from_numpy(np.where(right, on_the_right, values).astype(np.int16)), labels.grid)


def test_structures_on_the_wrong_side_are_counted() -> None:
    labels, scheme = sided_head(made_up_results()), SCHEMES["freesurfer28"]
    values = labels.data.numpy()
    swapped = np.select([values == i for i in (2, 3, 4, 41, 42, 43)], [41, 42, 43, 2, 3, 4], 0).astype(np.int16)
    assert crossed_share(labels, labels, scheme) == 0
    assert crossed_share(LabelMap(torch.from_numpy(swapped), labels.grid), labels, scheme) == 1
    # Everything called left: what is right lies on the wrong side, half of it.
    left = np.select([values == i for i in (41, 42, 43)], [2, 3, 4], values).astype(np.int16)
    assert crossed_share(LabelMap(torch.from_numpy(left), labels.grid), labels, scheme) == pytest.approx(0.5, abs=0.03)
    assert crossed_share(labels, labels, SCHEMES["tissue3"]) is None


def test_a_half_without_structures_is_lopsided() -> None:
    results, scheme = made_up_results(), SCHEMES["freesurfer28"]
    labels = sided_head(results)
    whole = image_signs(results.fixed, results.fixed_brain, labels, scheme)
    assert whole.lopsided == pytest.approx(0, abs=0.05)
    assert whole.labelled == pytest.approx(1, abs=0.02)
    assert whole.missing == 28 - 6
    half = LabelMap(labels.data * (labels.data < 40), labels.grid)
    found = image_signs(results.fixed, results.fixed_brain, half, scheme)
    assert found.lopsided == 2  # (left − 0) over the mean of left and 0
    assert found.labelled == pytest.approx(0.5, abs=0.03)
    assert found.missing == 28 - 3


def test_an_image_that_lost_its_contrast_is_not_good() -> None:
    results = made_up_results()
    assert results.moving is not None and results.moving_brain is not None
    values = torch.rand(results.moving.grid.shape, generator=torch.Generator().manual_seed(0)) * 100
    noise = replace(results.moving, data=values * results.moving_brain.mask)
    verdict = judge(measure_signs(replace(results, moving=noise)), results.record.model)
    assert verdict.level is not Level.good
    assert any("T1-weighted" in reason for reason in verdict.reasons)


def test_what_an_affine_leaves_between_two_people_is_said() -> None:
    signs = replace(GOOD, mean_dice=0.55, moving=replace(BRAIN, contrast="T1"), fixed=replace(BRAIN, contrast="T1"))
    signs = replace(signs, correlation=0.5)
    with_deformation, without = judge(signs, MODEL), judge(signs, MODEL, deforms=False)
    assert with_deformation.level is without.level is Level.look
    assert not any("without a deformation" in reason for reason in with_deformation.reasons)
    assert all("without a deformation, two people differ" in reason for reason in without.reasons)
    failed = judge(replace(signs, mean_dice=0.08), MODEL, deforms=False).reasons[0]  # what nothing excuses
    assert "0.08" in failed and "without a deformation" not in failed
    # Both were recognised as of one contrast: nobody has to check that.
    assert not any("same contrast" in reason for reason in (*with_deformation.reasons, *without.reasons))
    unknown = replace(signs, moving=replace(BRAIN, contrast="unknown"), fixed=replace(BRAIN, contrast="unknown"))
    assert any("check that both are of the same contrast" in reason for reason in judge(unknown, MODEL).reasons)
