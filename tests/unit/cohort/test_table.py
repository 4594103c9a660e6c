"""Tables of pairs and images: what they become, and every mistake told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohorts import write_table
from uresnet.cohort.jobs import Job, Scan
from uresnet.cohort.table import read_images, read_pairs, scan_of, shard
from uresnet.errors import UserError


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in "abcm":
        (tmp_path / f"{name}.nii").touch()
    return tmp_path


def test_pairs_with_masks(files: Path) -> None:
    table = write_table(
        files / "pairs.tsv",
        "id moving fixed moving_mask age",
        ("one", "a.nii", "b.nii", "m.nii", 30),
        ("two", files / "b.nii", "c.nii", "n/a", 40),
    )
    absolute = {name: str(files / f"{name}.nii") for name in "abcm"}
    assert read_pairs(table, files / "out") == [
        Job("one", Scan(absolute["a"], absolute["m"]), Scan(absolute["b"])),
        Job("two", Scan(absolute["b"]), Scan(absolute["c"])),
    ]


def test_images_to_one_to_each_other_and_alone(files: Path) -> None:
    table = write_table(files / "images.csv", "id,image", ("x,a.nii",), ("y,b.nii",), ("z,c.nii",))
    scans = {name: scan_of(f"{name}.nii") for name in "abc"}
    assert [job.fixed for job in read_images(table, files / "out")] == [None] * 3
    to_one = read_images(table, files / "out", scan_of("a.nii"))
    assert [(job.moving, job.fixed) for job in to_one] == [(scans[n], scans["a"]) for n in "abc"]
    pairs = read_images(table, files / "out", all_pairs=True)
    assert [job.id for job in pairs] == ["x_to_y", "x_to_z", "y_to_z"]
    assert (pairs[2].moving, pairs[2].fixed) == (scans["b"], scans["c"])


def test_all_mistakes_are_told_at_once(files: Path) -> None:
    (files / "out" / "x").mkdir(parents=True)
    (files / "out" / "x" / "inside.nii").touch()
    table = write_table(
        files / "pairs.tsv",
        "id moving fixed",
        ("../up", "a.nii", "b.nii"),
        ("twice", "a.nii", "b.nii"),
        ("Twice", "a.nii", "b.nii"),
        ("gone", "gone.nii", "b.nii"),
        ("empty", "", "b.nii"),
        ("in", "a.nii", "out/x/inside.nii"),
        (".hidden", "a.nii", "b.nii"),
        ("manifest.tsv", "a.nii", "b.nii"),
        ("a/b", "a.nii", "b.nii"),
    )
    with pytest.raises(UserError) as caught:
        read_pairs(table, files / "out")
    said = str(caught.value)
    assert "has 8 mistakes" in said and "\n" not in said
    for line, words in (
        (2, r"id ../up cannot be the name"),
        (4, "id Twice is that of line 3"),
        (5, "gone.nii does not exist"),
        (6, "moving is empty"),
        (7, "lies in the folder for the results"),
        (8, "id .hidden cannot"),
        (9, "is the name of a file that is written"),
        (10, "id a/b cannot"),
    ):
        assert f"line {line}: " in said and words in said.split(f"line {line}: ")[1].split("; line")[0], (line, said)


def test_a_table_of_another_kind(files: Path) -> None:
    images = write_table(files / "images.tsv", "id image", ("x", "a.nii"))
    with pytest.raises(UserError, match="has no column 'moving' and no column 'fixed'"):
        read_pairs(images, files / "out")
    with pytest.raises(UserError, match="has one image"):
        read_images(images, files / "out", all_pairs=True)
    commas = write_table(files / "c.csv", "id,image", ("x,a.nii",))
    with pytest.raises(UserError, match=r"the columns id, moving, fixed, separated by commas\.$"):
        read_pairs(commas, files / "out")
    extra = write_table(files / "extra.tsv", "id image", (), ("x", "a.nii", "b.nii"))
    with pytest.raises(UserError, match="line 3: 3 values in 2 columns"):
        read_images(extra, files / "out")
    with pytest.raises(UserError, match="has no rows"):
        read_images(write_table(files / "none.tsv", "id image"), files / "out")
    ambiguous = write_table(
        files / "to.tsv", "id image", ("a", "a.nii"), ("b_to_c", "b.nii"), ("a_to_b", "c.nii"), ("c", "m.nii")
    )
    with pytest.raises(UserError, match="a_to_b_to_c"):
        read_images(ambiguous, files / "out", all_pairs=True)


@pytest.mark.parametrize("parts", [1, 3, 7, 20])
def test_shards_are_all_jobs_once(parts: int) -> None:
    jobs = [Job(str(n), Scan("x")) for n in range(17)]
    done = [job.id for part in range(1, parts + 1) for job in shard(jobs, part, parts)]
    assert sorted(done, key=int) == [job.id for job in jobs]
