"""The command: what it writes, what it says, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from uresnet import __version__
from uresnet.cli.main import app

RUNNER = CliRunner()
SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """(moving, fixed) files."""
    folder = tmp_path_factory.mktemp("pair")
    files = []
    for name, shift in (("LAS", (0.0, 0.0, 0.0)), ("oblique", (5.0, -8.0, 3.0))):
        grid = FIELDS_OF_VIEW[name]
        files.append(str(write_nifti(brain_on(grid, shift), grid, folder / f"{name}.nii.gz")))
    return files[0], files[1]


def run(*arguments: object) -> Result:
    return RUNNER.invoke(app, [str(a) for a in arguments])


def assert_refused(result: Result, sentence: str, *absent: Path) -> None:
    """Exit 2, one sentence that ends like one, nothing on standard output, nothing written."""
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and lines[0].endswith("."), result.stderr
    assert re.search(sentence, lines[0]), lines[0]
    for path in absent:
        assert not path.exists()
        assert not path.parent.exists() or not [p for p in path.parent.iterdir() if "partial" in p.name]


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


def test_wrong_words_are_usage_errors(pair: tuple[str, str], tmp_path: Path) -> None:
    for wrong in (("--transform", "bend"), ("--brain", "maybe"), ("--threads", "0"), ("--nonsense",)):
        result = run("register", *pair, "-o", tmp_path / "out", *wrong)
        assert result.exit_code == 2 and wrong[0] in result.stderr
    assert run("register", *pair).exit_code == 2


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


def test_an_unexpected_error_is_short_unless_debugged(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uresnet.pipeline import register as registration

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(registration, "couple", broken)
    arguments = ("register", *pair, "-o", tmp_path / "out", "--model", tiny_model, "-q")
    result = run(*arguments)
    assert result.exit_code == 1 and "ZeroDivisionError: by zero" in result.stderr
    assert "Traceback" not in result.stderr and "--debug" in result.stderr
    result = run(*arguments, "--debug")
    assert result.exit_code == 1 and "Traceback" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_info_for_people_and_programs() -> None:
    assert __version__ in run("info").stdout
    facts = json.loads(run("info", "--json").stdout)
    assert facts["version"] == __version__
    assert facts["default_model"] == (facts["models"][0]["name"] if facts["models"] else None)
    for model in facts["models"]:
        assert re.fullmatch(r"[0-9a-f]{64}", model["sha256"]) and model["licence"]
    assert run("--version").stdout.strip() == f"uresnet {__version__}"


# -- as a process ------------------------------------------------------------------------------------------------------


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "uresnet", *map(str, arguments)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"},
        # A suite that was started in the background ignores Ctrl-C, and what it starts would inherit that.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "kill"])
def test_a_signal_leaves_nothing_behind(
    pair: tuple[str, str], tiny_model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    process = start("register", *pair, "-o", tmp_path / "out", "--model", tiny_model)
    assert process.stderr is not None
    first = process.stderr.readline()  # the first stage is done: the run is on its way
    assert "read" in first
    process.send_signal(number)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == code, rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_the_module_is_the_command() -> None:
    process = start("--version")
    assert process.communicate(timeout=120)[0].strip() == f"uresnet {__version__}"
    assert process.returncode == 0
