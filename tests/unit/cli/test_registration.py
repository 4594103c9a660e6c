"""The verbs that run a model: what they write, what they say, what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from command import assert_refused, run


def test_register_tells_and_writes(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("register", *pair, "-o", out, "--model", tiny_model, "--threads", 1)
    assert result.exit_code == 0, result.output
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert sorted(record["files"]) == sorted(p.name for p in out.iterdir())
    assert record["command"][0] == "uresnet"
    assert "Cerebral-White-Matter" in result.stdout and str(out) in result.stdout
    assert re.search(r"couple\s+\d+\.\d s", result.stderr)


def test_formats_may_be_named_together_or_one_by_one(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    chosen = ["--export", "ants,fsl", "--export", "freesurfer"]
    done = run("register", *pair, "-o", str(out), "-m", str(tiny_model), "--no-report", *chosen)
    assert done.exit_code == 0, done.output
    written = {path.name.split("_")[0] for path in out.iterdir()}
    assert {"transform.h5", "ants", "fsl", "freesurfer"} <= written


def test_quiet_says_nothing(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    result = run("register", *pair, "-o", tmp_path / "out", "--model", tiny_model, "--quiet", "--no-report")
    assert result.exit_code == 0 and result.output == ""
    assert (tmp_path / "out" / "warped.nii.gz").is_file()


def test_segment_writes_what_it_was_asked_for(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    result = run("segment", pair[1], "-o", tmp_path / "seg.nii.gz", "--model", tiny_model)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "seg.nii.gz").is_file()
    assert all(p.name.startswith("seg") for p in tmp_path.iterdir())  # its tables are named after it
    page = (tmp_path / "seg_report.html").read_text(encoding="utf-8")
    verdict = re.search(r"^verdict (\w+): ", result.stdout, re.MULTILINE)
    assert verdict is not None
    assert f'class="verdict {verdict[1]}"' in page


def test_segment_leaves_its_page_out_when_asked(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    result = run("segment", pair[1], "-o", tmp_path / "seg.nii.gz", "--model", tiny_model, "--no-report", "-q")
    assert result.exit_code == 0 and result.output == ""
    assert not list(tmp_path.glob("*.html"))


def test_an_existing_folder_is_kept(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert_refused(run("register", *pair, "-o", tmp_path, "--model", tiny_model), "--overwrite")
    result = run("register", *pair, "-o", tmp_path, "--model", tiny_model, "--overwrite", "-q", "--no-report")
    assert result.exit_code == 0
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine" and (tmp_path / "run.json").is_file()


def test_missing_things_are_named(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    end = ("-o", out, "--model", tiny_model)
    assert_refused(run("register", tmp_path / "no.nii.gz", pair[1], *end), r"no\.nii\.gz does not exist", out)
    assert_refused(run("register", pair[0], tmp_path / "no.mgz", *end), r"no\.mgz does not exist", out)
    assert_refused(run("register", *pair, *end, "--fixed-mask", tmp_path / "m.nii"), r"m\.nii does not exist", out)
    assert_refused(run("register", *pair, "-o", out, "--model", "nobody"), "There is no model nobody", out)
    assert_refused(run("register", *pair, "-o", out, "--model", "x.safetensors"), "no model file", out)
    assert_refused(run("register", *pair, *end, "--device", "tpu"), "no device tpu", out)
    assert_refused(run("register", *pair, *end, "--device", "cuda:99"), "cuda:99 is not here", out)
    assert_refused(run("segment", pair[0], "-o", tmp_path / "a.png", "--model", tiny_model), "should end in")
    assert_refused(run("segment", pair[0], "-o", pair[0], "--model", tiny_model), "also an input")


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("truncated.nii.gz", "truncated"),
        ("empty.nii.gz", "empty"),
        ("not_gzip.nii.gz", "not an image"),
        ("pointer_file.mgz", "pointer"),
        ("time_series_4d.nii.gz", "10 volumes"),
        ("two_volumes_4d.nii.gz", "2 volumes"),
        ("all_zero.nii.gz", "only zeros"),
        ("nan_block.nii.gz", "not a number"),
        ("sheared_affine.nii.gz", "sheared"),
        ("slab_4_slices.nii.gz", "4 slices"),
        ("low_res.nii.gz", "slices"),
    ],
)
def test_odd_inputs_end_in_a_sentence(
    shared_data: Path, pair: tuple[str, str], tiny_model: Path, tmp_path: Path, name: str, sentence: str
) -> None:
    odd = shared_data / "odd_inputs" / name
    out = tmp_path / "out"
    end = ("-o", out, "--model", tiny_model, "--quiet")
    assert_refused(run("register", odd, pair[1], *end), f"{re.escape(name)}.*{sentence}", out)
    assert_refused(run("register", pair[0], odd, *end), f"{re.escape(name)}.*{sentence}", out)
    assert_refused(run("segment", odd, "-o", tmp_path / "s.nii.gz", "--model", tiny_model, "-q"), sentence)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "warning"),
    [("no_qform_sform.nii.gz", "no qform or sform"), ("one_inf.nii.gz", "infinite"), ("singleton4d.nii.gz", "")],
)
def test_odd_inputs_that_can_be_used_are(
    shared_data: Path, pair: tuple[str, str], tiny_model: Path, tmp_path: Path, name: str, warning: str
) -> None:
    odd = shared_data / "odd_inputs" / name
    result = run("register", odd, pair[1], "-o", tmp_path / "out", "--model", tiny_model, "--quiet", "--no-report")
    assert result.exit_code == 0, result.output
    assert warning in result.stderr
    warned = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["warnings"]
    assert len(warned) == result.stderr.count("warning: ")
