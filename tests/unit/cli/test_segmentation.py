"""``segment`` as people type it: a folder or a file, one image or several, and what is refused before any work."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from command import assert_refused, run
from uresnet.cli.segmentation import _abnormal
from uresnet.report.viewer import served_files
from uresnet.results.segmentation import read_segmented_image

NAMES = {
    "dseg.nii.gz",
    "dseg.tsv",
    "dseg_freeview.txt",
    "dseg_slicer.ctbl",
    "dseg_itksnap.txt",
    "volumes.tsv",
    "volumes.json",
    "run.json",
    "log.txt",
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same file name in two folders."""
    folder, found = tmp_path_factory.mktemp("images"), []
    for name, view in (("sub-01", "LAS"), ("sub-02", "oblique")):
        (folder / name).mkdir()
        grid = FIELDS_OF_VIEW[view]
        found.append(write_nifti(brain_on(grid), grid, folder / name / "T1.nii.gz"))
    return found


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_folder_is_made_and_holds_a_whole_result(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    command = ("segment", images[0], "-o", out, "--model", tiny_model, "-q")
    assert run(*command, "--mask", "--stripped").exit_code == 0
    assert names_in(out) == NAMES | {"report.html", "brain_mask.nii.gz", "stripped.nii.gz"}
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert set(record["files"]) == names_in(out) - {"log.txt"}
    image, mask, stripped = (
        nib.Nifti1Image.from_filename(path) for path in (images[0], out / "brain_mask.nii.gz", out / "stripped.nii.gz")
    )
    np.testing.assert_allclose(stripped.get_fdata(), image.get_fdata() * mask.get_fdata())
    np.testing.assert_allclose(mask.affine, image.affine, atol=1e-4)
    assert set(np.unique(mask.get_fdata())) == {0, 1}
    log = (out / "log.txt").read_text(encoding="utf-8")
    assert "find brain" in log and "sha256" in log and "verdict" in log
    sidecar = json.loads((out / "volumes.json").read_text(encoding="utf-8"))
    assert "not FreeSurfer's" in sidecar["image_mm3"]["Description"] and sidecar["image_mm3"]["Units"] == "mm^3"
    (out / "mine.txt").write_text("mine")
    assert_refused(run(*command), "out exists already; .* --overwrite")
    assert run(*command, "--overwrite", "--no-report").exit_code == 0
    assert names_in(out) == NAMES | {"mine.txt"}  # what the earlier run wrote, and nothing else, is gone


def test_several_images_get_a_folder_each(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run("segment", *images, "-o", out, "--model", tiny_model, "--no-report")
    assert done.exit_code == 0, done.output
    assert names_in(out) == {"sub-01_T1", "sub-02_T1"}
    for image in images:
        folder = out / f"{image.parent.name}_T1"
        assert names_in(folder) == NAMES
        assert nib.Nifti1Image.from_filename(folder / "dseg.nii.gz").shape == nib.Nifti1Image.from_filename(image).shape
    assert_refused(run("segment", *images, "-o", out, "--model", tiny_model), "sub-01_T1 exists already")


def test_an_image_that_cannot_be_used_costs_only_itself(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(images[0].read_bytes()[:500])
    done = run("segment", broken, images[1], "-o", tmp_path / "out", "--model", tiny_model, "--no-report", "-q")
    assert done.exit_code == 2
    assert "broken.nii.gz is truncated" in done.stderr
    assert done.stderr.strip().splitlines()[-1] == "1 of 2 images could not be segmented."
    assert names_in(tmp_path / "out") == {"T1"}


def test_a_file_gets_its_folder_and_its_name(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sub-01_dseg.nii.gz"
    done = run("segment", images[0], "-o", out, "--model", tiny_model, "--no-report", "--mask", "-q")
    assert done.exit_code == 0, done.output
    endings = {name.removeprefix("dseg") if name.startswith("dseg") else f"_{name}" for name in NAMES}
    assert names_in(out.parent) == {f"sub-01_dseg{ending}" for ending in endings} | {"sub-01_dseg_brain_mask.nii.gz"}


def test_what_is_refused_before_any_work(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    end = ("--model", tiny_model)
    out = tmp_path / "out"
    old_way = run("segment", images[0], "--mask", images[1], "-o", tmp_path / "l.nii.gz", *end)
    assert_refused(old_way, "2 images need a folder with -o, .* --brain-mask", tmp_path / "l.nii.gz")
    assert_refused(run("segment", images[0], images[0], "-o", out, *end), "named twice", out)
    assert_refused(run("segment", *images, "-o", out, "--brain-mask", images[0], *end), "one image at a time", out)
    assert_refused(run("segment", images[0], "-o", tmp_path / "l.nrrd", *end), r"l\.nrrd should end in", out)
    assert_refused(run("segment", *images, "-", "-o", out, *end), "give it alone", out)


def test_a_brain_mask_is_used(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    image = nib.Nifti1Image.from_filename(images[0])
    half = (image.get_fdata() > 0) & (np.arange(image.shape[0]) < image.shape[0] // 2)[:, None, None]
    mask = tmp_path / "half.nii.gz"
    nib.save(nib.Nifti1Image(half.astype(np.uint8), image.affine), mask)
    out = tmp_path / "out"
    run("segment", images[0], "-o", out, "--brain-mask", mask, "--mask", "--model", tiny_model, "-q", "--no-report")
    np.testing.assert_array_equal(nib.Nifti1Image.from_filename(out / "brain_mask.nii.gz").get_fdata() > 0, half)


def test_report_and_view_take_what_segment_wrote(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    end = ("--model", tiny_model, "-q", "--no-report")
    run("segment", *images, "-o", tmp_path / "out", *end)
    run("segment", images[0], "-o", tmp_path / "file" / "x_dseg.mgz", *end)
    first, file = tmp_path / "out" / "sub-01_T1", tmp_path / "file" / "x_dseg.mgz"
    for place, page in ((first, first / "report.html"), (file, tmp_path / "file" / "x_dseg_report.html")):
        assert run("report", place).stdout.strip() == str(page)
        assert "T1.nii.gz" in page.read_text(encoding="utf-8")
    assert run("report", tmp_path / "out").stdout.strip() == str(tmp_path / "out" / "index.html")
    assert (tmp_path / "out" / "sub-02_T1" / "report.html").exists()
    assert "sub-02_T1" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    for place, ending in ((first, ".nii.gz"), (file, ".mgz")):
        served = served_files(place)
        assert {"/images/fixed.nii.gz", f"/images/fixed_dseg{ending}"} <= set(served)
        labels = served[f"/images/fixed_dseg{ending}"].content
        assert isinstance(labels, Path) and labels.parent == (first if place == first else file.parent)
    gone = read_segmented_image(first, image=None)
    assert gone.image is not None and gone.volumes
    assert_refused(run("report", images[0]), "is not a folder; give the output of uresnet register, segment or train")


def test_register_writes_what_is_asked_for(images: list[Path], tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    end = ("-o", out, "--model", tiny_model, "-q")
    assert_refused(run("register", *images, *end, "--outputs", "warped,wings"), "There is no output 'wings'", out)
    assert run("register", *images, *end, "--outputs", "warped,transform", "--mask", "--stripped").exit_code == 0
    pairs = {f"{name}_{what}.nii.gz" for name in ("moving", "fixed") for what in ("brain_mask", "stripped")}
    assert names_in(out) == {"warped.nii.gz", "transform.h5", "run.json", "log.txt"} | pairs
    for name, image in zip(("moving", "fixed"), images, strict=True):
        like = nib.Nifti1Image.from_filename(image)
        stripped = nib.Nifti1Image.from_filename(out / f"{name}_stripped.nii.gz")
        mask = nib.Nifti1Image.from_filename(out / f"{name}_brain_mask.nii.gz")
        np.testing.assert_allclose(stripped.get_fdata(), like.get_fdata() * mask.get_fdata())


def test_the_terminal_names_all_abnormal_tissue_where_some_is_worth_a_word() -> None:
    assert _abnormal({2: 1e6, 57: 20133.0, 77: 534.0}, 20.133) == ", 20.7 ml of abnormal tissue (ids 57, 77)"
    assert _abnormal({25: 100.0, 57: 20633.0, 77: 7255.0}, 27.988) == ", 28.0 ml of abnormal tissue (ids 25, 57, 77)"
    assert _abnormal({57: 0.0, 77: 27600.0}, 27.6) == ", 27.6 ml of abnormal tissue (id 77)"
    assert _abnormal({77: 900.0}, 0.0) == ""
