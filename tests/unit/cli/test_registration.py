"""The verbs that run a model: what they write, what they say, what they refuse."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import typer

from command import assert_refused, run
from report_results import made_up_results
from uresnet.cli.outcome import exit_on
from uresnet.cli.registration import _volume
from uresnet.cli.session import Session
from uresnet.core.choices import FailOn
from uresnet.core.labels import SCHEMES
from uresnet.pipeline.names import DEFAULT_OUTPUTS, registration_names, segmentation_files
from uresnet.results.record import Level, Quality
from uresnet.transform_files import FORMATS


def test_register_tells_and_writes(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run("register", *pair, "-o", out, "--model", tiny_model, "--threads", 1)
    assert result.exit_code == 0, result.output
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert sorted([*record["files"], "log.txt"]) == sorted(p.name for p in out.iterdir())
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


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> Callable[[Level], None]:
    """Sets what registrations and segmentations are judged to be."""

    def set_to(level: Level) -> None:
        reasons = () if level is Level.good else ("The brains do not match.",)
        judged = SimpleNamespace(quality=lambda signs: Quality(verdict=level, reasons=reasons, signs=None))
        for module in ("register.judge", "segment.judge_image"):
            monkeypatch.setattr(f"uresnet.pipeline.{module}", lambda *_: judged)

    return set_to


@pytest.mark.parametrize(
    ("level", "fail_on", "code"),
    [(Level.good, "look", 0), (Level.look, "look", 3), (Level.failed, None, 0)],
)
def test_a_verdict_below_good_is_never_quiet_and_can_fail(
    pair: tuple[str, str],
    tiny_model: Path,
    tmp_path: Path,
    verdict: Callable[[Level], None],
    level: Level,
    fail_on: str | None,
    code: int,
) -> None:
    verdict(level)
    end = ("--model", tiny_model, "--quiet", "--no-report", *(("--fail-on", fail_on) if fail_on else ()))
    done = [
        run("register", *pair, "-o", tmp_path / "out", *end),
        run("segment", pair[1], "-o", tmp_path / "seg.nii.gz", *end),
        run("segment", pair[1], "-o", "-", *end),
    ]
    said = "" if level is Level.good else f"verdict {level}: The brains do not match.\n"
    assert [(result.exit_code, result.stderr) for result in done] == [(code, said)] * 3
    assert [result.stdout for result in done[:2]] == ["", ""]
    assert done[2].stdout_bytes.startswith(b"\x1f\x8b")  # everything was written before the command failed
    for record in (tmp_path / "out" / "run.json", tmp_path / "seg_run.json"):
        content = json.loads(record.read_text(encoding="utf-8"))
        assert content["quality"]["verdict"] == level
        assert all((record.parent / name).is_file() for name in content["files"])
    assert (tmp_path / "out" / "warped.nii.gz").is_file()


@pytest.mark.parametrize("fail_on", [None, "failed", "look"])
def test_a_command_fails_on_the_verdict_that_is_named_or_a_worse_one(fail_on: FailOn | None) -> None:
    failing = {None: set(), "failed": {Level.failed}, "look": {Level.failed, Level.look}}[fail_on]
    for level in Level:
        others = (None, Quality(verdict=Level.good, reasons=(), signs=None))
        quality = Quality(verdict=level, reasons=(), signs=None)
        if level in failing:
            with pytest.raises(typer.Exit) as ended:
                exit_on(fail_on, *others, quality)
            assert ended.value.exit_code == 3
        else:
            exit_on(fail_on, *others, quality)


@pytest.mark.parametrize("level", [Level.good, Level.failed])
def test_the_verdict_is_said_once(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, verdict: Callable[[Level], None], level: Level
) -> None:
    """On standard error where it is below good, and always in the log."""
    verdict(level)
    end = ("--model", tiny_model, "--no-report")
    register = run("register", *pair, "-o", tmp_path / "out", *end)
    segment = run("segment", pair[1], "-o", tmp_path / "seg", *end)
    for done, log in ((register, tmp_path / "out" / "log.txt"), (segment, tmp_path / "seg" / "log.txt")):
        assert done.exit_code == 0, done.output
        said = f"verdict {level}: {'automatic checks passed' if level is Level.good else 'The brains do not match'}."
        assert (done.stdout.count(said), done.stderr.count(said)) == ((1, 0) if level is Level.good else (0, 1))
        assert log.read_text(encoding="utf-8").count(said) == 1
        assert re.search(r"^  find brain …\n(.*\n)*  find brain +\d+\.\d s$", done.stderr, re.MULTILINE)


def test_a_segmentation_leaves_its_record_and_is_never_replaced_unasked(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    command = ("segment", pair[1], "-o", tmp_path / "a_dseg.nii.gz", "--model", tiny_model, "-q")
    assert run(*command).exit_code == 0
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    record = json.loads(first["a_dseg_run.json"])
    assert sorted([*record["files"], "a_dseg_log.txt"]) == sorted(first) and record["command"][0] == "uresnet"
    assert record["inputs"]["image"]["path"] == pair[1] and record["quality"]["verdict"] in ("good", "look", "failed")
    assert_refused(run(*command), r"a_dseg\.nii\.gz exists already.* --overwrite")
    (tmp_path / "a_dseg.nii.gz").unlink()
    assert_refused(run(*command), r"a_dseg\.tsv exists already")  # each of its files counts
    assert run(*command, "--overwrite", "--no-report").exit_code == 0
    # The earlier page shows the earlier result.
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(first) - {"a_dseg_report.html"})
    assert (tmp_path / "a_dseg.nii.gz").read_bytes() == first["a_dseg.nii.gz"]


def test_what_is_in_the_way_is_found_before_any_work(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uresnet.pipeline.register.couple", lambda *_: pytest.fail("it worked in vain"))
    out = tmp_path / "out"
    (out / "warped.nii.gz").mkdir(parents=True)
    end = ("-o", out, "--model", tiny_model, "--overwrite")
    assert_refused(run("register", *pair, *end), r"warped\.nii\.gz is a folder")
    (out / "warped.nii.gz").rmdir()
    for name, options in (("volumes.tsv", ()), ("ants_1Warp.nii.gz", ("--export", "itk,ants"))):
        (out / name).write_text("mine")
        assert_refused(run("register", *pair, *end, *options), f"{name} is there already and may not be replaced")
        assert (out / name).read_text(encoding="utf-8") == "mine"
        (out / name).unlink()
    image = out / "moving.nii.gz"
    image.write_bytes(Path(pair[0]).read_bytes())
    assert_refused(run("register", image, pair[1], *end), "is an input, and lies in the folder")
    model = out / "m.safetensors"
    model.write_bytes(tiny_model.read_bytes())
    assert_refused(run("register", *pair, "-o", out, "-m", model, "--overwrite"), "is an input, and lies in the folder")
    assert sorted(path.name for path in out.iterdir()) == ["m.safetensors", "moving.nii.gz"]


@pytest.mark.parametrize("size", [250, 251, 262])
def test_names_that_will_not_fit_are_found_before_any_work(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, size: int
) -> None:
    name = "n" * (size - 7) + ".nii.gz"
    assert_refused(run("segment", pair[0], "-o", tmp_path / name, "--model", tiny_model), "too long a name")
    name = "n" * 256
    assert_refused(run("register", *pair, "-o", tmp_path / name, "--model", tiny_model), "too long a name")
    assert not list(tmp_path.iterdir())


def test_a_name_that_just_fits_is_written(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    longest = max(len(path.name) - 1 for path in segmentation_files(Path("x.nii.gz"), True).values())
    name = "n" * (255 - longest) + ".nii.gz"
    assert run("segment", pair[0], "-o", tmp_path / name, "--model", tiny_model, "-q").exit_code == 0
    assert len(list(tmp_path.iterdir())) == 10


def test_names_are_what_is_written(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    formats = [name for name in FORMATS if name != "itk"]
    out = tmp_path / "out"
    run("register", *pair, "-o", out, "--model", tiny_model, "-q", "--export", ",".join(formats))
    names = registration_names(DEFAULT_OUTPUTS, formats)
    written = {path.name for path in out.iterdir()}
    assert len(written) > 20 and written == {*names, "log.txt"}


def test_a_name_that_is_not_utf8_is_found_before_any_work(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    latin = tmp_path / os.fsdecode(b"caf\xe9.nii.gz")
    latin.write_bytes(Path(pair[0]).read_bytes())
    out = tmp_path / "out"
    assert_refused(run("register", latin, pair[1], "-o", out, "--model", tiny_model), "not UTF-8.*rename it", out)
    assert_refused(run("segment", pair[1], "-o", latin, "--model", tiny_model), "not UTF-8.*rename it")


def test_segment_writes_what_it_was_asked_for(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    result = run("segment", pair[1], "-o", tmp_path / "seg.nii.gz", "--model", tiny_model)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "seg.nii.gz").is_file()
    assert all(p.name.startswith("seg") for p in tmp_path.iterdir())  # its tables are named after it
    assert (tmp_path / "seg_run.json").is_file()
    page = (tmp_path / "seg_report.html").read_text(encoding="utf-8")
    verdict = re.search(r"^verdict (\w+): ", result.output, re.MULTILINE)
    assert verdict is not None
    assert f'class="verdict {verdict[1]}"' in page


def test_segment_leaves_its_page_out_when_asked(pair: tuple[str, str], tiny_model: Path, tmp_path: Path) -> None:
    result = run("segment", pair[1], "-o", tmp_path / "seg.nii.gz", "--model", tiny_model, "--no-report", "-q")
    assert result.exit_code == 0 and result.stdout == ""
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


def test_the_reference_is_recorded_and_refuses_what_is_not_it(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    end = ("-o", out, "--model", tiny_model, "--no-report", "--exact")
    for verb in (("register", *pair), ("segment", pair[0])):
        assert_refused(run(*verb, *end, "--device", "cuda"), "on the CPU, not on cuda; leave the device out", out)
    refused = run("register", *pair, *end, "--field-spacing", 1)
    assert_refused(refused, "--exact leaves displacements on their voxels; leave --field-spacing out", out)
    for verb in (("register", *pair), ("segment", pair[0], "--overwrite")):
        assert run(*verb, *end, "--device", "cpu").exit_code == 0
        assert json.loads((out / "run.json").read_text(encoding="utf-8"))["exact"] is True


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
    end = ("--model", tiny_model, "--brain", "none", "--quiet", "--no-report")  # stripping has tests of its own
    result = run("register", odd, pair[1], "-o", tmp_path / "out", *end)
    assert result.exit_code == 0, result.output
    assert warning in result.stderr
    warned = json.loads((tmp_path / "out" / "run.json").read_text(encoding="utf-8"))["warnings"]
    assert len(warned) == result.stderr.count("warning: ")


def test_the_time_that_is_printed_is_that_of_all_stages(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path
) -> None:
    result = run("register", *pair, "-o", tmp_path / "out", "--model", tiny_model, "--no-report")
    assert result.exit_code == 0, result.output
    stages = dict(re.findall(r"^  ([a-z ]+?) +([\d.]+) s$", result.stderr, re.MULTILINE))
    assert {"read", "couple", "write"} <= stages.keys()
    printed = float(re.findall(r"^model .* ([\d.]+) s$", result.stdout, re.MULTILINE)[0])
    assert abs(printed - sum(map(float, stages.values()))) <= 0.05 * (len(stages) + 1)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files")
def test_a_place_that_takes_no_files_is_refused_before_any_work(
    pair: tuple[str, str], tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "load_torch", lambda _: pytest.fail("the work has begun"))
    for line in (("register", *pair, "-o", "/proc/out"), ("register", *pair, "-o", "/proc/a/b")):
        assert_refused(run(*line, "--model", tiny_model), "/proc/.* cannot be written: /proc takes no new files")
    assert_refused(run("segment", pair[0], "-o", "/proc/l.nii.gz", "--model", tiny_model), "/proc takes no new files")


def test_masks_that_cannot_be_used_are_refused_before_the_model_is_loaded(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uresnet.pipeline import register as work

    monkeypatch.setattr(work, "ready_model", lambda *_: pytest.fail("the model is loaded"))
    image = nib.Nifti1Image.from_filename(pair[0])
    empty, shifted = tmp_path / "empty.nii.gz", tmp_path / "shifted.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), empty)
    moved = image.affine.copy()
    moved[0, 3] += 3
    nib.save(nib.Nifti1Image(np.ones(image.shape, np.uint8), moved), shifted)
    line = ("register", *pair, "-o", tmp_path / "out", "--model", tiny_model, "-q")
    assert_refused(run(*line, "--moving-mask", empty), r"empty\.nii\.gz is empty; give a mask that marks the brain")
    assert_refused(run(*line, "--moving-mask", shifted), r"shifted\.nii\.gz lies on another grid than")


def test_the_table_of_volumes_says_what_was_not_looked_for() -> None:
    """As volumes.tsv: lesions of the white matter are looked for in FLAIR images only."""
    pair = made_up_results()
    inputs = {"moving": replace(pair.record.inputs["moving"], contrast="T1"), "fixed": pair.record.inputs["fixed"]}
    inputs["fixed"] = replace(inputs["fixed"], contrast="FLAIR")
    volumes = {name: {2: 1e5, 25: 0.0, 77: 0.0} for name in inputs}
    record = replace(pair.record, inputs=inputs)
    result: Any = replace(pair, scheme=SCHEMES["freesurfer35"], volumes=volumes, record=record)
    shown = {i: [_volume(result, name, i) for name in inputs] for i in (2, 25, 77)}
    assert shown == {2: ["100.0", "100.0"], 25: ["0.0", "0.0"], 77: ["n/a", "0.0"]}
