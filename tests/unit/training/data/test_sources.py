"""Tables and FreeSurfer folders: which files belong to which scan of which person."""

from __future__ import annotations

from pathlib import Path

import pytest

from uresnet.errors import UserError
from uresnet.training.data.sources import Source, person_of, sources_from_subjects, sources_from_table


def table(folder: Path, *rows: str, name: str = "table.tsv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_a_table_is_read(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "image\tlabels\tsubject\tsplit\tmask",
        "a.nii.gz\tsub/a_seg.nii.gz\tann\ttrain\t",
        "/x/b.mgz\tb_seg.mgz\t\t\tm.nii.gz",
    )
    first, second = sources_from_table(path)
    assert first == Source("a", "ann", "train", tmp_path / "a.nii.gz", tmp_path / "sub/a_seg.nii.gz")
    assert second == Source("b", "b", "", Path("/x/b.mgz"), tmp_path / "b_seg.mgz", tmp_path / "m.nii.gz")


def test_commas_in_csv_and_own_ids(tmp_path: Path) -> None:
    path = table(tmp_path, "id,image,labels", "one,x.nii,s.nii", "two,x.nii,s.nii", name="t.csv")
    assert [s.id for s in sources_from_table(path)] == ["one", "two"]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (["image\tsubject", "a.nii\tx"], "no column 'labels'"),
        (["image\tlabels"], "has no rows"),
        (["image\tlabels", "a.nii\t"], "line 2: labels is empty"),
        (["image\tlabels", "a.nii\tl.nii", "b/a.nii.gz\tl.nii"], "two scans named a"),
        (
            ["image\tlabels\tsplit", "a.nii\tl.nii\ttraining"],
            "the split training of a is unknown; use train, val, test",
        ),
        (["id\timage\tlabels", "../up\ta.nii\tl.nii"], "cannot be part of a file name"),
        (
            ["image\tlabels\tsubject\tsplit", "a.nii\tl\tann\ttrain", "b.nii\tl\tann\tval"],
            "person ann is in the splits train and val",
        ),
    ],
)
def test_what_is_wrong_with_a_table_is_said(tmp_path: Path, rows: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        sources_from_table(table(tmp_path, *rows))


def test_a_missing_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read the table"):
        sources_from_table(tmp_path / "no.tsv")


def test_a_binary_table(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_bytes(b"\x1f\x8b\xff\xfe\x00")
    with pytest.raises(UserError, match="is not a text file"):
        sources_from_table(tmp_path / "t.tsv")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def test_freesurfer_subjects(tmp_path: Path) -> None:
    touch(tmp_path, "sub-01_ses-1/mri/orig.mgz", "sub-01_ses-1/mri/aseg.mgz", "sub-01_ses-1/mri/brainmask.mgz")
    touch(tmp_path, "bert/mri/norm.mgz", "bert/mri/aseg.mgz", "half/mri/orig.mgz", "fsaverage/surf/lh.white")
    touch(tmp_path, "OAS30001_MR_d0129_orig.mgz", "OAS30001_MR_d0129_aseg.mgz", "OAS30002_MR_d1_orig.mgz")
    sources, skipped = sources_from_subjects(tmp_path)
    assert [(s.id, s.subject) for s in sources] == [
        ("OAS30001_MR_d0129", "OAS30001"),
        ("bert", "bert"),
        ("sub-01_ses-1", "sub-01"),
    ]
    assert sources[2].mask == tmp_path / "sub-01_ses-1/mri/brainmask.mgz"
    assert sources[1].image.name == "norm.mgz"
    assert [s.brain_from_labels for s in sources] == [True, True, False]
    assert [s.id for s in skipped] == ["OAS30002_MR_d1", "half"]
    assert all("has no aseg.mgz" in s.reason for s in skipped)


def test_a_folder_without_subjects(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no FreeSurfer subject"):
        sources_from_subjects(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        sources_from_subjects(tmp_path / "no")


@pytest.mark.parametrize(
    ("name", "person"),
    [("sub-01_ses-2", "sub-01"), ("OAS30001_MR_d0129", "OAS30001"), ("bert.long.base", "bert"), ("bert", "bert")],
)
def test_who_a_name_is(name: str, person: str) -> None:
    assert person_of(name) == person
