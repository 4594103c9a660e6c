"""What is said of a model before it is used, and what is recorded of it."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from uresnet.errors import InputWarning
from uresnet.model.catalogue import find_model
from uresnet.model.checkpoint import load_model
from uresnet.pipeline.progress import Stages, silent
from uresnet.pipeline.steps import ready_model, run_record
from uresnet.results.json_values import to_json_value
from uresnet.results.record import OtherModelRecord, RunRecord


def test_a_model_that_segments_coarsely_is_told() -> None:
    with pytest.warns(InputWarning, match="The model open segments coarsely, on voxels of 2 mm: use its labels"):
        ready_model(find_model("open"), "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ready_model(find_model("translation"), "cpu")


def test_the_record_names_a_second_model_that_was_asked(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    for asked, named in ((None, None), (model, OtherModelRecord(name="tiny", sha256=model.sha256))):
        record = run_record(replace(model, specialist=asked), model.scheme, "cpu", Stages(silent), [], {})
        assert record.model.specialist == named and record.model.contrast_by is None
        assert RunRecord.from_json(json.dumps(to_json_value(record))).model == record.model
    looked = run_record(replace(model, general=model), model.scheme, "cpu", Stages(silent), [], {}).model
    assert looked.contrast_by == OtherModelRecord(name="tiny", sha256=model.sha256) and looked.specialist is None
