"""The engines of many computers: a Dask cluster that runs already, or one made of jobs of Slurm.

Workers write into the folder of the cohort themselves, which all computers must see under the same path. A job whose
worker dies is done by another; one that has been there when four workers died is given up.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

from uresnet.cohort.jobs import HIDDEN, Job, Options, Outcome
from uresnet.config.cluster import ClusterConfig
from uresnet.config.loading import load_cluster
from uresnet.errors import UserError, quoted
from uresnet.results.record import now

if TYPE_CHECKING:
    from uresnet.cohort.worker import Worker

_CONNECTING = 10  # seconds
_FETCHING = 30  # seconds
_WORKERS = 60  # seconds until the first worker must be there, where they are not waiting in a queue
THREADS = 2
"""Threads of a Dask worker: while one computes, the other reads or writes."""


class DaskWorkers:
    """The workers behind a Dask client, which ``start`` gives when they are needed first, with the cluster that was
    started for it, if any. ``note`` is told the address of Dask's dashboard."""

    def __init__(
        self,
        options: Options,
        start: Callable[[], tuple[Any, Any]],
        note: Callable[[str], None] = lambda line: None,
        work: Callable[[Options, Job], Outcome] | None = None,
    ) -> None:
        self.options, self._start, self._note, self._work = options, start, note, work or do_job
        self._client: Any = None
        self._cluster: Any = None

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do all jobs; what came of each, as they end. Raises :class:`UserError` when the scheduler is lost."""
        from distributed import as_completed

        if self._client is None:
            self._client, self._cluster = self._start()
            if "dashboard" in self._client.scheduler_info().get("services", {}):
                self._note(f"Dask's dashboard: {self._client.dashboard_link}")
        suspects: list[Job] = []
        for outcome, job in self._outcomes(jobs, as_completed):
            if outcome is None:
                suspects.append(job)
            else:
                yield outcome
        for suspect in suspects:  # alone: two jobs that run in one worker die together
            for outcome, job in self._outcomes([suspect], as_completed):
                killed = "The workers that worked on it died; try it alone."
                yield outcome or Outcome(id=job.id, state="failed", key=job.key, error=killed, time=now())

    def _outcomes(self, jobs: Sequence[Job], as_completed: Any) -> Iterator[tuple[Outcome | None, Job]]:
        """What came of each job; None for one that was there each time that a worker died."""
        from distributed import KilledWorker

        futures = {self._client.submit(self._work, self.options, job, pure=False): job for job in jobs}
        ended = as_completed(futures)
        for future in ended:
            if future.status == "cancelled":
                raise UserError(
                    "The scheduler was lost, and what its workers have finished is kept; start it again and run the "
                    "same command."
                )
            try:
                error = future.exception(timeout=_FETCHING)
                outcome = None if error is not None else future.result(timeout=_FETCHING)
            except TimeoutError:  # the worker died with what it had to say: another one will find the result there
                ended.add(future)
                continue
            job = futures.pop(future)
            if isinstance(error, UserError):
                raise error
            if error is not None and not isinstance(error, KilledWorker):
                said = f"{type(error).__name__}: {quoted(' '.join(str(error).split()), 300)}"
                outcome = Outcome(id=job.id, state="failed", key=job.key, error=said, time=now())
            yield outcome, job

    def close(self) -> None:
        """Leave the scheduler, and end what was started for it."""
        for part in (self._client, self._cluster):
            with suppress(Exception):
                if part is not None:
                    part.close()


def connect(address: str, options: Options, note: Callable[[str], None] = lambda line: None) -> DaskWorkers:
    """The cluster of the scheduler at ``address`` (tcp://HOST:PORT). Raises :class:`UserError` where there is none, or
    one without workers."""
    distributed = _distributed("dask")
    try:
        client = distributed.Client(address, timeout=_CONNECTING)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise UserError(
            f"There is no Dask scheduler at {quoted(address, 100)} ({type(error).__name__}); start one with 'dask "
            "scheduler', or check the address."
        ) from error
    try:
        client.wait_for_workers(1, timeout=_WORKERS)
    except TimeoutError as error:
        client.close()
        raise UserError(
            f"The scheduler at {quoted(address, 100)} has no workers; start some with 'dask worker {address[:100]} "
            f"--nthreads {THREADS}'."
        ) from error
    return DaskWorkers(options, lambda: (client, None), note)


def slurm(config: Path, options: Options, note: Callable[[str], None] = lambda line: None) -> DaskWorkers:
    """Workers in jobs of Slurm, as a YAML file says (:class:`uresnet.config.cluster.ClusterConfig`). Raises
    :class:`UserError` for a file that does not fit, and where there is no Slurm."""
    asked = load_cluster(config)
    _distributed("slurm")
    if which("sbatch") is None:
        raise UserError("There is no Slurm here (no command sbatch); run this on a login node of the cluster.")
    options = replace(options, threads=asked.cores)
    return DaskWorkers(options, lambda: _started(asked, options.folder / HIDDEN / "slurm"), note)


def _started(asked: ClusterConfig, logs: Path) -> tuple[Any, Any]:
    from dask_jobqueue.slurm import SLURMCluster
    from distributed import Client

    gpus = [f"--gres=gpu:{asked.gpus}"] if asked.gpus else []
    cluster = SLURMCluster(
        queue=asked.queue,
        account=asked.account,
        cores=THREADS,
        processes=1,
        job_cpu=asked.cores,
        memory=f"{asked.memory_gb:g}GB",
        walltime=asked.walltime,
        interface=asked.interface,
        python=asked.python or sys.executable,
        job_extra_directives=[*gpus, *asked.options],
        log_directory=str(logs),
        scheduler_options={"dashboard_address": ":0"},
    )
    try:
        cluster.scale(jobs=asked.jobs)
        return Client(cluster), cluster
    except BaseException:
        cluster.close()
        raise


def _distributed(extra: str) -> Any:
    try:
        import distributed
    except ImportError:
        raise UserError(f"--engine {extra} needs Dask; install it with: pip install 'uresnet[cluster]'.") from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    return distributed


# -- on the workers ----------------------------------------------------------------------------------------------------

_ready: dict[Options, Worker] = {}
_starting = threading.Lock()


def do_job(options: Options, job: Job) -> Outcome:
    """Run on a worker, which loads the model for the first job of a cohort and keeps it."""
    with _starting:
        if options not in _ready:
            from uresnet.cohort.worker import Worker

            _ready.clear()
            _ready[options] = Worker(options)
        worker = _ready[options]
    return worker.run(job)
