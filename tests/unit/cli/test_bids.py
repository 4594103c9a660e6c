"""The BIDS-App: derivatives that the official validator accepts, and mistakes in one sentence."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from cohorts import Here, write_images
from uresnet.cli.bids import main
from uresnet.cohort.bids import find_images
from uresnet.core.reading import read_rows
from uresnet.io import read_image
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
    assert sidecar["Sources"] == [f"bids:raw:{raw.name}"]
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
    validator = Path(sys.executable).with_name("bids-validator-deno")
    if not validator.exists():
        pytest.skip("the official validator is not here (bids-validator-deno)")
    said = subprocess.run([validator, out, "--format", "json"], capture_output=True, text=True, check=False)
    issues = json.loads(said.stdout)["issues"]["issues"]
    assert not [issue for issue in issues if issue["severity"] == "error"]


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
