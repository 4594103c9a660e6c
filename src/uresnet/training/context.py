"""What a trainer works with beside its configuration and its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from uresnet.config import ConformSpec
from uresnet.training.data.bundle import Extras
from uresnet.training.events import Event, Report
from uresnet.training.parallel import Team


@dataclass(frozen=True)
class ModelDescription:
    """What a model file says beside its weights: its name, how images were conformed, whose data, which licence."""

    name: str = "uresnet"
    conform: ConformSpec = field(default_factory=ConformSpec)
    licence: str = ""
    trained_on: str = ""


def ignore(event: Event) -> None:
    """A report to nobody."""


@dataclass(frozen=True)
class TrainingContext:
    """Where a training writes, whom it reports to, which processes take part, and what its models say of themselves.

    ``extras`` came with the data. ``report_every``: updates from one
    :class:`~uresnet.training.events.StepDone` to the next.
    """

    folder: Path
    report: Report = ignore
    team: Team = field(default_factory=Team)
    description: ModelDescription = field(default_factory=ModelDescription)
    report_every: int = 50
    extras: Extras = field(default_factory=Extras)
