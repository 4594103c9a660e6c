"""Engines with real processes: every job ends, whatever happens to the process that does it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

import cohort_workers
import uresnet
from cohorts import options_for
from uresnet.cohort.dask_engine import connect, slurm
from uresnet.cohort.jobs import Job, Options, Scan
from uresnet.cohort.local import LocalWorkers
from uresnet.errors import UserError

NAMES = [*(f"wait{n}" for n in range(6)), "die", "die-once", *(f"quick{n}" for n in range(6))]
JOBS = [Job(name, Scan("x"), key=name) for name in NAMES]


@pytest.fixture
def options(tmp_path: Path, tiny_model: Path) -> Options:
    return options_for(tmp_path, tiny_model)


def test_local_workers_that_die_cost_one_job(options: Options) -> None:
    engine = LocalWorkers(options, 2, cohort_workers.serve)
    outcomes = {outcome.id: outcome for outcome in engine.outcomes(JOBS)}
    processes = {int(outcome.worker) for outcome in outcomes.values() if outcome.worker}
    engine.close()
    assert sorted(outcomes) == sorted(NAMES)
    failed = outcomes.pop("die")
    assert failed.state == "failed" and "killed by signal 9" in failed.error and failed.key == "die"
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert len(processes) >= 3  # the two, and those that took their places
    assert not any(psutil.pid_exists(process) for process in processes)


def test_each_local_worker_has_a_job_before_any_has_two(options: Options) -> None:
    called = []
    engine = LocalWorkers(options, 2, cohort_workers.serve, lambda: called.append(len(engine._processes)))
    outcomes = list(engine.outcomes([Job("wait0", Scan("x")), Job("wait1", Scan("x"))]))
    engine.close()
    assert len({outcome.worker for outcome in outcomes}) == 2
    assert called == [2]  # once, after both were started


def test_dask_workers_over_tcp(options: Options) -> None:
    """A scheduler and workers as people start them; one worker is killed while it works."""
    pytest.importorskip("distributed")
    paths = [str(Path(cohort_workers.__file__).parent), str(Path(uresnet.__file__).parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}

    def start(what: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments, "--no-dashboard"]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, cwd=options.folder)

    processes = [start("scheduler", "--host", "127.0.0.1", "--port", "0")]
    try:
        address = _address(processes[0])
        processes += [start("worker", address, "--nthreads", "2") for _ in range(2)]
        engine = connect(address, options)
        engine._work = cohort_workers.do
        names = [name for name in NAMES if name != "die"]
        outcomes = {o.id: o for o in engine.outcomes([Job(name, Scan("x")) for name in names])}
        engine.close()
    finally:
        for process in reversed(processes):
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
    assert sorted(outcomes) == sorted(names)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert (options.folder / "die-once.mark").exists()


def _address(scheduler: subprocess.Popen[str]) -> str:
    for line in scheduler.stderr:
        if found := re.search(r"Scheduler at:\s+(tcp://[\d.]+:\d+)", line):
            return found[1]
    raise AssertionError("the scheduler did not start")


def test_clusters_that_are_not_there(options: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr("uresnet.cohort.dask_engine._CONNECTING", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense", "tcp://:::"):
        with pytest.raises(UserError, match="There is no Dask scheduler at"):
            connect(address, options)
    config = tmp_path / "cluster.yaml"
    config.write_text("jobs: 2\nmemory_gb: 4\n", encoding="utf-8")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="no command sbatch"):
        slurm(config, options)
    for text, said in (("jobs: 0", "jobs must be at least 1"), ("cpus: 2", "unknown key 'cpus'"), ("- 1", "a mapping")):
        config.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=said):
            slurm(config, options)
