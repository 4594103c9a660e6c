"""What a cohort is made of: its scans, its jobs, the options that all share, and what comes of a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from uresnet.core.choices import BrainMethod, FormatName, Freedom, OutputName
from uresnet.errors import quoted
from uresnet.pipeline.names import DEFAULT_OUTPUTS

LEAN_OUTPUTS: tuple[OutputName, ...] = tuple(name for name in DEFAULT_OUTPUTS if name not in ("report", "jacobian"))
"""What a cohort writes by default: pages take time, and Jacobians follow from transforms (``uresnet jacobian``)."""

State = Literal["done", "failed", "busy"]
"""Of a job: "busy" is one that another run on the same folder is working on."""

EngineName = Literal["local", "dask", "slurm"]
"""Where a cohort is worked on."""

HIDDEN = ".cohort"
"""The folder, within that of the results, of what only a running cohort needs."""

_NAMED = 5  # jobs, in a message


@dataclass(frozen=True)
class Scan:
    """An image file, and a mask of its brain where one is given."""

    image: str
    mask: str | None = None


@dataclass(frozen=True)
class Job:
    """``moving`` is registered to ``fixed``, or segmented where that is None. ``id`` names the folder of the result;
    ``key`` is the hash of inputs, options and model."""

    id: str
    moving: Scan
    fixed: Scan | None = None
    key: str = ""

    @property
    def scans(self) -> tuple[Scan, ...]:
        return (self.moving,) if self.fixed is None else (self.moving, self.fixed)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What all jobs of a cohort share. ``model`` is a file, ``general`` that of the model that looks at each image
    first, if any; ``model_sha256`` is of both; ``folder`` takes the results; ``threads`` is for each worker.
    ``kept_images`` and ``kept_encodings`` are bytes: how much a worker keeps in memory of the images that it has read,
    and how much all workers keep on the disk of what the network has said of them, in the folder ``encodings`` if that
    is shared by several cohorts, else in one of this cohort's own."""

    folder: Path
    model: Path
    model_sha256: str
    general: Path | None = None
    device: str = "cpu"
    transform: Freedom = "joint"
    refine: bool = False
    brain: BrainMethod = "auto"
    outputs: tuple[OutputName, ...] = LEAN_OUTPUTS
    field_spacing: float | None = None
    formats: tuple[FormatName, ...] = ()
    command: tuple[str, ...] = ()
    threads: int = 1
    kept_images: int = 200_000_000
    kept_encodings: int = 10_000_000_000
    encodings: Path | None = None

    @property
    def that_matter(self) -> dict[str, Any]:
        """Those that change a result."""
        names = ("model_sha256", "transform", "refine", "brain", "outputs", "field_spacing", "formats")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of a job. ``seconds`` are those of computing and writing, ``peak_mb`` is the most memory that the
    worker held meanwhile; ``encodings`` is how many images the network looked at; ``reasons``, why the verdict is not
    good, and ``warnings`` are sentences."""

    id: str
    state: State
    key: str = ""
    verdict: str = ""
    reasons: tuple[str, ...] = ()
    seconds: float | None = None
    peak_mb: int | None = None
    encodings: int = 0
    worker: str = ""
    error: str = ""
    warnings: tuple[str, ...] = ()
    time: str = ""

    def to_json_value(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value not in (None, "", ())}

    @classmethod
    def from_json_value(cls, value: Any) -> Outcome:
        """Raises ``ValueError`` for what is no outcome. Names of a later version are left out."""
        known = {f.name for f in fields(cls)}
        if not isinstance(value, dict) or not all(isinstance(value.get(name), str) for name in ("id", "state")):
            raise ValueError("no outcome of a job")
        for name in ("reasons", "warnings"):  # of warnings, an earlier version wrote how many
            said = value.get(name, ())
            value = value | {name: tuple(map(str, said)) if isinstance(said, list) else ()}
        return cls(**{name: item for name, item in value.items() if name in known})


def named(jobs: Sequence[str], said: Mapping[str, str] | None = None) -> str:
    """The first ``jobs``, with what is ``said`` of each: ``a (its folder), b (volumes.tsv) and 3 more``."""
    about = {job: f" ({quoted(what)})" for job, what in (said or {}).items()}
    first = ", ".join(f"{job}{about.get(job, '')}" for job in jobs[:_NAMED])
    return first + (f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else "")
