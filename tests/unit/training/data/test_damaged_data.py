"""Prepared data and tables that are damaged are refused in a sentence, before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uresnet.errors import UserError
from uresnet.training.data.dataset import Scan, open_dataset, write_index, write_scan
from uresnet.training.data.sources import sources_from_subjects, sources_from_table
from uresnet.training.data.tables import read_table


def prepared(folder: Path) -> Scan:
    scan = Scan("a", "a", "train")
    write_scan(folder, scan, np.zeros((4, 5, 6)), np.zeros((4, 5, 6), np.int16))
    write_index(folder, (4, 5, 6), [scan])
    return scan


@pytest.mark.parametrize(
    "change",
    [
        *({"shape": [4, 5]}, {"shape": [4, 5, 1e9]}, {"shape": [0, 5, 6]}, {"image_scale": float("nan")}),
        *({"image_scale": "1"}, {"image_scale": -1}, {"scans": 3}, {"scans": [{"id": "../../x"}]}, {"name": 3}),
        *({"scans": [{"id": "../x", "subject": "a", "split": "train"}]}, {"conform": {"zooms": [0, 1, 1]}}),
        *({"scans": [{"id": "a", "subject": "a", "split": "train"}] * 2}, {"conform": [1]}, {"format": "y" * 99_999}),
    ],
)
def test_an_index_that_cannot_be(tmp_path: Path, change: dict[str, Any]) -> None:
    prepared(tmp_path)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(UserError, match=r"dataset\.json") as caught:
        open_dataset(tmp_path)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 600


@pytest.mark.parametrize("header", [b"{'a'", b"{" * 90, b"[1, 2]", b"\xff\xfe", b"{'descr': '|O', 'shape': (1,)}", b""])
def test_an_array_whose_header_is_damaged(tmp_path: Path, header: bytes) -> None:
    scan = prepared(tmp_path)
    path = tmp_path / "a_image.npy"
    content = path.read_bytes()
    path.write_bytes(content[:10] + header.ljust(118) + content[128:])
    with pytest.raises(UserError, match=r"a_image\.npy"):
        open_dataset(tmp_path).image(scan)


def test_names_that_files_cannot_have_are_found_before_work(tmp_path: Path) -> None:
    long = "x" * 251
    (tmp_path / "t.tsv").write_text(f"id\timage\tlabels\n{long}\ta.nii\tb.nii\n", encoding="utf-8")
    with pytest.raises(UserError, match="longer than 200 bytes"):
        sources_from_table(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text(f"id\timage\tlabels\na\t{long}.nii.gz\tb.nii\n", encoding="utf-8")
    with pytest.raises(UserError, match="longer than 255 bytes"):
        sources_from_table(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_bytes(b"id\timage\tlabels\n\xff\ta.nii\tb.nii\n")
    with pytest.raises(UserError, match=r"t\.tsv is not a text file"):
        sources_from_table(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text("image\timage\n1\t2\n", encoding="utf-8")
    with pytest.raises(UserError, match="two columns of one name"):
        read_table(tmp_path / "t.tsv", ("image",))


def test_a_subject_whose_name_is_not_unicode_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "bad\udcff" / "mri").mkdir(parents=True)
    sources, skipped = sources_from_subjects(tmp_path)
    assert sources == [] and "not in UTF-8" in skipped[0].reason and skipped[0].id == "bad\\udcff"
