"""What killed processes were writing goes with the next run; what others are writing never does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from uresnet.core.files import check_output_file, check_output_folder, fresh_outputs
from uresnet.core.temporary import DAYS, LONGEST_NAME, new_name

SOURCE = Path(__file__).resolve().parents[3] / "src"
WRITER = """
import sys, time
from pathlib import Path
from uresnet.core.files import fresh_outputs, written_whole
with fresh_outputs([Path("a.txt"), Path("b.txt")]) as (a, b), written_whole("c.nii.gz"):
    a.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[str]]:
    """A process that is writing two results together and one alone."""
    monkeypatch.chdir(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_what_a_killed_process_was_writing_goes_with_the_next_run(
    writer: subprocess.Popen[str], tmp_path: Path
) -> None:
    left = hidden(tmp_path)
    assert len(left) == 2
    check_output_file(tmp_path / "d.txt", (".txt",))
    check_output_folder(tmp_path / "out", overwrite=False)
    assert hidden(tmp_path) == left  # it is still writing
    writer.kill()
    writer.wait()
    assert hidden(tmp_path) == left
    check_output_file(tmp_path / "d.txt", (".txt",))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_beside_which_a_killed_process_was_writing(writer: subprocess.Popen[str], tmp_path: Path) -> None:
    writer.kill()
    writer.wait()
    check_output_folder(tmp_path / "out", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_what_another_computer_is_writing_stays_for_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("uresnet.core.temporary._system", lambda: "0123456789ab")
        file, folder = new_name(tmp_path, ".nii.gz"), new_name(tmp_path, ".partial")
    file.write_text("half")
    folder.mkdir()
    (folder / "warped.nii.gz").write_text("half")
    long_ago = time.time() - (DAYS + 1) * 86_400

    def run() -> None:
        check_output_file(tmp_path / "d.txt", (".txt",))

    run()
    assert file.exists() and folder.exists()
    for path in (file, folder):
        os.utime(path, (long_ago, long_ago))
    run()  # a file in the folder has changed
    assert not file.exists() and (folder / "warped.nii.gz").exists()
    os.utime(folder / "warped.nii.gz", (long_ago, long_ago))
    run()
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_ours_and_what_is_put_aside_stays(tmp_path: Path) -> None:
    for name in (".uresnet-notes", ".uresnet-0123456789ab-12.partial", ".uresnet", "x.partial"):
        (tmp_path / name).write_text("mine")
        os.utime(tmp_path / name, (0, 0))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    ours = new_name(tmp_path, ".partial")
    link = ours.with_name(ours.name.replace(f"-{os.getpid()}-", "-4194999-"))  # of a process that cannot be
    link.symlink_to(outside)
    check_output_file(tmp_path / "d.txt", (".txt",))
    assert (outside / "precious").exists() and not link.is_symlink()
    assert len(list(tmp_path.iterdir())) == 5


def test_names_are_as_short_as_they_say(tmp_path: Path) -> None:
    assert len(new_name(tmp_path, ".nii.gz").name) <= LONGEST_NAME - 16


def test_files_in_two_folders_come_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    files = [tmp_path / "image.nii", tmp_path / "b" / "volumes.tsv"]
    with fresh_outputs(files) as places:
        for place in places:
            place.write_text("new")
        assert not any(file.exists() for file in files)
    assert all(file.read_text(encoding="utf-8") == "new" for file in files) and hidden(tmp_path) == []
    files[0].unlink()
    with pytest.raises(Exception, match=r"volumes\.tsv is there already"), fresh_outputs(files) as places:
        for place in places:
            place.write_text("newer")
    assert not files[0].exists() and files[1].read_text(encoding="utf-8") == "new"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b", "volumes.tsv"]
