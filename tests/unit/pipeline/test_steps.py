"""What is said of a model before it is used."""

from __future__ import annotations

import warnings

import pytest

from uresnet.errors import InputWarning
from uresnet.model.catalogue import find_model
from uresnet.pipeline.steps import ready_model


def test_a_model_that_segments_coarsely_is_told() -> None:
    with pytest.warns(InputWarning, match="The model open segments coarsely, on voxels of 2 mm: use its labels"):
        ready_model(find_model("open"), "cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ready_model(find_model("translation"), "cpu")
