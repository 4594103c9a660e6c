"""How verbs end, and where they compute."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import typer

from command import run
from report_results import made_up_results, made_up_segmentation
from uresnet.cli.console import Terminal
from uresnet.cli.outcome import tell_verdict
from uresnet.cli.session import Session, session
from uresnet.errors import InputWarning, UserError
from uresnet.quality.verdict import judge_image
from uresnet.results.signs import ImageSigns


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


def test_a_note_follows_the_verdict_and_is_kept_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    made_up = made_up_segmentation(made_up_results()).record
    assert made_up.quality is not None and isinstance(made_up.quality.signs, ImageSigns)
    signs = replace(made_up.quality.signs, contrast="FLAIR", mass_ml=6.0, lesion_ml=51.0)
    record = replace(made_up, quality=judge_image(signs, made_up.model).quality(signs))
    for quiet in (False, True):
        tell_verdict(Session(Terminal(quiet), "cpu", 1), record)
        told = capsys.readouterr()
        assert "6 ml" in told.err
        assert ("51 ml look like lesions of the white matter" in told.out) is not quiet


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cpu:0", "mps:1", ""])
def test_a_device_that_is_none_is_refused(device: str) -> None:
    with pytest.raises(UserError, match="choose auto, cpu"):
        Session(Terminal(), device, None).load_torch()


def test_threads_and_the_device_are_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    try:
        assert Session(Terminal(), "cpu", 1).load_torch() == "cpu"
        assert torch.get_num_threads() == 1 and os.environ["OMP_NUM_THREADS"] == "1"
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert Session(Terminal(), "auto", None).load_torch() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Session(Terminal(), "auto", None).load_torch() == "cpu"


@pytest.mark.parametrize(
    ("failure", "code", "sentence"),
    [
        (UserError("This is wrong."), 2, "error: This is wrong.\n"),
        (UserError("a\nb\x1b[2J.nii is wrong → repair it."), 2, "error: a\\nb\\x1b[2J.nii is wrong → repair it.\n"),
        (KeyboardInterrupt(), 130, "Interrupted; no partial files are left.\n"),
        (
            MemoryError(),
            2,
            "error: The memory does not suffice; close other programs, give smaller images, or use a "
            "computer with more.\n",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            2,
            "error: The memory does not suffice; close other programs, give smaller images, or use a "
            "computer with more.\n",
        ),
        (
            PermissionError(13, "Permission denied", "/locked/a.nii"),
            2,
            "error: /locked/a.nii cannot be used (Permission denied); check its permissions, its folder and the free "
            "space.\n",
        ),
        (KeyError("x"), 1, "unexpected error: KeyError: 'x' (add --debug to see the traceback)\n"),
    ],
)
def test_failures_become_sentences_and_exit_codes(
    capsys: pytest.CaptureFixture[str], failure: BaseException, code: int, sentence: str
) -> None:
    with pytest.raises(typer.Exit) as end, session():
        raise failure
    assert end.value.exit_code == code
    assert capsys.readouterr() == ("", sentence)


def test_warnings_about_inputs_are_sentences_and_others_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(UserWarning, match="outer"):
        warnings.warn("outer", UserWarning, stacklevel=1)
        with session(quiet=True):
            warnings.warn("A\nheader is odd.", InputWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: A\\nheader is odd.\n"


def test_threads_are_no_more_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", str(before))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    try:
        with pytest.warns(InputWarning, match="999 threads are more than there are cores; limited to 2"):
            Session(Terminal(), "cpu", 999).load_torch()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_too_little_memory_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    resource = pytest.importorskip("resource")
    limits = {getattr(resource, kind): (1_000_000 * 1024, -1)}
    monkeypatch.setattr(resource, "getrlimit", lambda asked: limits.get(asked, (resource.RLIM_INFINITY, -1)))
    with pytest.raises(UserError, match=r"only 1\.0 GB of memory, and needs 2\.5 GB"):
        Session(Terminal(), "cpu", None).load_torch()
