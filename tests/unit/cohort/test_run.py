"""A cohort in this process: results as those of single pairs, what is redone, what a bad image costs, kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cohorts import Here, options_for, write_images
from uresnet.cohort.jobs import LEAN_OUTPUTS, Job, Options
from uresnet.cohort.manifest import Manifest
from uresnet.cohort.run import plan, run
from uresnet.cohort.table import scan_of
from uresnet.pipeline.register import register


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_images(tmp_path_factory.mktemp("images"), 3)


@pytest.fixture(scope="module")
def jobs(images: list[Path]) -> list[Job]:
    to_first = [Job(f"pair{n}", scan_of(image), scan_of(images[0])) for n, image in enumerate(images[1:], start=1)]
    return [*to_first, Job("alone", scan_of(images[1]))]


@pytest.fixture(scope="module")
def finished(jobs: list[Job], tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cohort that nobody disturbed."""
    options = options_for(tmp_path_factory.mktemp("finished") / "out", tiny_model, transform="affine")
    ended = run(plan(jobs, options), options, Here(options))
    assert [outcome.state for outcome in ended] == ["done"] * 3
    assert all(outcome.peak_mb and outcome.seconds and outcome.verdict for outcome in ended)
    return options.folder


@pytest.fixture
def copied(finished: Path, tmp_path: Path, tiny_model: Path) -> Options:
    """Options of a copy of it."""
    shutil.copytree(finished, tmp_path / "out")
    return options_for(tmp_path / "out", tiny_model, transform="affine")


def results(folder: Path) -> dict[str, bytes]:
    """What the jobs wrote, without what tells times and places."""
    files = (path for path in folder.glob("[!.]*/*") if not path.name.endswith("run.json"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_pair_of_a_cohort_is_that_of_a_single_command(
    finished: Path, images: list[Path], tiny_model: Path, tmp_path: Path
) -> None:
    register(images[2], images[0], model=tiny_model, brain="none", transform="affine").save(
        tmp_path / "single", outputs=LEAN_OUTPUTS
    )
    single = {path.name: path.read_bytes() for path in (tmp_path / "single").iterdir() if path.name != "run.json"}
    assert {
        path.name: path.read_bytes() for path in (finished / "pair2").iterdir() if path.name != "run.json"
    } == single
    folders = (finished / "pair2", tmp_path / "single")
    ours, its = (json.loads((folder / "run.json").read_text(encoding="utf-8")) for folder in folders)
    for name in ("inputs", "measures", "quality", "warnings", "transform"):
        assert ours.get(name) == its.get(name), name
    assert set(ours) - set(its) == {"key"}


def test_the_peak_is_that_of_computing_and_writing(
    images: list[Path], tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one job is written the next one measures anew."""
    peaks = [7 * 2**20, 3 * 2**20]
    monkeypatch.setattr("uresnet.cohort.worker.peak_memory", lambda device: peaks.pop(0))
    outcome = Here(options_for(tmp_path, tiny_model)).worker.run(Job("one", scan_of(images[0])))
    assert (outcome.state, outcome.peak_mb, peaks) == ("done", 7, [])


def test_nothing_is_done_twice(copied: Options, jobs: list[Job]) -> None:
    assert plan(jobs, copied).left == ()
    Manifest(copied.folder).folder.joinpath("manifest.jsonl").unlink()  # lost: the folders tell the same
    assert plan(jobs, copied).left == ()
    assert {name: o.state for name, o in Manifest(copied.folder).outcomes().items()} == dict.fromkeys(
        ("pair1", "pair2", "alone"), "done"
    )


def test_what_is_missing_or_changed_is_redone(copied: Options, jobs: list[Job]) -> None:
    shutil.rmtree(copied.folder / "pair1")
    (copied.folder / "alone" / "run.json").unlink()
    (copied.folder / "never").mkdir()
    never = plan([Job("never", jobs[0].moving)], copied)
    assert (len(never.left), never.lost) == (1, {})
    assert [job.id for job in plan(jobs, copied).left] == ["pair1", "alone"]
    assert [job.id for job in plan(jobs, replace(copied, transform="rigid")).left] == ["pair1", "pair2", "alone"]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("alone/dseg.nii.gz", b"", "dseg.nii.gz is empty"),
        ("pair1/warped.nii.gz", lambda whole: whole[:-100], "warped.nii.gz is damaged"),
        ("pair1/transform.h5", lambda whole: whole + b"more", "transform.h5 is damaged"),
        ("pair1/fixed_dseg.nii.gz", lambda whole: whole[:500], "fixed_dseg.nii.gz is damaged"),
        ("pair1/dseg_itksnap.txt", None, "dseg_itksnap.txt is missing"),
        ("pair1/volumes.tsv", lambda whole: whole[:-40], "volumes.tsv is damaged"),
        ("alone/volumes.tsv", lambda whole: whole.replace(b"2", b"x"), "volumes.tsv is damaged"),
        ("alone/volumes.tsv", lambda whole: bytes(len(whole)), "volumes.tsv is damaged"),
        ("alone/run.json", b"", "run.json is damaged"),
        ("alone/run.json", lambda whole: whole[:300], "run.json is damaged"),
    ],
)
def test_what_is_damaged_is_noticed(
    copied: Options, jobs: list[Job], file: str, content: bytes | Callable[[bytes], bytes] | None, said: str
) -> None:
    place = copied.folder / file
    if content is None:
        place.unlink()
    else:
        place.write_bytes(content if isinstance(content, bytes) else content(place.read_bytes()))
    planned = plan(jobs, copied)
    assert planned.lost == {file.partition("/")[0]: said} and len(planned.left) == 1


def test_a_table_of_an_earlier_version_is_read_without_sizes(copied: Options, jobs: list[Job]) -> None:
    record = copied.folder / "pair2" / "run.json"
    tree = json.loads(record.read_text(encoding="utf-8"))
    assert tree.pop("sizes").keys() == set(tree["files"]) - {"run.json"}
    record.write_text(json.dumps(tree), encoding="utf-8")
    assert plan(jobs, copied).lost == {}
    table = record.with_name("volumes.tsv")
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    table.write_text("".join(lines[:2]), encoding="utf-8")
    assert plan(jobs, copied).lost == {"pair2": "volumes.tsv is damaged"}


def test_a_bad_image_costs_its_pair_alone(copied: Options, jobs: list[Job], tmp_path: Path) -> None:
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(Path(jobs[0].moving.image).read_bytes()[:2000])
    changed = [Job("bad", scan_of(broken), jobs[0].fixed), *jobs]
    engine = Here(copied)
    ended = {outcome.id: outcome for outcome in run(plan(changed, copied), copied, engine)}
    assert engine.seen == ["bad"] and not (copied.folder / "bad").exists()
    assert ended["bad"].state == "failed" and "broken.nii.gz" in ended["bad"].error
    assert {ended[job.id].state for job in jobs} == {"done"}
    assert [job.id for job in plan(changed, copied).left] == ["bad"]  # failed before: tried again


def test_a_changed_option_replaces_the_result(copied: Options, jobs: list[Job]) -> None:
    rigid = replace(copied, transform="rigid")
    before = results(copied.folder)
    run(plan(jobs[:1], rigid), rigid, Here(rigid))
    after = results(copied.folder)
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert "pair1/warped.nii.gz" in changed and all(name.startswith(("pair1", "manifest")) for name in changed)
    assert plan(jobs[:1], rigid).left == () and len(plan(jobs[:1], copied).left) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a copy of this process")
def test_kills_lose_nothing(finished: Path, jobs: list[Job], tiny_model: Path, tmp_path: Path) -> None:
    """Three of the fifty random moments of ``make kills``, which kills whole commands with their workers."""
    options, rng, kills = options_for(tmp_path / "out", tiny_model, transform="affine"), random.Random(5), 0
    engine = Here(options)
    while True:
        child = os.fork()
        if child == 0:
            # First after a fork, PyTorch replaces its pool of threads: two threads at once may find none.
            torch.set_num_threads(torch.get_num_threads())
            run(plan(jobs, options), options, engine)
            os._exit(0)
        if kills < 3:
            time.sleep(rng.uniform(0.1, 0.8))
            os.kill(child, signal.SIGKILL)
            kills += 1
        _, status = os.waitpid(child, 0)
        whole = [path.name for path in options.folder.glob("[!.m]*") if list(path.glob("*run.json"))]
        assert sorted(path.name for path in options.folder.glob("[!.m]*")) == sorted(whole)
        if status == 0:
            break
    assert results(options.folder) == results(finished)
    assert not list(options.folder.rglob(".uresnet*"))
