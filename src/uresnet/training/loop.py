"""The optimisation that all networks share: updates, validation, checkpoints, stopping and resuming."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from uresnet.config import Config, Stage, TrainingConfig
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError
from uresnet.training.objective import PairScore
from uresnet.training.parallel import Team
from uresnet.training.samples import Sample
from uresnet.training.state import About, Networks, Progress, read_state, write_state

STATE = "last.resume.safetensors"
"""The file in a run's folder from which it goes on."""


@dataclass(frozen=True)
class StepDone:
    """One update: where the training stands and the terms of the loss, unweighted, with their weighted ``total``."""

    step: int
    epoch: int
    fraction: float
    seconds: float
    rate: float
    downsampling: int
    terms: dict[str, float]

    def __str__(self) -> str:
        shown = " ".join(f"{name} {value:.4f}" for name, value in self.terms.items())
        return (
            f"step {self.step} epoch {self.epoch} {self.seconds:.0f} s ({self.fraction:.0%}) "
            f"1/{self.downsampling} lr {self.rate:.1e} {shown}"
        )


@dataclass(frozen=True)
class Validation:
    """Means over the validation scans or pairs at ``step``, on images of ``downsampling``; the best so far when
    ``is_best``. ``samples`` are pictures of the first. What does not register has NaN for what registration gives,
    and in ``table1`` the segmentation's Dice in the structures of Table 1."""

    segmentation: tuple[float, ...]
    registration: float = math.nan
    mse: float = math.nan
    folding: float = math.nan
    scores: tuple[PairScore, ...] = ()
    step: int = 0
    downsampling: int = 1
    is_best: bool = False
    samples: tuple[Sample, ...] = ()
    table1: tuple[float, ...] = ()

    @property
    def quality(self) -> float:
        """What checkpoints are chosen by: mean Dice of the registration plus that of the segmentation."""
        found = [d for d in self.segmentation if not math.isnan(d)]
        registration = 0.0 if math.isnan(self.registration) else self.registration
        return registration + (float(np.mean(found)) if found else 0.0)

    def __str__(self) -> str:
        if math.isnan(self.registration):
            shown = f"segmentation Dice {float(np.nanmean(self.table1)):.4f} in the structures of Table 1"
        else:
            each = " / ".join(f"{d:.3f}" for d in self.segmentation)
            shown = f"registration Dice {self.registration:.4f}, "
            shown += (f"segmentation {each}, " if each else "") + f"folds {self.folding:.2%}"
        return f"update {self.step}: {shown}"


@dataclass(frozen=True)
class NotKept:
    """A checkpoint that could not be written; the one before it is whole, and the training goes on."""

    reason: str

    def __str__(self) -> str:
        return f"{self.reason} The checkpoint before is kept; training goes on and tries again."


Event = StepDone | Validation | NotKept
Report = Callable[[Event], None]


def never() -> bool:
    """Nobody wants to stop."""
    return False


def lacks_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 may take minutes on a ``device``: on a processor without AVX-512."""
    return device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")


@dataclass(frozen=True)
class Surroundings:
    """What a trainer works with beside its configuration: who else trains, what the models say of themselves."""

    team: Team = field(default_factory=Team)
    about: About = field(default_factory=About)
    report_every: int = 50
    """Updates from one :class:`StepDone` to the next."""


Network = TypeVar("Network", bound=nn.Module)


class Loop(ABC, Generic[Network]):
    """Trains ``network``; writes checkpoints into ``folder``; tells ``report`` what happens.

    What is trained on what, and how it is judged, is for the subclasses to say.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        scheme: LabelScheme,
        device: torch.device,
        folder: Path,
        report: Report,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.config = config
        self.device = device
        self.folder = folder
        self.scheme = scheme
        self.surroundings = surroundings or Surroundings()
        self.team = self.surroundings.team
        self.report: Report = report if self.team.leads else _unheard
        self.progress = Progress(processes=self.team.size)
        self.network: Network = network
        self.halved = config.training.precision == "bf16" and not lacks_bfloat16(device)
        self.optimiser = self.make_optimiser()
        self.mean = copy.deepcopy(network) if config.training.averaging else None
        self._generator = torch.Generator(device=device)
        self._figures: dict[str, Any] = {}

    # -- what subclasses say -------------------------------------------------------------------------------------

    @abstractmethod
    def make_optimiser(self) -> torch.optim.Optimizer:
        """Over groups of ``self.network``'s parameters, each with its ``factor`` of the learning rate."""

    @abstractmethod
    def terms(self, part: int) -> dict[str, Tensor]:
        """The terms of the loss, and their weighted sum ``total``, on the accumulated batch ``part`` of this update."""

    @abstractmethod
    def validate(self) -> Validation | None:
        """Judge the network; None without validation images. Processes share the work; all get the whole result."""

    @abstractmethod
    def write(self, path: Path) -> None:
        """Write the model, as ``register --model`` takes it."""

    @abstractmethod
    def as_figures(self, result: Validation) -> dict[str, Any]:
        """For the card of a model: what was measured on the validation images."""

    @property
    @abstractmethod
    def examples_per_epoch(self) -> int:
        """Where the configuration does not say."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Voxels of what the network sees in an update."""

    @property
    @abstractmethod
    def scans(self) -> tuple[int, int]:
        """How many there are to train on and to validate with."""

    def in_precision(self) -> torch.autocast:
        """Within it convolutions are in the configured precision; float32 where the processor has no other."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved)

    def seed(self, place: int) -> torch.Generator:
        """The source of all that is random about the example at ``place`` of this update.

        It depends on the seed, the update and the place alone: resuming repeats it, and so does another split of the
        same update into batches and processes.
        """
        words = np.random.SeedSequence([self.config.training.seed, self.progress.step, place])
        self._generator.manual_seed(int(words.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return self._generator

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, stop_after_minutes: float | None = None, stop: Callable[[], bool] = never) -> bool:
        """Train to the end, for ``stop_after_minutes`` more, or until ``stop()``; whether the end was reached.

        At the end, and after ``stop_after_minutes``, the network is validated; ``stop()`` ends at once. The state is on
        disk when this returns. Raises :class:`UserError` when that last one cannot be written.
        """
        t = self.config.training
        started, before = time.monotonic(), self.progress.seconds
        saved = validated = started
        while self.fraction() < 1:
            terms = self.step()
            now, stopped = self.team.agreed(time.monotonic(), float(stop()))
            self.progress.seconds = before + now - started
            if self.progress.step % self.surroundings.report_every == 0:
                self._report_step(terms)
            if stopped:
                self.save_state()
                return False
            if stop_after_minutes is not None and now - started > 60 * stop_after_minutes:
                break
            if now - validated > 60 * t.validate_every_minutes and self.fraction() < 1:
                self._keep(validate=True)
                validated = saved = self.team.agreed(time.monotonic())[0]
            elif now - saved > 60 * t.checkpoint_every_minutes:
                self._keep(validate=False)
                saved = self.team.agreed(time.monotonic())[0]
        self._finish()
        return self.fraction() >= 1

    def step(self) -> dict[str, float]:
        """One update of the weights; returns the terms of the loss (mean over accumulated batches and processes)."""
        t = self.config.training
        rate = learning_rate(t, self.fraction(), self.progress.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in range(t.accumulate):
            terms = self.terms(part)
            (terms["total"] / t.accumulate).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / t.accumulate
        self.team.average_gradients(self.network.parameters())
        if t.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), t.clip_norm)
        self.optimiser.step()
        self.progress.step += 1
        self._average()
        return self.team.average(sums)

    @torch.no_grad()
    def _average(self) -> None:
        """Move the mean weights towards the present ones, faster at first so that they forget the start."""
        if self.mean is not None:
            keep = min(self.config.training.averaging, 1 - 5 / (self.progress.step + 5))
            for mean, weight in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1 - keep)

    @property
    def judged(self) -> Network:
        """The network that is validated and kept: the mean of the weights where they are averaged."""
        return self.network if self.mean is None else self.mean

    def fraction(self) -> float:
        """How much of the training is done, 0 … 1, by time when a time is set, else by updates."""
        t = self.config.training
        if t.max_minutes is not None:
            return min(1.0, self.progress.seconds / (60 * t.max_minutes))
        return min(1.0, self.progress.step / (t.epochs * self.batches_per_epoch()))

    def stage(self) -> Stage:
        """The part of the training that the present belongs to."""
        done, fraction = 0.0, self.fraction()
        for stage in self.config.training.stages:
            done += stage.fraction
            if fraction < done - 1e-9:
                return stage
        return self.config.training.stages[-1]

    @property
    def pairs_per_update(self) -> int:
        """Over all batches and processes."""
        t = self.config.training
        return t.batch_size * t.accumulate * self.team.size

    @property
    def updates(self) -> int | None:
        """How many the whole training has; None when its length is a time."""
        t = self.config.training
        return None if t.max_minutes is not None else t.epochs * self.batches_per_epoch()

    def batches_per_epoch(self) -> int:
        """Updates in an epoch."""
        pairs = self.config.training.pairs_per_epoch or self.examples_per_epoch
        return max(1, pairs // self.pairs_per_update)

    def _keep(self, validate: bool) -> None:
        """Validate if asked, and write what is worth it; a full disk is reported and the training goes on."""
        try:
            self._validate_and_keep() if validate else self.save_state()
        except UserError as error:
            self.report(NotKept(str(error)))

    def _validate_and_keep(self) -> None:
        result = self.validate()
        if result is not None:
            last = self.stage() == self.config.training.stages[-1]
            best = last and result.quality > self.progress.best
            self.report(dataclasses.replace(result, is_best=best))
            self._figures = self.as_figures(result)
            if best:
                self.save("best")
                self.progress.best = result.quality
        self.save_state()

    def _finish(self) -> None:
        self._validate_and_keep()
        if not self.scans[1]:
            self.save("best")  # nothing to judge by: the last is the one to use

    def _report_step(self, terms: dict[str, float]) -> None:
        p, rate = self.progress, float(self.optimiser.param_groups[0]["lr"])
        self.report(StepDone(p.step, p.epoch, self.fraction(), p.seconds, rate, self.stage().downsampling, terms))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, name: str) -> Path:
        """Write the model to ``<name>.safetensors``, as ``register`` takes it; whole files or none."""
        path = self.folder / f"{name}.safetensors"
        if self.team.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.write(path)
        return path

    def save_state(self) -> Path:
        """Write ``last.safetensors`` and, with all that resuming needs, ``last.resume.safetensors``."""
        path = self.folder / STATE
        if self.team.leads:
            self.save("last")
            write_state(path, self._networks(), self.optimiser, self.progress, self.config)
        return path

    def resume(self, path: Path) -> None:
        """Continue from ``last.resume.safetensors``. Raises :class:`UserError` if it is of another training."""
        progress = read_state(path, self._networks(), self.optimiser, self.config)
        if progress.processes != self.team.size:
            raise UserError(
                f"{path} was trained by {progress.processes} processes, now there are {self.team.size}; start as many, "
                "because the pairs of an update are shared among them."
            )
        self.progress = progress

    def _networks(self) -> Networks:
        return Networks(self.network, self.mean)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take weights, and nothing else. ``RuntimeError`` when they are another network's."""
        for network in (self.network, self.judged):
            network.load_state_dict(weights)


def _unheard(event: Event) -> None:
    """The report of a process that does not lead."""


def learning_rate(config: TrainingConfig, fraction: float, step: int) -> float:
    """The rate at ``fraction`` of the training: halved at equal distances, or half a cosine; after a linear warm-up."""
    if config.schedule == "cosine":
        rate = config.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
    else:
        rate = config.learning_rate * 0.5 ** min(config.halvings, math.floor(fraction * (config.halvings + 1)))
    return rate * min(1.0, (step + 1) / (config.warmup_steps + 1))
