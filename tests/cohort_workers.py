"""Workers without a model, for tests of the engines: what they do is in the name of the job."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection

from uresnet.cohort.jobs import Job, Options, Outcome


def do(options: Options, job: Job) -> Outcome:
    """``die``: kill this process; ``die-once``: the first time; ``wait``: a moment. The outcome names the process."""
    if job.id.startswith("die"):
        mark = options.folder / f"{job.id}.mark"
        if "once" not in job.id or not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if job.id.startswith("wait"):
        time.sleep(0.1)
    return Outcome(id=job.id, state="done", worker=str(os.getpid()))


def serve(connection: Connection, options: Options) -> None:
    """As :func:`uresnet.cohort.local.serve`, one job at a time."""
    while True:
        try:
            connection.send(do(options, connection.recv()))
        except EOFError:
            return
