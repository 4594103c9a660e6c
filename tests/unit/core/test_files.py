"""Results are whole or absent, and what is not ours stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uresnet.core.files import (
    RECORD,
    check_exist,
    check_output_file,
    check_output_folder,
    fresh_folder,
    split_series,
    write_bytes,
    write_text,
    written_whole,
)
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
    with pytest.raises(UserError, match="--overwrite"):
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
