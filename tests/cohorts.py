"""A small cohort: brains that register in a second, options, and an engine in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from uresnet.cohort.jobs import Job, Options, Outcome
from uresnet.cohort.worker import Worker
from uresnet.model.catalogue import find_model

VIEWS = tuple(FIELDS_OF_VIEW)


def write_images(folder: Path, count: int) -> list[Path]:
    """Brains in different fields of view, each a little elsewhere."""
    rng = np.random.default_rng(1)
    paths = []
    for n in range(count):
        grid = FIELDS_OF_VIEW[VIEWS[n % len(VIEWS)]]
        x, y, z = rng.uniform(-5, 5, 3)
        paths.append(write_nifti(brain_on(grid, (x, y, z)), grid, folder / f"brain{n}.nii.gz"))
    return paths


def write_table(path: Path, header: str, *rows: Sequence[object]) -> Path:
    """Tab-separated; ``header`` has its names separated by blanks."""
    lines = [header.split(), *rows]
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in lines), encoding="utf-8")
    return path


def options_for(folder: Path, model: Path, **more: object) -> Options:
    """Options with the model of a file, on one thread."""
    file = find_model(model)
    given = {"brain": "none", "folder": folder, "model": file.path, "model_sha256": file.sha256, **more}
    return Options(**given)  # type: ignore[arg-type]


class Here:
    """An engine without processes. ``seen`` are the jobs that it was given."""

    def __init__(self, options: Options) -> None:
        self.worker = Worker(options)
        self.seen: list[str] = []

    def outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        for job in jobs:
            self.seen.append(job.id)
            yield self.worker.run(job)

    def close(self) -> None:
        pass
