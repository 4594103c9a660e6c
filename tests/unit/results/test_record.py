"""A record is the same in memory and in its file, and a damaged file is an error that names it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from report_results import judged, made_up_results, made_up_segmentation
from uresnet.core.files import RECORD
from uresnet.errors import UserError
from uresnet.quality.verdict import judge_record
from uresnet.results.record import Measures, RunRecord, read_record


@pytest.fixture(scope="module")
def record() -> RunRecord:
    found = judged(made_up_results()).record
    return replace(found, command=("uresnet", "register"), files=("warped.nii.gz", RECORD))


def test_a_record_is_the_same_when_it_is_read_back(record: RunRecord) -> None:
    assert RunRecord.from_json(record.to_json()) == record
    fixed = replace(record.inputs["fixed"], predicted_dice={"Left-Thalamus": 0.91})
    predicted = replace(record, inputs={**record.inputs, "fixed": fixed})
    assert RunRecord.from_json(predicted.to_json()) == predicted
    alone = made_up_segmentation(made_up_results()).record
    assert RunRecord.from_json(alone.to_json()) == alone


def test_the_file_has_the_names_that_programs_read(record: RunRecord) -> None:
    tree = json.loads(record.to_json())
    assert list(tree) == [
        *("finished", "versions", "model", "device", "threads", "inputs", "seconds", "warnings", "transform"),
        *("refined", "measures", "quality", "command", "files"),
    ]
    assert tree["measures"] == {
        "folding_fraction": 0.0,
        "sd_log_jacobian": 0.1,
        "inverse_residual_mm": {"mean": 0.01, "max": 0.1},
        "brain_overlap": {"before": 0.2, "after": 0.96},
    }
    assert tree["inputs"]["moving"]["shape"] == [40, 30, 42]
    assert "intracranial_mm3" not in tree["inputs"]["moving"]  # no estimate, no name
    assert tree["quality"]["signs"]["crossed"] is None  # a sign that was not measured
    assert set(tree["quality"]) == {"verdict", "reasons", "signs"}


def test_measures_are_rounded_for_the_record_alone() -> None:
    exact = Measures(
        folding_fraction=1 / 3,
        sd_log_jacobian=0.1234567,
        inverse_mean_mm=0.0079849,
        inverse_max_mm=0.0896549,
        overlap_before=0.84543,
        overlap_after=0.98727,
    )
    kept = Measures(
        folding_fraction=1 / 3,
        sd_log_jacobian=0.12346,
        inverse_mean_mm=0.00798,
        inverse_max_mm=0.08965,
        overlap_before=0.8454,
        overlap_after=0.9873,
    )
    assert exact.rounded() == kept


def damage(tree: dict[str, Any], name: str, value: Any) -> None:
    """Put ``value`` at the place "a.b.c" of a tree, or remove the place when it is ``KeyError``."""
    *way, last = name.split(".")
    for step in way:
        tree = tree[step]
    if value is KeyError:
        del tree[last]
    else:
        tree[last] = value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("model", "default"),
        ("model.sha256", KeyError),
        ("threads", "two"),
        ("threads", True),
        ("inputs", []),
        ("inputs.moving.shape", [40, 30]),
        ("inputs.moving.shape", [40.5, 30.0, 42.0]),
        ("inputs.fixed.brain_mm3", None),
        ("seconds.total", "1"),
        ("warnings", "none"),
        ("measures.brain_overlap", KeyError),
        ("measures.brain_overlap.after", "0.9"),
        ("measures.folding_fraction", float("nan")),
        ("measures", 3),
        ("quality.verdict", "fine"),
        ("quality.signs.moving.width", "wide"),
    ],
)
def test_a_damaged_record_names_the_file_and_the_place(
    record: RunRecord, tmp_path: Path, name: str, value: Any
) -> None:
    tree = json.loads(record.to_json())
    damage(tree, name, value)
    (tmp_path / RECORD).write_text(json.dumps(tree), encoding="utf-8")
    place = "fine" if value == "fine" else name.split(".")[-1]
    with pytest.raises(UserError, match=rf"run\.json is damaged.*{place}.*run uresnet register or segment again"):
        read_record(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_file_that_is_no_record_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / RECORD).write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        read_record(tmp_path)


def test_a_folder_without_a_record_is_no_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give what uresnet register or segment wrote"):
        read_record(tmp_path)


def test_names_of_a_later_version_are_ignored(record: RunRecord) -> None:
    tree = json.loads(record.to_json())
    tree["weather"], tree["inputs"]["moving"]["scanner"] = 3, "B"
    assert RunRecord.from_json(json.dumps(tree)) == record


def test_signs_of_another_version_give_no_verdict(record: RunRecord) -> None:
    tree = json.loads(record.to_json())
    del tree["quality"]["signs"]["crossed"]
    found = RunRecord.from_json(json.dumps(tree))
    assert found.quality is not None and found.quality.signs is None
    assert judge_record(found) is None and judge_record(record) is not None
