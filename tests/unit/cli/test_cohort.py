"""The verbs on many images: mistakes before any work, exit codes, tables and pages."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from brains import FIELDS_OF_VIEW, write_nifti
from cohorts import Here, write_images, write_table
from command import assert_refused, run
from uresnet.cli.cohort import _part
from uresnet.cohort.group import FEWEST, Measured, find_outliers
from uresnet.cohort.limits import WORKER_BYTES, read_bytes, workers_and_threads
from uresnet.core.reading import read_rows
from uresnet.errors import UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; what the local engine would do in processes is done in this one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uresnet.cohort.local.LocalWorkers", lambda options, count, meanwhile=None: Here(options))
    return tmp_path


def test_a_cohort_with_a_bad_image(here: Path, tiny_model: Path) -> None:
    images = write_images(here, 2)
    broken = here / "broken.nii.gz"
    broken.write_bytes(images[0].read_bytes()[:1000])
    table = write_table(here / "images.tsv", "id image", ("one", images[0]), ("two", images[1]), ("bad", broken))
    line = ("cohort", table, "-o", "out", "--segment-only", "--model", tiny_model, "--brain", "none")
    done = run(*line)
    assert done.exit_code == 4, done.output
    assert "2 done" in done.stdout and "failed  bad: " in done.stderr and "broken.nii.gz" in done.stderr
    columns, rows = read_rows(here / "out" / "manifest.tsv")
    assert columns == ["id", "state", "verdict", "seconds", "peak_mb", "error", "reasons", "warnings"]
    assert len(rows[0]["reasons"].split(" | ")) > 1 and rows[2]["reasons"] == ""
    told = [line for line in done.stderr.splitlines() if line.startswith(f"verdict {rows[0]['verdict']}  one: ")]
    assert len(told) == 1 and rows[0]["reasons"].startswith(told[0].split("one: ")[1])
    assert [(row["id"], row["state"]) for row in rows] == [("one", "done"), ("two", "done"), ("bad", "failed")]
    _, wide = read_rows(here / "out" / "volumes_wide.tsv")
    _, long = read_rows(here / "out" / "volumes_long.tsv")
    _, single = read_rows(here / "out" / "two" / "volumes.tsv")
    volumes = {row["name"]: row["image_mm3"] for row in single if row["index"] != "n/a"}
    assert [row["id"] for row in wide] == ["one", "two"] and volumes.items() <= wide[1].items()
    assert {row["name"]: row["mm3"] for row in long if row["id"] == "two"} == volumes
    assert {row["predicted_dice"] for row in long} == {"n/a"}  # of a model that nobody has calibrated
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    assert page.index("broken.nii.gz") < page.index(">one<")  # the gravest first
    write_table(here / "images.tsv", "id image", ("one", images[0]), ("two", images[1]))
    again = run(*line)
    assert again.exit_code == 0 and "2 results of 2 are there already" in again.stderr


def test_an_image_of_several_pairs_has_a_row_for_each_model(here: Path, tiny_model: Path) -> None:
    """Its verdict is that of the best of its pairs: each has what is wrong with the other image too."""
    images = write_images(here, 3)
    table = write_table(here / "t.tsv", "id image", *((f"p{n}", image) for n, image in enumerate(images[:2])))
    line = ("cohort", table, "--to", images[2], "-o", "out", "--model", tiny_model, "--brain", "none")
    assert run(*line).exit_code == 0

    def fixed_rows(verdicts: dict[str, str], models: dict[str, str]) -> list[tuple[str, str, str]]:
        for name in ("p0", "p1"):
            file = here / "out" / name / "run.json"
            record = json.loads(file.read_text(encoding="utf-8"))
            record["quality"]["verdict"], record["model"]["name"] = verdicts[name], models[name]
            file.write_text(json.dumps(record), encoding="utf-8")
        assert run("group", "out").exit_code == 0
        _, wide = read_rows(here / "out" / "volumes_wide.tsv")
        return [(row["id"], row["model"], row["verdict"]) for row in wide if row["image"] == "fixed"]

    same, two = {"p0": "a", "p1": "a"}, {"p0": "a", "p1": "b"}
    assert fixed_rows({"p0": "look", "p1": "good"}, same) == [("p1", "a", "good")]
    assert fixed_rows({"p0": "good", "p1": "failed"}, same) == [("p0", "a", "good")]
    assert fixed_rows({"p0": "look", "p1": "good"}, two) == [("p0", "a", "look"), ("p1", "b", "good")]


def test_what_was_deleted_or_damaged_is_told_and_made_again(here: Path, tiny_model: Path) -> None:
    images, out = write_images(here, 3), here / "out"
    table = write_table(here / "t.tsv", "id image", *((f"p{n}", image) for n, image in enumerate(images)))
    line = ("cohort", table, "--segment-only", "-o", out, "--model", tiny_model, "--brain", "none")
    assert run(*line).exit_code == 0
    tables = [out / name for name in ("volumes_wide.tsv", "volumes_long.tsv")]
    before = [path.read_bytes() for path in tables]
    shutil.rmtree(out / "p0")
    whole = (out / "p1" / "dseg.nii.gz").read_bytes()
    (out / "p1" / "dseg.nii.gz").write_bytes(whole[: len(whole) // 2])
    (out / "p2" / "run.json").unlink()
    lost = "p0 (its folder is missing), p1 (dseg.nii.gz is damaged), p2 (run.json is missing)"
    group = run("group", out, "--quiet")
    said = f"not whole any longer: {lost}; the tables leave out the volumes of 2 of them. Run the cohort again"
    assert group.exit_code == 0 and said in group.stderr
    assert [row["id"] for row in read_rows(tables[0])[1]] == ["p1"]
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "Not whole any longer (dseg.nii.gz is damaged)" in page
    again = run(*line, "--quiet")
    assert again.exit_code == 0 and f"not whole any longer, and will be made again: {lost}." in again.stderr
    assert [path.read_bytes() for path in tables] == before and (out / "p1" / "dseg.nii.gz").read_bytes() == whole
    assert "made again" not in run(*line, "--quiet").stderr


def test_what_others_put_in_the_place_of_a_result_stays(here: Path, tiny_model: Path) -> None:
    (image,), out = write_images(here, 1), here / "out"
    table = write_table(here / "t.tsv", "id image", ("p0", image))
    line = ("cohort", table, "--segment-only", "-o", out, "--model", tiny_model, "--brain", "none", "--quiet")
    assert run(*line).exit_code == 0
    labels = nibabel.Nifti1Image.from_filename(out / "p0" / "dseg.nii.gz")
    corrected = np.asarray(labels.dataobj).copy()
    corrected[10:20] = 2  # by hand, in another program
    nibabel.save(nibabel.Nifti1Image(corrected, labels.affine, labels.header), out / "p0" / "dseg.nii.gz")
    kept = (out / "p0" / "dseg.nii.gz").read_bytes()
    again = run(*line)
    assert again.exit_code == 0 and "changed since, and stay: p0 (dseg.nii.gz)" in again.stderr
    assert "not of label maps that were changed since: p0 (dseg.nii.gz)." in run("group", out, "--quiet").stderr
    assert (out / "p0" / "dseg.nii.gz").read_bytes() == kept
    assert_refused(run(*line, "--mask"), r"changed since: p0 \(dseg\.nii\.gz\); move these label maps away")
    (out / "p0" / "volumes.tsv").write_text("index\n", encoding="utf-8")  # the result has to be made again
    assert_refused(run(*line), r"changed since: p0 \(dseg\.nii\.gz\); move these label maps away")
    assert (out / "p0" / "dseg.nii.gz").read_bytes() == kept
    (out / "p0" / "run.json").unlink()
    (out / "p0" / "notes.txt").touch()
    assert_refused(run(*line), r"p0 holds notes\.txt and no readable run\.json")
    assert (out / "p0" / "dseg.nii.gz").read_bytes() == kept
    (out / "p0" / "notes.txt").unlink()
    (out / "manifest.jsonl").write_bytes(b"")  # nothing says any longer who wrote the label map
    assert_refused(run(*line), r"p0 holds dseg\.nii\.gz and no readable run\.json")
    shutil.rmtree(out / "p0")
    (out / "p0").touch()
    assert_refused(run(*line), r"p0 is a file")


def test_changed_label_maps_are_replaced_if_asked_and_results_of_other_ids_are_told(
    here: Path, tiny_model: Path
) -> None:
    images, out = write_images(here, 2), here / "out"
    table = write_table(here / "t.tsv", "id image", ("p0", images[0]), ("p1", images[1]))
    line = ("cohort", table, "--segment-only", "-o", out, "--model", tiny_model, "--brain", "none", "--quiet")
    assert run(*line).exit_code == 0
    labels = nibabel.Nifti1Image.from_filename(out / "p0" / "dseg.nii.gz")
    written = np.asarray(labels.dataobj)
    corrected = written.copy()
    corrected[10:20] = 2
    nibabel.save(nibabel.Nifti1Image(corrected, labels.affine, labels.header), out / "p0" / "dseg.nii.gz")
    replaced = run(*line, "--mask", "--overwrite")
    assert replaced.exit_code == 0 and "changed since will be replaced: p0 (dseg.nii.gz)." in replaced.stderr
    again = np.asarray(nibabel.Nifti1Image.from_filename(out / "p0" / "dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(again, written)
    (out / "p0").rename(out / "p2")
    (out / "p1").rename(out / "p0")
    (out / "p2").rename(out / "p1")
    told = run("group", out, "--quiet").stderr
    assert "p0 (its folder holds another result)" in told and "p1 (its folder holds another result)" in told


@pytest.mark.parametrize("content", ["cut", "text", "gone", "zeros", "mask"])
def test_a_target_that_cannot_be_used_is_told_before_any_work(here: Path, tiny_model: Path, content: str) -> None:
    (image,), target, out = write_images(here, 1), here / "target.nii.gz", here / "out"
    if content == "cut":
        target.write_bytes(image.read_bytes()[:1500])
    elif content == "text":
        target.write_text("no image", encoding="utf-8")
    elif content == "zeros":
        write_nifti(np.zeros(FIELDS_OF_VIEW["RAS"].shape, np.float32), FIELDS_OF_VIEW["RAS"], target)
    rows: list[tuple[object, ...]] = [("a", image), ("b", image)]
    header, options = "id image", ["--to", str(target)]
    if content == "mask":  # of the image that all pairs share
        empty = write_nifti(np.zeros(FIELDS_OF_VIEW["RAS"].shape, np.uint8), FIELDS_OF_VIEW["RAS"], target)
        header, options, rows = "id moving fixed fixed_mask", [], [(*row, image, empty) for row in rows]
    table = write_table(here / "t.tsv", header, *rows)
    assert_refused(run("cohort", table, "-o", out, *options, "--model", tiny_model), r"target\.nii\.gz", out)


def test_results_of_other_images_are_replaced_only_if_asked(here: Path, tiny_model: Path) -> None:
    images, out = write_images(here, 3), here / "out"
    alone = ("-o", out, "--model", tiny_model, "--brain", "none")
    table = ("cohort", write_table(here / "t.tsv", "id image", ("a", images[0])))
    assert run(*table, *alone, "--segment-only").exit_code == 0
    line = (*alone, "--transform", "affine")

    def refused(target: Path, of: str) -> None:
        before = {path: path.read_bytes() for path in (out / "a").iterdir()}
        said = rf"results of other images under the same ids: a \({of}\); choose another folder, or .* --overwrite"
        assert_refused(run(*table, *line, "--to", target), said)
        assert {path: path.read_bytes() for path in (out / "a").iterdir()} == before

    refused(images[1], "brain0.nii.gz")
    replaced = run(*table, *line, "--to", images[1], "--overwrite")
    assert replaced.exit_code == 0 and "1 result of other images will be replaced: a (brain0.nii.gz)" in replaced.stderr
    assert (out / "a" / "transform.h5").is_file() and not (out / "a" / "dseg.nii.gz").exists()
    refused(images[2], "brain0.nii.gz and brain1.nii.gz")
    images[1].write_bytes(images[2].read_bytes())  # the same file with another content: brought up to date
    other = write_table(here / "t2.tsv", "id image", ("a", images[0]), ("b", here / "cut.nii.gz"))
    (here / "cut.nii.gz").write_bytes(images[0].read_bytes()[:1000])
    changed = run("cohort", other, *line, "--to", images[1])
    assert changed.exit_code == 4 and "1 result will be replaced: contents of images" in changed.stderr
    fewer = run(*table, *line, "--to", images[1])
    assert fewer.exit_code == 0 and "also have 1 job of earlier tables" in fewer.stderr


def test_warnings_are_in_manifest_and_index(here: Path, tiny_model: Path) -> None:
    images = write_images(here, 2)
    unoriented = nibabel.Nifti1Image.from_filename(images[0])
    unoriented.set_sform(None, 0)
    unoriented.set_qform(None, 0)
    nibabel.save(unoriented, here / "unoriented.nii.gz")
    table = write_table(here / "t.tsv", "id image", ("a", here / "unoriented.nii.gz"), ("b", images[1]))
    done = run("cohort", table, "--segment-only", "-o", "out", "--model", tiny_model, "--brain", "none", "--quiet")
    assert done.exit_code == 0
    said = "does not say how it is oriented"
    assert re.search(rf"1 of 2 results has warnings, the first: .*{said}", done.stderr)
    _, rows = read_rows(here / "out" / "manifest.tsv")
    assert [said in row["warnings"] for row in rows] == [True, False]
    page = (here / "out" / "index.html").read_text(encoding="utf-8")
    assert "Warning: unoriented.nii.gz does not say" in page


def test_mistakes_are_told_before_anything_is_written(here: Path) -> None:
    out, table = here / "out", write_table(here / "t.tsv", "id image", ("../x", "gone.nii"), ("y", "gone.nii"))
    line = ("cohort", table, "-o", out, "--segment-only")
    assert_refused(run(*line), r"3 mistakes: line 2: the id \.\./x .*gone\.nii does not exist", out)
    assert_refused(run("cohort", table, "-o", out), "no column 'moving'", out)
    assert_refused(run(*line, "--outputs", "volumes"), "--outputs has no effect with --segment-only", out)
    assert_refused(run(*line, "--all-pairs"), "one of --to, --all-pairs", out)
    assert_refused(run(*line, "--shard", "4/3"), "--shard is 4/3; give I/N", out)
    images = write_images(here, 1)
    good = ("cohort", write_table(here / "g.tsv", "id image", ("y", images[0])), "-o", out, "--segment-only")
    assert_refused(run(*good, "--memory", "much"), "--memory is much", out)
    assert_refused(run(*good, "--memory", "1GB"), "too little for one worker", out)
    assert_refused(run(*good, "--engine", "dask"), "needs the address", out)
    assert_refused(run(*good, "--engine", "slurm"), "needs --cluster FILE", out)
    assert_refused(run(*good, "--scheduler", "tcp://x:1"), "--scheduler has no effect with --engine local", out)
    out.mkdir()
    (out / "thesis.txt").touch()
    assert_refused(run(*good), "holds files that are no cohort's")
    assert_refused(run("group", out), "holds no cohort")


def test_parts_of_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _part("3/10") == (3, 10)
    with pytest.raises(UserError, match="SLURM_ARRAY_TASK_ID is not set"):
        _part("slurm")
    for task, first, step, part in ((5, 5, 1, 1), (8, 5, 1, 4), (9, 1, 4, 3)):  # --array=5-8, --array=1-12:4
        for name, value in (("ID", task), ("MIN", first), ("STEP", step), ("COUNT", 4)):
            monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
        assert _part("slurm") == (part, 4)
    for wrong in ("0/3", "4/3", "a/b", "3", "/3", "-1/3"):
        with pytest.raises(UserError, match="give I/N"):
            _part(wrong)


def test_sizes_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"8GB": 8e9, "1.5g": 1.5e9, "500 MB": 5e8, "2GiB": 2**31, "123": 123}
    assert {text: read_bytes(text, "--memory") for text in sizes} == sizes
    monkeypatch.setattr("uresnet.cohort.limits.available_cores", lambda: 8)
    assert workers_and_threads(100, None, None, None) == (8, 1)
    assert workers_and_threads(3, None, None, None) == (3, 2)
    assert workers_and_threads(100, None, 4, None) == (2, 4)
    assert workers_and_threads(100, None, None, 2 * WORKER_BYTES) == (2, 4)
    with pytest.raises(UserError, match="too little for 3 workers"):
        workers_and_threads(100, 3, None, 2 * WORKER_BYTES)


def test_outliers_by_robust_z() -> None:
    """Shares 1 … 9 and 30 of 1000: median 5.5, median deviation 2.5, so z of the last is 24.5 / (1.4826 × 2.5)."""
    shares = [*range(1, 10), 30]
    images = [
        Measured(f"s{n}", "image", f"{n}.nii", "good", 1000.0 * size, {17: float(share * size), 3: 5.0 * size})
        for n, (share, size) in enumerate(zip(shares, np.linspace(0.8, 1.3, 10), strict=True))
    ]
    names = {17: "Left-Hippocampus", 3: "Left-Cerebral-Cortex"}
    (found,) = find_outliers(images, names)  # the cortex has one share in all
    assert (found.id, found.structure) == ("s9", 17)
    assert found.z == pytest.approx(24.5 / (1.4826 * 2.5))
    assert found.usual_mm3 == pytest.approx(5.5 * 1.3)
    assert find_outliers(images[-(FEWEST - 1) :], names) == []
