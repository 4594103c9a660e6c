"""Each sign alone can spoil the verdict, nothing else can, and no broken thing is called good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from report_results import made_up_results
from uresnet.report.signs import ImageSigns, Signs, intensity_profile, measure_signs
from uresnet.report.verdict import IMAGE_RULES, PAIR_RULES, Bounds, Level, judge, judge_record

BRAIN = ImageSigns(
    brain_ml=1300,
    width=0.8,
    height=0.78,
    profile_distance=0.03,
    handedness=0.4,
    white_over_grey=1.4,
    grey_over_csf=1.5,
)
GOOD = Signs(
    mean_dice=0.8,
    dice={"Cerebral-Cortex": 0.8},
    overlap=0.98,
    correlation=0.85,
    folding_fraction=0.001,
    inverse_mean_mm=0.05,
    inverse_max_mm=1.0,
    moving=BRAIN,
    fixed=BRAIN,
)


def test_a_pair_without_a_bad_sign_is_good() -> None:
    verdict = judge(GOOD)
    assert verdict.level is Level.good
    assert verdict.reasons == []


def beyond(bounds: Bounds) -> list[tuple[float, Level]]:
    """Values just beyond each bound and what they mean."""
    wanted = [(bounds.look_below, -1e-6, Level.look), (bounds.failed_below, -1e-6, Level.failed)]
    wanted += [(bounds.look_above, 1e-6, Level.look), (bounds.failed_above, 1e-6, Level.failed)]
    return [(at + step, level) for at, step, level in wanted if at is not None]


@pytest.mark.parametrize("rule", PAIR_RULES, ids=lambda rule: rule.sign)
def test_each_sign_of_the_pair_can_spoil_it(rule) -> None:
    for value, level in beyond(rule.bounds):
        verdict = judge(replace(GOOD, **{rule.sign: value}))
        assert verdict.level is level
        assert len(verdict.reasons) == 1
        assert verdict.reasons[0].endswith(".")


@pytest.mark.parametrize("rule", IMAGE_RULES, ids=lambda rule: rule.sign)
@pytest.mark.parametrize("who", ["moving", "fixed"])
def test_each_sign_of_an_image_can_spoil_it(rule, who: str) -> None:
    for value, level in beyond(rule.bounds):
        verdict = judge(replace(GOOD, **{who: replace(BRAIN, **{rule.sign: value})}))
        assert verdict.level is level
        assert verdict.reasons[0].startswith(f"{who.capitalize()} image: ")


def test_not_a_number_is_never_good() -> None:
    for rule in PAIR_RULES:
        assert judge(replace(GOOD, **{rule.sign: float("nan")})).level is Level.failed


def test_structures_that_could_not_be_compared_call_for_a_look() -> None:
    assert judge(replace(GOOD, mean_dice=None)).level is Level.look
    without = replace(BRAIN, white_over_grey=None, grey_over_csf=None)
    assert judge(replace(GOOD, mean_dice=None, dice={}, moving=without, fixed=without)).level is Level.good


def test_a_symmetric_brain_has_no_handedness_and_may_be_good() -> None:
    assert judge(replace(GOOD, fixed=replace(BRAIN, handedness=None))).level is Level.good


def test_the_record_gives_the_verdict_back() -> None:
    bad = replace(GOOD, overlap=0.5, dice={"Cerebral-Cortex": float("nan")})
    verdict = judge(bad)
    again = judge_record(verdict.to_dict(bad))
    assert again is not None
    assert (again.level, again.reasons) == (verdict.level, verdict.reasons)
    assert judge_record({}) is None
    assert judge_record({"signs": {"moving": {}}}) is None


def test_signs_of_a_made_up_pair() -> None:
    signs = measure_signs(made_up_results())
    assert signs.overlap > 0.9
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
    one, other = measure_signs(results).fixed, measure_signs(brighter).fixed
    assert other.profile_distance == pytest.approx(one.profile_distance, abs=1e-4)
    assert other.white_over_grey == pytest.approx(one.white_over_grey, abs=1e-3)


def test_the_profile_of_a_uniform_histogram() -> None:
    # Quantiles of U(0, 1), less 0.5, over a span of 0.9.
    found = intensity_profile(np.linspace(0, 1, 10001))
    assert found == pytest.approx((np.arange(0.1, 0.95, 0.1) - 0.5) / 0.9, abs=1e-6)


def test_an_image_that_lost_its_contrast_is_not_good() -> None:
    results = made_up_results()
    assert results.moving is not None and results.moving_brain is not None
    values = torch.rand(results.moving.grid.shape, generator=torch.Generator().manual_seed(0)) * 100
    noise = replace(results.moving, data=values * results.moving_brain.mask)
    verdict = judge(measure_signs(replace(results, moving=noise)))
    assert verdict.level is not Level.good
    assert any("T1-weighted" in reason for reason in verdict.reasons)
