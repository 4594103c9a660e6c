"""The benchmark against peers: what it judges, what it says, where it goes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uresnet.transform import Affine
from uresnet.transform_files import write_itk_composite

pytest.importorskip("SimpleITK")
import accuracy

SIZE = (70, 76, 72)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A ball of 2 mm voxels with two structures, and the same moved by two voxels."""
    i, j, k = np.indices(SIZE) - np.array(SIZE).reshape(3, 1, 1, 1) // 2
    for scan, shift in (("one", 0), ("two", 2)):
        ball = (i - shift) ** 2 + j**2 + k**2
        labels = np.where(ball < 10**2, 35, np.where(ball < 28**2, 44, 0)).astype(np.int16)
        affine = np.diag([-2.0, 2.0, 2.0, 1.0])  # axes as in the real data: left, anterior, superior
        nib.save(nib.Nifti1Image(labels, affine), tmp_path / f"{scan}_labels.nii.gz")
        nib.save(nib.Nifti1Image(labels.astype(np.float32), affine), tmp_path / f"{scan}_T1.nii.gz")
    return tmp_path


@pytest.mark.parametrize(("shift_mm", "dice"), [(-4.0, 1.0), (0.0, None)])
def test_the_exported_transform_is_what_is_judged(
    data: Path, tmp_path: Path, shift_mm: float, dice: float | None
) -> None:
    """The moving ball lies two voxels, 4 mm, to the left of the fixed one: minus in a world that points right."""
    matrix = np.eye(4)
    matrix[0, 3] = shift_mm
    (tmp_path / "result").mkdir()
    write_itk_composite(Affine(matrix), tmp_path / "result" / "transform.h5")
    found = accuracy.judge(accuracy.METHODS["default"], tmp_path, data, "two", "one")
    if dice is None:
        assert 0.5 < found["dice"] < 0.95
    else:
        assert found["dice"] == dice
    assert found["folds"] == 0 and found["sdlogj"] < 1e-6
    assert np.isnan(found["Hippocampus"])


def test_a_tool_that_is_not_there_is_named_before_anything_runs(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    chosen = [str(data), str(tmp_path / "out"), "--methods", "greedy", "--pairs", "one-two"]
    assert accuracy.main(chosen) == 2
    assert "greedy needs picsl-greedy, which is not installed" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_goes_on_where_it_stopped_and_fails_aloud(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = []

    def register(method: object, moving: Path, fixed: Path, folder: Path, threads: int) -> float:
        asked.append((moving.name, fixed.name))
        if moving.name.startswith("one"):
            raise RuntimeError("one cannot be registered")
        (folder / "result").mkdir()
        write_itk_composite(Affine.identity(), folder / "result" / "transform.h5")
        return 1.5

    monkeypatch.setattr(accuracy, "register", register)
    chosen = [str(data), str(tmp_path / "out"), "--methods", "default", "--pairs", "one-two", "two-one"]
    assert accuracy.main(chosen) == 1 and accuracy.main(chosen) == 1
    assert asked == [("one_T1.nii.gz", "two_T1.nii.gz"), ("two_T1.nii.gz", "one_T1.nii.gz"), asked[0]]
    assert "one cannot be registered" in capsys.readouterr().err
    line = next(row for row in (tmp_path / "out/accuracy.md").read_text().splitlines() if row.startswith("| uresnet |"))
    assert line.startswith("| uresnet | Neuromorphometrics | 1 | 0.") and "| 1.5 | 2 |" in line


def test_subjects_of_freesurfer_are_registered_both_ways_and_judged_by_their_own_labels(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, scan in (("sub-1", "one"), ("sub-2", "two")):
        (tmp_path / "subjects" / name / "mri").mkdir(parents=True)
        for source, end in (("norm", "T1"), ("aseg", "labels")):
            image = nib.Nifti1Image.from_filename(data / f"{scan}_{end}.nii.gz")
            values = np.asanyarray(image.dataobj)
            values = np.select([values == 35, values == 44], [16, 41], 0) if end == "labels" else values
            made = nib.MGHImage(values.astype(np.float32), image.affine)
            nib.save(made, tmp_path / "subjects" / name / "mri" / f"{source}.mgz")

    def register(method: object, moving: Path, fixed: Path, folder: Path, threads: int) -> float:
        matrix = np.eye(4)
        matrix[0, 3] = {"sub-1_T1.nii.gz": 4.0, "sub-2_T1.nii.gz": -4.0}.get(moving.name, 0)
        (folder / "result").mkdir()
        write_itk_composite(Affine(matrix), folder / "result" / "transform.h5")
        return 1.5

    monkeypatch.setattr(accuracy, "register", register)
    chosen = [str(data), str(tmp_path / "out"), "--methods", "default", "--pairs", "one-two"]
    assert accuracy.main([*chosen, "--freesurfer", str(tmp_path / "subjects")]) == 0
    text = (tmp_path / "out/accuracy.md").read_text()
    assert "| uresnet | FreeSurfer | 2 | 1.000 | 1.000 |" in text
    assert next(line for line in text.splitlines() if line.startswith("| Brain-Stem |")).endswith("| 1.000 |")
    assert accuracy.main([*chosen, "--freesurfer", str(data)]) == 2
