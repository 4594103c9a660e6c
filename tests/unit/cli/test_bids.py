"""The BIDS-App: derivatives that the official validator accepts, and mistakes in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from cohorts import Here, write_images
from uresnet.cli.bids import _OUTPUTS, main
from uresnet.cohort.bids import find_images
from uresnet.cohort.jobs import Options
from uresnet.core.reading import read_rows
from uresnet.io import read_image
from uresnet.transform import Transform
from uresnet.transform_files import read_transform

TO_TARGET = ("--target", "target.nii.gz", "--target-name", "Ellipsoid")


@pytest.fixture
def data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Participant 01 with a session, 02 with two runs of which one is damaged; a target beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uresnet.cohort.local.LocalWorkers", lambda options, count: Here(options))
    images = write_images(tmp_path, 2)
    raw = tmp_path / "raw"
    names = ("sub-01/ses-a/anat/sub-01_ses-a", "sub-02/anat/sub-02_run-01")
    for image, name in zip(images, names, strict=True):
        (raw / name).parent.mkdir(parents=True)
        shutil.copy(image, raw / f"{name}_T1w.nii.gz")
    (raw / "sub-02/anat/sub-02_run-02_T1w.nii.gz").write_bytes(images[0].read_bytes()[:500])
    (raw / "sub-02/anat/sub-02_T2w.nii.gz").touch()
    (raw / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}', encoding="utf-8")
    grid = FIELDS_OF_VIEW["RAS"]
    write_nifti(brain_on(grid), grid, tmp_path / "target.nii.gz")
    return raw


def app(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(ended.value.code or 0)


def test_participants_and_group(data_set: Path, tmp_path: Path, tiny_model: Path) -> None:
    out = tmp_path / "out"
    line = (data_set, out, "participant", "--model", tiny_model, "--brain", "none", *TO_TARGET)
    assert app(*line, "--participant-label", "01", "--session_label", "a") == 0
    first = out / "sub-01" / "ses-a" / "anat"
    stem = "sub-01_ses-a"
    preproc = read_image(first / f"{stem}_space-Ellipsoid_desc-preproc_T1w.nii.gz")
    assert preproc.grid.same_as(read_image(tmp_path / "target.nii.gz").grid)
    raw = data_set / "sub-01" / "ses-a" / "anat" / f"{stem}_T1w.nii.gz"
    for name in ("seg-aseg_dseg", "desc-brain_mask"):
        assert read_image(first / f"{stem}_{name}.nii.gz").grid.same_as(read_image(raw).grid)
    sidecar = json.loads((first / f"{stem}_space-Ellipsoid_desc-preproc_T1w.json").read_text(encoding="utf-8"))
    assert (sidecar["SpatialReference"], sidecar["SkullStripped"]) == ("Ellipsoid", False)
    assert sidecar["Sources"] == [f"bids:raw:{raw.relative_to(data_set).as_posix()}"]
    transform = read_transform(first / f"{stem}_from-T1w_to-Ellipsoid_mode-image_xfm.h5")
    back = read_transform(first / f"{stem}_from-Ellipsoid_to-T1w_mode-image_xfm.h5")
    point = torch.tensor([[4.0, -3.0, 9.0]])
    assert back.apply(transform.apply(point)).tolist()[0] == pytest.approx(point.tolist()[0], abs=1.0)
    columns, rows = read_rows(first / f"{stem}_seg-aseg_dseg.tsv")
    assert {"index", "name", "color"} <= set(columns) and len(rows) > 2

    assert app(*line) == 4  # the damaged run
    assert "run-02 failed: " in (out / "logs" / "sub-02.log").read_text(encoding="utf-8")
    assert (out / "sub-02" / "anat" / "sub-02_run-01_seg-aseg_dseg.nii.gz").exists()
    assert app(data_set, out, "group") == 0
    _, wide = read_rows(out / "group_volumes_wide.tsv")
    assert [row["id"] for row in wide if row["image"] == "moving"] == ["sub-01_ses-a", "sub-02_run-01"]
    assert not errors_of_the_validator(out)


def errors_of_the_validator(folder: Path) -> list[object]:
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip("the official validator is not here (bids-validator-deno)")
    said = subprocess.run([validator, folder, "--format", "json"], capture_output=True, text=True, check=False)
    issues = json.loads(said.stdout)["issues"]["issues"]
    return [issue for issue in issues if issue["severity"] == "error"]


def test_sessions_reach_the_target_through_their_mean(
    data_set: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = data_set / "sub-01" / "ses-b" / "anat" / "sub-01_ses-b_T1w.nii.gz"
    second.parent.mkdir(parents=True)
    shutil.copy(tmp_path / "brain1.nii.gz", second)
    engines = list[Here]()

    def engine(options: Options, count: int) -> Here:
        engines.append(Here(options))
        return engines[-1]

    monkeypatch.setattr("uresnet.cohort.local.LocalWorkers", engine)
    monkeypatch.setattr("uresnet.cli.bids._OUTPUTS", [name for name in _OUTPUTS if name != "report"])
    out = tmp_path / "out"
    line = (
        data_set,
        out,
        "participant",
        "--model",
        tiny_model,
        "--brain",
        "none",
        *TO_TARGET,
        "--participant-label",
        "01",
    )
    assert app(*line) == 0
    sessions = ["sub-01_ses-a", "sub-01_ses-b"]
    assert [engine.seen for engine in engines] == [sessions, sessions, sessions, ["sub-01"]]

    def way(stem: str, start: str, end: str) -> Transform:
        session = stem.split("_")[1:]
        return read_transform(
            out / "sub-01" / Path(*session) / "anat" / f"{stem}_from-{start}_to-{end}_mode-image_xfm.h5"
        )

    target = read_image(tmp_path / "target.nii.gz").grid
    points = torch.from_numpy(target.points_to_world(np.array([[23, 25, 20], [14, 30, 22], [27, 36, 15]])))  # voxels
    in_mean = way("sub-01", "within", "Ellipsoid").apply(points)
    for name in sessions:
        in_session = way(name, "T1w", "within").apply(in_mean)
        joined = way(name, "T1w", "Ellipsoid").apply(points)
        assert torch.allclose(joined, in_session, atol=0.4)  # far from the brain displacements are rounded
        assert torch.allclose(way(name, "Ellipsoid", "T1w").apply(in_session), points, atol=1.0)
    moved = torch.stack([way(name, "T1w", "within").apply(in_mean) for name in sessions]).mean(dim=0)
    assert torch.allclose(moved, in_mean, atol=0.1)  # no session decides where the mean lies
    mean = read_image(out / "sub-01" / "anat" / "sub-01_desc-preproc_T1w.nii.gz")
    assert float(mean.data.max()) > 50
    warped = read_image(out / "sub-01" / "ses-b" / "anat" / "sub-01_ses-b_space-Ellipsoid_desc-preproc_T1w.nii.gz")
    assert warped.grid.same_as(target)
    assert not errors_of_the_validator(out)

    lost = [out / ".work/within/images/sub-01_ses-a/warped.nii.gz"]
    lost += [out / "sub-01/ses-a/anat/sub-01_ses-a_space-Ellipsoid_desc-preproc_T1w.nii.gz"]
    for path in lost:
        path.unlink()
    engines.clear()
    assert (
        app(*line) == 0 and all(path.is_file() for path in lost) and not any(engine.seen for engine in engines)
    )  # everything is there
    shutil.copy(data_set / "sub-02" / "anat" / "sub-02_run-02_T1w.nii.gz", second)  # damaged
    assert app(*line) == 4
    log = (out / "logs" / "sub-01.log").read_text(encoding="utf-8")
    assert "sub-01 failed: Fewer than two of its images" in log


def test_filters(data_set: Path) -> None:
    def names(**chosen: object) -> list[str]:
        return [image.name for image in find_images(data_set, **chosen)]  # type: ignore[arg-type]

    assert names() == ["sub-01_ses-a", "sub-02_run-01", "sub-02_run-02"]
    assert names(participants=["sub-02"]) == ["sub-02_run-01", "sub-02_run-02"]
    assert names(sessions=["a"]) == ["sub-01_ses-a"]
    assert names(filters={"run": 2}) == ["sub-02_run-02"]
    assert names(filters={"run": None, "ses": ["a", "c"]}) == ["sub-01_ses-a"]


def test_mistakes(data_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, empty = tmp_path / "out", tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "filter.json").write_text('{"t1w": {"echo": 1}}', encoding="utf-8")
    for line, said in (
        ((empty, out, "participant"), "has no T1w image"),
        ((tmp_path / "gone", out, "participant"), "is not a folder"),
        ((data_set, out, "participant", "--participant-label", "01", "77"), "has no participant 77"),
        ((data_set, out, "participant", "--bids-filter-file", "filter.json"), "unknown entity echo"),
        ((data_set, out, "participant", "--target", "gone.nii"), "gone.nii does not exist"),
        ((data_set, data_set, "participant"), "cannot stand in the data set"),
        ((data_set, out, "participant", "--nprocs", "0"), "--nprocs is 0"),
        ((data_set, out, "session"), "invalid choice: 'session'"),
        ((data_set, out, "group"), "holds no cohort"),
    ):
        assert app(*line) == 2, line
        told = capsys.readouterr().err.strip()
        assert told.startswith("error: ") and said in told and "\n" not in told, told
        assert not out.exists(), line
