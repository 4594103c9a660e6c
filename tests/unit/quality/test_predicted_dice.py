"""The predicted Dice: its formula, by hand, who gets one, and where it is shown."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest

from report_results import SIDED, judged, made_up_results, made_up_segmentation
from uresnet.core.labels import ABNORMAL, SCHEMES
from uresnet.measures.volumes import PREDICTED_DICE
from uresnet.model.catalogue import packaged_models
from uresnet.quality.predicted_dice import CALIBRATIONS, Calibration, predicted_dice
from uresnet.report.pages.registration import registration_page
from uresnet.report.pages.segmentation import segmentation_page

DEFAULT = packaged_models()["default"].sha256


def test_log_odds_are_scaled_and_shifted() -> None:
    """Odds of 9 to 1, squared, divided by 3: 27 to 1."""
    calibration = Calibration(2.0, {10: -log(3)})
    assert calibration.predict(10, 0.9) == pytest.approx(27 / 28)
    assert calibration.predict(49, 0.9) == pytest.approx(27 / 28)  # both sides
    assert calibration.predict(11, 0.9) is None


@pytest.mark.parametrize("sha256", CALIBRATIONS)
def test_what_is_more_certain_is_expected_to_be_better(sha256: str) -> None:
    for structure in SCHEMES["freesurfer32"].ids:
        found = [CALIBRATIONS[sha256].predict(structure, value) for value in (0.0, 0.3, 0.6, 0.9, 0.97, 1.0)]
        numbers = [value for value in found if value is not None]
        assert len(numbers) == 6 and numbers == sorted(numbers)
        assert 0 < numbers[0] < 0.1 and 0.9 < numbers[-1] < 1


def test_a_structure_that_was_found_has_one_by_its_name() -> None:
    found = predicted_dice({10: 0.97, 49: 0.96, **dict.fromkeys(ABNORMAL, 0.9)}, DEFAULT)
    assert found is not None and list(found) == ["Left-Thalamus", "Right-Thalamus"]
    assert 0.8 < found["Right-Thalamus"] < found["Left-Thalamus"] < 0.97
    assert all(round(value, 3) == value for value in found.values())


def test_other_models_have_none() -> None:
    assert predicted_dice({10: 0.97}, packaged_models()["paper"].sha256) is None
    assert predicted_dice(None, DEFAULT) is None


def test_pages_show_it_where_there_is_one() -> None:
    pair = judged(made_up_results(scheme=SIDED))
    alone = made_up_segmentation(pair)
    for without in (registration_page(pair), segmentation_page(alone)):
        assert 'wide-only">Predicted Dice' not in without and 'number">Predicted Dice' not in without
        assert "Predicted Dice:</strong> none is given" in without
    inputs = {name: replace(image, predicted_dice={"CSF": 0.123}) for name, image in pair.record.inputs.items()}
    page = registration_page(replace(pair, record=replace(pair.record, inputs=inputs)))
    for cell in ('<td class="number wide-only">0.12</td>', '<small class="narrow-only">0.12</small>'):
        assert page.count(cell) == 2  # moving and fixed
    image = replace(alone.record.inputs["image"], predicted_dice={"CSF": 0.123})
    other = segmentation_page(replace(alone, record=replace(alone.record, inputs={"image": image})))
    assert other.count('<td class="number">0.12</td>') == 1
    for html in (page, other):
        assert PREDICTED_DICE[1:].replace("'", "&#39;") in html
