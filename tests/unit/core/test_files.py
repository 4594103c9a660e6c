"""Results are whole or absent, and what is not ours stays."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from uresnet.core.files import (
    RECORD,
    check_exist,
    check_output_file,
    check_output_folder,
    fresh_files,
    fresh_folder,
    split_series,
    write_bytes,
    write_text,
    written_whole,
)
from uresnet.core.temporary import new_name
from uresnet.errors import UserError


def write_run(folder: Path, names: list[str], overwrite: bool = False) -> None:
    with fresh_folder(folder, overwrite) as beside:
        for name in names:
            (beside / name).write_text(f"new {name}")
        (beside / RECORD).write_text(json.dumps({"files": [*names, RECORD]}))


def listing(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    write_run(tmp_path / "a" / "out", ["x"])
    assert listing(tmp_path / "a") == ["out"]
    assert listing(tmp_path / "a" / "out") == [RECORD, "x"]


def test_an_error_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fresh_folder(tmp_path / "out") as beside:
        (beside / "x").write_text("half")
        raise ZeroDivisionError
    assert listing(tmp_path) == []


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit, OSError])
def test_an_interrupted_overwrite_leaves_the_earlier_run(tmp_path: Path, how: type[BaseException]) -> None:
    write_run(tmp_path / "out", ["x"])
    before = (tmp_path / "out" / "x").read_text(encoding="utf-8")
    with pytest.raises(how), fresh_folder(tmp_path / "out", overwrite=True) as beside:
        (beside / "x").write_text("half")
        raise how
    assert listing(tmp_path) == ["out"]
    assert listing(tmp_path / "out") == [RECORD, "x"]
    assert (tmp_path / "out" / "x").read_text(encoding="utf-8") == before


def test_overwriting_replaces_our_files_and_keeps_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_run(out, ["old", "both"])
    (out / "notes.txt").write_text("mine")
    write_run(out, ["new", "both"], overwrite=True)
    assert listing(out) == ["both", "new", "notes.txt", RECORD]
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_record_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / RECORD).write_text(json.dumps({"files": ["../precious", "/etc/hostname", RECORD]}))
    write_run(out, ["x"], overwrite=True)
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "mine"


def test_an_existing_folder_needs_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="overwrite=True"):
        check_output_folder(tmp_path / "out", overwrite=False)
    check_output_folder(tmp_path / "out", overwrite=True)


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(UserError, match="is a file"):
        check_output_folder(tmp_path / "f", overwrite=True)
    with pytest.raises(UserError, match="cannot be written"):
        check_output_folder(tmp_path / "f" / "out", overwrite=False)


def test_output_files(tmp_path: Path) -> None:
    source = tmp_path / "image.nii.gz"
    source.write_bytes(b"")
    check_output_file(tmp_path / "result.nii.gz", (".nii.gz",), (source,))
    with pytest.raises(UserError, match="also an input"):
        check_output_file(tmp_path / "." / "image.nii.gz", (".nii.gz",), (source,))
    with pytest.raises(UserError, match=r"should end in \.nii\.gz"):
        check_output_file(tmp_path / "result.png", (".nii.gz",))
    (tmp_path / "d.nii.gz").mkdir()
    with pytest.raises(UserError, match="is a folder"):
        check_output_file(tmp_path / "d.nii.gz", (".nii.gz",))


def test_permissions_follow_the_user(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    write_run(tmp_path / "out", ["x"])
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_file_in_a_folder_that_does_not_exist_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="its folder does not exist; create it first"):
        check_output_file(tmp_path / "none" / "labels.nii.gz", (".nii.gz",))
    check_output_file(tmp_path / "labels.nii.gz", (".nii.gz",))


def test_nothing_half_written(tmp_path: Path) -> None:
    target = tmp_path / "a.nii.gz"
    target.write_bytes(b"what was there before")
    with pytest.raises(RuntimeError), written_whole(target) as beside:
        beside.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"what was there before"
    assert list(tmp_path.iterdir()) == [target]
    with written_whole(target) as beside:
        assert beside.name.endswith(".nii.gz")
        beside.write_bytes(b"whole")
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    write_text("é\n", tmp_path / "a.txt")
    write_bytes(b"\x00\r\n", str(tmp_path / "b"))
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\n"
    assert (tmp_path / "b").read_bytes() == b"\x00\r\n"
    assert listing(tmp_path) == ["a.txt", "b"]


def test_a_failed_write_is_a_sentence_and_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(UserError, match="its folder does not exist; create it first"):
        write_text("after", tmp_path / "none" / "a.txt")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_text("after", tmp_path / "a.txt")
    assert listing(tmp_path) == ["a.txt"] and (tmp_path / "a.txt").read_text(encoding="utf-8") == "before"


def test_inputs_have_to_exist(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "image.nii").write_bytes(b"x")
    check_exist(tmp_path / "image.nii", None, tmp_path / "scans", Path(f"{tmp_path}/scans#2"))
    for name in ("none.nii", "none#2", "scans#two", "scans#"):
        with pytest.raises(UserError, match=f"{name} does not exist; check the path"):
            check_exist(tmp_path / "image.nii", tmp_path / name)
    (tmp_path / "link.nii").symlink_to(tmp_path / "none.nii")
    with pytest.raises(UserError, match=r"link\.nii is a link to a file that is not here"):
        check_exist(tmp_path / "link.nii")


def test_one_series_of_a_folder(tmp_path: Path) -> None:
    assert split_series(Path("scans#2")) == (Path("scans"), 2)
    for name in ("scans", "scans#two", "#2a"):
        assert split_series(Path(name)) == (Path(name), None)
    (tmp_path / "odd#3").mkdir()
    assert split_series(tmp_path / "odd#3") == (tmp_path / "odd#3", None)


# -- replacing ---------------------------------------------------------------------------------------------------------


class Failing:
    """``Path.replace`` that fails at its n-th call, or from there on."""

    def __init__(self, at: int, how: BaseException, ever_after: bool) -> None:
        self.at, self.how, self.ever_after, self.calls = at, how, ever_after, 0
        self.replace = Path.replace

    def __call__(self, path: Path, target: Path) -> Path:
        self.calls += 1
        if self.calls == self.at or (self.ever_after and self.calls > self.at):
            raise self.how
        return self.replace(path, target)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("how", [OSError(5, "Input/output error"), KeyboardInterrupt(), SystemExit(143)], ids=repr)
@pytest.mark.parametrize("at", range(1, 8))
def test_a_replacement_that_fails_anywhere_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, how: BaseException
) -> None:
    out = tmp_path / "out"
    write_run(out, ["both", "old"])
    (out / "both").write_text("earlier")
    (out / "notes.txt").write_text("mine")
    before = contents(out)
    failing = Failing(at, how, ever_after=False)
    with monkeypatch.context() as patch, pytest.raises((UserError, KeyboardInterrupt, SystemExit)):
        patch.setattr(Path, "replace", lambda path, target: failing(path, target))
        write_run(out, ["both", "new"], overwrite=True)
        raise SystemExit  # more calls than there are: 3 go, 3 come
    if at <= 6:
        assert contents(out) == before and listing(tmp_path) == ["out"]
        assert sorted(before) == listing(out)
    else:
        assert sorted(contents(out)) == ["both", "new", "notes.txt", RECORD]


@pytest.mark.parametrize("at", range(1, 7))
def test_what_a_killed_process_left_is_put_back_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """No rename works from some moment on, not even those that undo: the state that SIGKILL leaves."""
    out = tmp_path / "out"
    write_run(out, ["both", "old"])
    (out / "both").write_text("earlier")
    before = contents(out)
    with monkeypatch.context() as patch, pytest.raises(BaseException):  # noqa: B017  whatever it ends in
        failing = Failing(at, KeyboardInterrupt(), ever_after=True)
        patch.setattr(Path, "replace", lambda path, target: failing(path, target))
        write_run(out, ["both", "new"], overwrite=True)
    check_output_folder(out, overwrite=True)
    assert contents(out) == before and listing(out) == sorted(before)
    write_run(out, ["both", "new"], overwrite=True)
    assert listing(out) == ["both", "new", RECORD]


def test_a_folder_in_place_of_a_file_is_an_error_and_nothing_is_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_run(out, ["x", "y"])
    (out / "y").unlink()
    (out / "y").mkdir()
    (out / "y" / "precious").write_text("mine")
    with pytest.raises(UserError, match=r"out/y is a folder"):
        check_output_folder(out, True, names=("x", "y"))
    with pytest.raises(UserError, match=r"out/y is a folder"):
        write_run(out, ["x", "y"], overwrite=True)
    assert listing(out) == [RECORD, "x", "y"] and (out / "y" / "precious").is_file()
    write_run(out, ["x", "z"], overwrite=True)  # what is listed, and a folder, stays
    assert listing(out) == [RECORD, "x", "y", "z"]


@pytest.mark.parametrize("names", [[".."], ["sub"], ["sub/deep"], [""], ["."], [3, None], "x", ["x\0"]])
def test_a_record_that_lists_what_is_no_file(tmp_path: Path, names: object) -> None:
    out = tmp_path / "out"
    (out / "sub").mkdir(parents=True)
    (out / "sub" / "deep").write_text("mine")
    listed = [*names, RECORD] if isinstance(names, list) else names
    (out / RECORD).write_text(json.dumps({"files": listed}))
    with suppress(UserError):
        write_run(out, ["new"], overwrite=True)
    assert (out / "sub" / "deep").read_text(encoding="utf-8") == "mine"
    assert listing(tmp_path) == ["out"] and (out / RECORD).is_file()
    assert listing(out) in ([RECORD, "sub"], ["new", RECORD, "sub"])


@pytest.mark.parametrize("record", [None, "{", "[]", '{"files": 3}'])
def test_a_foreign_file_in_a_folder_without_a_record_is_never_replaced(tmp_path: Path, record: str | None) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "x").write_text("mine")
    if record is not None:
        (out / RECORD).write_text(record)
    before = contents(out)
    with pytest.raises(UserError, match="may not be replaced"):
        check_output_folder(out, overwrite=True, names=("x", "ants_*"))
    with pytest.raises(UserError, match="may not be replaced"):
        write_run(out, ["x"], overwrite=True)
    assert contents(out) == before and listing(out) == sorted(before)


def test_of_two_runs_on_one_new_folder_one_wins_and_the_other_says_so(tmp_path: Path) -> None:
    for overwrite in (False, True):
        out = tmp_path / f"out{overwrite}"
        with pytest.raises(UserError, match="written by another run"), fresh_folder(out, overwrite) as beside:
            (beside / "x").write_text("second")
            write_run(out, ["x"])
        assert (out / "x").read_text(encoding="utf-8") == "new x"
        assert listing(out) == [RECORD, "x"]
    assert listing(tmp_path) == ["outFalse", "outTrue"]


def test_an_input_in_the_output_folder_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_run(out, ["warped.nii"])
    (tmp_path / "link").symlink_to(out)
    for path in (out / "warped.nii", tmp_path / "link" / "warped.nii", out):
        with pytest.raises(UserError, match="is an input, and lies in the folder"):
            check_output_folder(out, True, (None, path))
    check_output_folder(out, True, (tmp_path / "elsewhere.nii",))


def test_files_that_come_together(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    with pytest.raises(UserError, match="may not be replaced"), fresh_files(tmp_path) as beside:
        (beside / "a").write_text("1")
        (beside / "b").write_text("2")
    assert contents(tmp_path) == {"b": "mine"} and listing(tmp_path) == ["b"]
    with pytest.raises(ZeroDivisionError), fresh_files(tmp_path, overwrite=True) as beside:
        (beside / "b").write_text("half")
        raise ZeroDivisionError
    assert contents(tmp_path) == {"b": "mine"} and listing(tmp_path) == ["b"]
    for name in ("a", "c"):
        with fresh_files(tmp_path, overwrite=True, record="r.json") as beside:
            (beside / name).write_text(name)
            (beside / "r.json").write_text(json.dumps({"files": [name, "r.json"]}))
    assert listing(tmp_path) == ["b", "c", "r.json"]


# -- names, links and full disks ---------------------------------------------------------------------------------------


def test_names_are_checked(tmp_path: Path) -> None:
    fits = tmp_path / ("n" * 248 + ".nii.gz")
    write_text("x", fits)  # a temporary name that grew with it would not fit
    assert fits.is_file() and listing(tmp_path) == [fits.name]
    for path in ("n" * 249 + ".nii.gz", "é" * 125 + ".nii.gz"):
        with pytest.raises(UserError, match="too long a name") as caught:
            check_output_file(tmp_path / path, (".nii.gz",))
        assert len(str(caught.value)) < 400
    with pytest.raises(UserError, match="too long a name"):
        check_output_folder(tmp_path / ("n" * 256), False)
    with pytest.raises(UserError, match="too long a name"):
        check_output_folder(tmp_path / ("n" * 256) / "out", False)
    with pytest.raises(UserError, match="too long a path"):
        check_output_folder(tmp_path / Path(*["n" * 200] * 21), False)


@pytest.mark.parametrize("name", ["a\udce9.nii.gz", "a\ud800.nii.gz", "a\0.nii.gz"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    for check in (lambda path: check_exist(path), lambda path: check_output_file(path, (".nii.gz",))):
        with pytest.raises(UserError, match=r"rename it|zero byte"):
            check(tmp_path / name)
    with pytest.raises(UserError, match=r"rename it|zero byte"):
        check_output_folder(tmp_path / name, False)


def test_a_planted_link_is_never_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "victim").write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")
    new_name(out, ".txt").symlink_to(tmp_path / "victim")
    with pytest.raises(UserError, match="File exists"):
        write_text("theirs", out / "a.txt")
    new_name(tmp_path, ".partial").symlink_to(tmp_path)
    with pytest.raises(UserError, match="File exists"), fresh_folder(tmp_path / "new"):
        pass
    assert (tmp_path / "victim").read_text(encoding="utf-8") == "mine"


def test_temporary_names_differ(tmp_path: Path) -> None:
    seen = set()
    for _ in range(5):
        with written_whole(tmp_path / "a.nii.gz") as beside:
            seen.add(beside.name)
            assert beside.stat().st_size == 0
    assert len(seen) == 5 and all(len(name) > 20 for name in seen)


def test_what_hdf5_hides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Can't synchronously write data (file write failed, errno = 28, error message = 'No space left on device')"
    with pytest.raises(UserError, match="No space left on device"), written_whole(tmp_path / "t.h5"):
        raise RuntimeError(text)
    with pytest.raises(UserError, match=r"written \(No space left on device\);"), written_whole(tmp_path / "t.h5"):
        raise OSError(28, text)
    with pytest.raises(RuntimeError, match="of ours"), written_whole(tmp_path / "t.h5"):
        raise RuntimeError("a fault of ours")  # the disk takes more: not its fault

    def full(*_: object, **__: object) -> None:
        raise OSError(122, "Disk quota exceeded")

    with pytest.raises(UserError, match="Disk quota exceeded"), written_whole(tmp_path / "t.h5"):
        monkeypatch.setattr(Path, "open", full)
        raise RuntimeError("Can't decrement id ref count")
    assert listing(tmp_path) == []


def test_what_may_not_be_looked_into_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", locked)
    with pytest.raises(UserError, match=r"cannot be read \(Permission denied\)"):
        check_exist(tmp_path / "a")
