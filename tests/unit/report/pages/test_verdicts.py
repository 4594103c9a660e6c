"""What a page asks to do next depends on its verdict, and it names the licence of the weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from report_results import judged, made_up_results, made_up_segmentation
from signs import BRAIN
from uresnet.quality.verdict import judge_image
from uresnet.report.pages import registration_page, segmentation_page
from uresnet.results.record import Level
from uresnet.results.registration import RegisteredPair


@pytest.fixture(scope="module")
def pair() -> RegisteredPair:
    return made_up_results()


@pytest.mark.parametrize(("missing", "level"), [(0, Level.good), (1, Level.look), (20, Level.failed)])
def test_a_failed_result_invites_nobody_to_use_it(pair: RegisteredPair, missing: int, level: Level) -> None:
    found = judged(pair, moving=BRAIN, fixed=replace(BRAIN, missing=missing), correlation=0.9)
    page = registration_page(found)
    assert found.verdict is level and "Look first" in page
    assert ("Do not use</dt>" in page) == (level is Level.failed)
    for invitation in ("Use next", "Use the transform elsewhere", "antsApplyTransforms", "uresnet apply"):
        assert (invitation in page) != (level is Level.failed), invitation
    alone = made_up_segmentation(pair)
    signs = replace(BRAIN, missing=missing)
    record = replace(alone.record, quality=judge_image(signs, alone.record.model).quality(signs))
    page = segmentation_page(replace(alone, record=record))
    assert ("Use next" not in page) == ("Do not use</dt>" in page) == (level is Level.failed)


@pytest.mark.parametrize(
    ("licence", "said"), [("CC BY-NC 4.0", "<dd>CC BY-NC 4.0</dd>"), ("", "<dd>none stated</dd>"), (None, "")]
)
def test_a_page_names_the_licence_of_the_weights(pair: RegisteredPair, licence: str | None, said: str) -> None:
    model = replace(pair.record.model, licence=licence)
    alone = made_up_segmentation(judged(replace(pair, record=replace(pair.record, model=model))))
    page = segmentation_page(alone)
    assert ("Licence of its weights" in page) == bool(said) and said in page


def test_nobody_is_sent_to_lesions_that_do_not_match(pair: RegisteredPair) -> None:
    dice = {"WM-hypointensities": 0.0, "Left-Caudate": 0.7, "Left-Lesion": 0.1, "Left-Putamen": 0.9}
    page = registration_page(judged(pair, moving=BRAIN, fixed=BRAIN, dice=dice))
    assert "match least are left caudate (Dice 0.70) and left putamen (Dice 0.90)" in page
