"""The engine of one computer: worker processes, replaced when they die. No daemon, no server."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from threading import Lock, Thread

from uresnet.cohort.jobs import Job, Options, Outcome
from uresnet.errors import UserError
from uresnet.results.record import now

_AT_ONCE = 2  # jobs of a worker: one is computed while the other is read or written
_DEATHS = 2  # a job that is there when its worker dies so often has killed it


@dataclass(eq=False)
class _Process:
    """A worker process and what it was given."""

    process: BaseProcess
    connection: Connection
    jobs: dict[str, Job] = field(default_factory=dict)


class LocalWorkers:
    """So many worker processes, which ``work`` each in :func:`serve`. ``close`` ends them. ``meanwhile`` is called
    once, while the first of them begin."""

    def __init__(
        self,
        options: Options,
        count: int,
        work: Callable[[Connection, Options], None] | None = None,
        meanwhile: Callable[[], object] | None = None,
    ) -> None:
        self.options = options
        self.count = count
        self._work = work or serve
        self._meanwhile = meanwhile
        self._processes: list[_Process] = []
        self._deaths: dict[str, int] = {}

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Do all jobs; what came of each, as they end. Raises :class:`UserError` when no worker can begin."""
        waiting = deque(jobs)
        while waiting or any(worker.jobs for worker in self._processes):
            while len(self._processes) < min(self.count, len(waiting) + len(self._processes)):
                self._processes.append(self._started())
            for at_once in range(1, _AT_ONCE + 1):  # each has one before any has two
                for worker in self._processes:
                    self._give(worker, waiting, at_once)
            if self._meanwhile is not None:
                self._meanwhile()
                self._meanwhile = None
            by_connection = {worker.connection: worker for worker in self._processes}
            for ready in wait([worker.connection for worker in self._processes]):
                worker = by_connection[ready]  # type: ignore[index]
                try:
                    said = worker.connection.recv()
                except (EOFError, OSError):
                    yield from self._after_death(worker, waiting)
                    continue
                if isinstance(said, UserError):
                    raise said
                worker.jobs.pop(said.id, None)
                yield said

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._processes:
            with suppress(OSError):
                worker.connection.close()
            worker.process.kill() if worker.jobs else worker.process.terminate()
        for worker in self._processes:
            worker.process.join()
        self._processes.clear()

    def _give(self, worker: _Process, waiting: deque[Job], at_once: int) -> None:
        """Jobs until it has so many. What may have killed a worker goes to one alone, so that it is certain; the last
        jobs wait for whoever is free first."""
        while len(worker.jobs) < at_once and len(waiting) >= (1 if not worker.jobs else len(self._processes)):
            suspect = waiting[0].id in self._deaths
            if worker.jobs and (suspect or any(name in self._deaths for name in worker.jobs)):
                return
            job = waiting.popleft()
            worker.jobs[job.id] = job
            with suppress(OSError):  # it has died, which is seen next
                worker.connection.send(job)

    def _after_death(self, worker: _Process, waiting: deque[Job]) -> Iterator[Outcome]:
        worker.process.join()
        self._processes.remove(worker)
        for job in worker.jobs.values():
            self._deaths[job.id] = self._deaths.get(job.id, 0) + 1
            if self._deaths[job.id] < _DEATHS:
                waiting.append(job)
            else:
                yield Outcome(id=job.id, state="failed", key=job.key, error=_death(worker.process), time=now())

    def _started(self) -> _Process:
        context = get_context("spawn")
        here, there = context.Pipe()
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(self.options.threads)  # read when the process loads torch
        try:
            process = context.Process(target=self._work, args=(there, self.options), daemon=True)
            process.start()
        finally:
            os.environ.pop("OMP_NUM_THREADS") if before is None else os.environ.update(OMP_NUM_THREADS=before)
        there.close()
        return _Process(process, here)


def serve(connection: Connection, options: Options) -> None:
    """What a worker process does: jobs in, outcomes out, until the connection ends, with which it ends at once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    Thread(target=_end_with_parent, daemon=True).start()  # also while torch is loaded, which can take long
    from uresnet.cohort.worker import Worker

    try:
        worker = Worker(options)
    except UserError as error:
        connection.send(error)
        return

    sending = Lock()

    def run(job: Job) -> None:
        outcome = worker.run(job)
        with sending, suppress(OSError):
            connection.send(outcome)

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            while True:
                pool.submit(run, connection.recv())
        except (EOFError, OSError):  # what would be sent nobody would hear
            os._exit(1)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _death(process: BaseProcess) -> str:
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
    why = " (perhaps because the memory did not suffice)" if code == -signal.SIGKILL else ""
    return f"The process that worked on it {how}{why}, {_DEATHS} times; try it alone."
