"""Options that would have no effect together are refused before any work: one sentence that names both."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohorts import write_images, write_table
from command import assert_refused, run, type_line
from uresnet.cli.bids import main as bids


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with two images ``a.nii.gz`` and ``b.nii.gz`` and tables of them."""
    monkeypatch.chdir(tmp_path)
    for name, image in zip("ab", write_images(tmp_path, 2), strict=True):
        image.rename(tmp_path / f"{name}.nii.gz")
    write_table(tmp_path / "images.tsv", "id image", ("a", "a.nii.gz"), ("b", "b.nii.gz"))
    write_table(tmp_path / "pairs.tsv", "id moving fixed", ("ab", "a.nii.gz", "b.nii.gz"))
    write_table(tmp_path / "split.tsv", "id split", ("a", "train"), ("b", "train"))
    return tmp_path


PAIR, ONE = "register a.nii.gz b.nii.gz -o out", "segment a.nii.gz -o"
PAIRS, IMAGES = "cohort pairs.tsv -o out", "cohort images.tsv -o out --segment-only"
REGISTERS_ONLY = "registers only; choose one that segments"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (f"{PAIR} --outputs report --no-report", "--outputs names report, and --no-report leaves it out"),
        (f"{PAIR} --quiet --verbose", "--verbose has no effect with --quiet"),
        (f"{PAIR} --field-spacing 2 --outputs warped", "--field-spacing has no effect with --outputs that leave out"),
        (f"{PAIR} --field-spacing 2 --transform rigid", "--field-spacing has no effect with --transform rigid"),
        (f"{PAIR} --export ants,itk --outputs warped", "--export itk has no effect with --outputs that leave out"),
        (f"{PAIR} --outputs tables,warped --model translation", "--outputs tables has no effect with the model trans"),
        (f"{PAIR} --transform joint --model translation", "--transform has no effect with the model translation"),
        (f"{PAIR} --field-spacing 2 --model translation", "--field-spacing has no effect with the model translation"),
        (f"{PAIR} --refine --model translation", "nothing to refine"),
        (f"{PAIR} --brain none --moving-mask a.nii.gz --fixed-mask b.nii.gz", "--brain none has no effect with brain"),
        (f"{ONE} out --brain none --brain-mask b.nii.gz", "--brain none has no effect with brain masks"),
        (f"{ONE} - --mask --stripped", "--mask and --stripped have no effect with --output -"),
        (f"{ONE} - --synthesise --report", "--synthesise and --report have no effect with --output -"),
        (f"{ONE} out --model translation", REGISTERS_ONLY),
        (f"{IMAGES} --refine", "--refine has no effect with --segment-only"),
        (f"{IMAGES} --transform joint --export fsl", "--transform and --export have no effect with --segment-only"),
        (f"{IMAGES} --field-spacing 1", "--field-spacing has no effect with --segment-only"),
        (f"{IMAGES} --model translation", REGISTERS_ONLY),
        (f"{PAIRS} --model paper --refine", "nothing to refine"),
        (f"{PAIRS} --model translation --refine", "nothing to refine"),
        (
            f"{PAIRS} --model translation --outputs volumes",
            "--outputs volumes has no effect with the model translation",
        ),
        (f"{PAIRS} --model translation --transform affine", "--transform has no effect with the model translation"),
        (f"{PAIRS} --field-spacing 2 --transform affine", "--field-spacing has no effect with --transform affine"),
        (f"{PAIRS} --cluster split.tsv", "--cluster has no effect with --engine local"),
        (f"{PAIRS} --engine dask --scheduler tcp://x:1 --workers 2", "--workers has no effect with --engine dask"),
        (f"{PAIRS} --engine slurm --cluster split.tsv --threads 2", "--threads has no effect with --engine slurm"),
        ("template a.nii.gz b.nii.gz -o out --model translation", REGISTERS_ONLY),
        ("template a.nii.gz b.nii.gz -o out --model paper --refine", "nothing to refine"),
        ("compose a.h5 b.h5 --like a.nii.gz -o out.h5", r"--like has no effect with an output \.h5"),
        ("train paper --dry-run --tensorboard -o out", "--tensorboard has no effect with --dry-run"),
        ("prepare heads . -o out --split split.tsv --seed 3", "--seed has no effect with --split"),
        ("prepare pairs images.tsv -o out --split split.tsv --seed 0", "--seed has no effect with --split"),
        ("prepare freesurfer . -o out --split paper --seed 3", "--seed has no effect with --split"),
    ],
)
def test_options_without_effect_are_refused(here: Path, line: str, sentence: str) -> None:
    assert_refused(type_line(line), sentence, here / "out")


def test_a_page_of_many_results_takes_no_images(here: Path) -> None:
    (here / "many").mkdir()
    assert_refused(run("report", here / "many", "--fixed", here / "a.nii.gz"), "leave --moving and --fixed out")


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("participant --target-name X", "--target-name has no effect with no --target"),
        ("participant --subject-anatomical-reference sessionwise", "--subject-anatomical-reference has no effect"),
        ("participant --model translation", REGISTERS_ONLY),
        ("group --participant-label 01 --model any", "--participant-label and --model have no effect with the level"),
    ],
)
def test_the_app_refuses_them_too(here: Path, line: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bids([str(here), str(here / "out"), *line.split()])
    said = capsys.readouterr().err.strip()
    assert ended.value.code == 2 and said.startswith("error: ") and sentence in said and "\n" not in said
    assert not (here / "out").exists()


def test_what_is_chosen_explicitly_is_written(here: Path, tiny_model: Path) -> None:
    line = f"{PAIR} --model {tiny_model} --brain none --transform affine --quiet"
    assert type_line(f"{line} --outputs volumes --report").exit_code == 0
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "log.txt",
        "report.html",
        "run.json",
        "volumes.json",
        "volumes.tsv",
    ]
