"""Results are whole or absent, and what is not ours stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from uresnet.core.files import RECORD, check_output_file, check_output_folder, fresh_folder
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
