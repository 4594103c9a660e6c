"""The optimisation that all trainers share: updates, validation, checkpoints, stopping and resuming."""

from __future__ import annotations

import copy
import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from uresnet.config import Config, Stage
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError
from uresnet.training.context import TrainingContext, ignore
from uresnet.training.events import CheckpointFailed, Report, StepDone
from uresnet.training.schedule import learning_rate, stage_at
from uresnet.training.state import STATE, Networks, Progress, read_state, write_state
from uresnet.training.validation import Validation

Network = TypeVar("Network", bound=nn.Module)


class Trainer(ABC, Generic[Network]):
    """Trains ``network``, writes checkpoints into the context's folder, and reports to it what happens.

    Subclasses define the examples, the loss and how the network is judged.
    """

    def __init__(
        self, config: Config, network: Network, scheme: LabelScheme, device: torch.device, context: TrainingContext
    ) -> None:
        self.config = config
        self.device = device
        self.scheme = scheme
        self.context = context
        self.team = context.team
        self.report: Report = context.report if self.team.leads else ignore
        self.progress = Progress(processes=self.team.size)
        self.network: Network = network
        self.in_bfloat16 = config.training.precision == "bf16" and not lacks_bfloat16(device)
        self.optimiser = self.make_optimiser()
        self.mean = copy.deepcopy(network) if config.training.averaging else None
        self._generator = torch.Generator(device=device)
        self._figures: dict[str, Any] = {}

    # -- what subclasses define ----------------------------------------------------------------------------------

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
        """Write the model, in the form that ``register --model`` reads."""

    @abstractmethod
    def as_figures(self, result: Validation) -> dict[str, Any]:
        """What was measured on the validation images, for the card of a model."""

    @property
    @abstractmethod
    def examples_per_epoch(self) -> int:
        """The number of examples in an epoch, if the configuration does not give it."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Voxels of what the network sees in an update."""

    @property
    @abstractmethod
    def scans(self) -> tuple[int, int]:
        """The numbers of scans to train on and to validate on."""

    def autocast(self) -> torch.autocast:
        """Within it, convolutions have the configured precision; float32 on processors that lack bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.in_bfloat16)

    def generator_for(self, place: int) -> torch.Generator:
        """The random generator of the example at ``place`` of this update.

        It depends on the seed, the update and the place alone: a resumed training repeats it, and so does another
        division of the same update into batches and processes.
        """
        words = np.random.SeedSequence([self.config.training.seed, self.progress.step, place])
        self._generator.manual_seed(int(words.generate_state(1, np.uint64)[0] >> np.uint64(1)))
        return self._generator

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, stop: Callable[[], bool] = lambda: False) -> bool:
        """Train to the end or until ``stop()``; whether the end was reached.

        At the end the network is validated; ``stop()`` ends the training at once. The state is on disk when this
        returns. Raises :class:`UserError` when this last state cannot be written.
        """
        t = self.config.training
        started, before = self.team.agreed(time.monotonic())[0], self.progress.seconds
        saved = validated = started
        while self.fraction() < 1:
            terms = self.step()
            now, stopped = self.team.agreed(time.monotonic(), float(stop()))
            self.progress.seconds = before + now - started
            if self.progress.step % self.context.report_every == 0:
                self._report_step(terms)
            if stopped:
                self.save_state()
                return False
            if now - validated > 60 * t.validate_every_minutes and self.fraction() < 1:
                self._save_or_report(self._validate_and_save)
                validated = saved = self.team.agreed(time.monotonic())[0]
            elif now - saved > 60 * t.checkpoint_every_minutes:
                self._save_or_report(self.save_state)
                saved = self.team.agreed(time.monotonic())[0]
        self._validate_and_save()
        if not self.scans[1]:
            self.save("best")  # without validation images, the last network is the result
        return True

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
            torch.autograd.backward(terms["total"] / t.accumulate)
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / t.accumulate
        self.team.average_gradients(self.network.parameters())
        if t.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), t.clip_norm)
        self.optimiser.step()
        self.progress.step += 1
        self._update_mean()
        return self.team.average(sums)

    @torch.no_grad()
    def _update_mean(self) -> None:
        """Move the mean weights towards the present ones, faster at first so that the initial weights are forgotten."""
        if self.mean is not None:
            keep = min(self.config.training.averaging, 1 - 5 / (self.progress.step + 5))
            for mean, weight in zip(self.mean.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(weight, 1 - keep)

    @property
    def judged(self) -> Network:
        """The network that is validated and written: the mean of the weights if they are averaged."""
        return self.network if self.mean is None else self.mean

    # -- where it stands -----------------------------------------------------------------------------------------

    def fraction(self) -> float:
        """How much of the training is done, 0 … 1: by time if the configuration gives a time, else by updates."""
        t = self.config.training
        if t.max_minutes is not None:
            return min(1.0, self.progress.seconds / (60 * t.max_minutes))
        return min(1.0, self.progress.step / (t.epochs * self.batches_per_epoch()))

    def stage(self) -> Stage:
        """The present stage."""
        return stage_at(self.config.training.stages, self.fraction())

    @property
    def examples_per_update(self) -> int:
        """Pairs or blocks of one update, in all batches and processes."""
        t = self.config.training
        return t.batch_size * t.accumulate * self.team.size

    @property
    def updates(self) -> int | None:
        """The number of updates of the whole training; None if its length is a time."""
        t = self.config.training
        return None if t.max_minutes is not None else t.epochs * self.batches_per_epoch()

    def batches_per_epoch(self) -> int:
        """Updates in an epoch."""
        examples = self.config.training.pairs_per_epoch or self.examples_per_epoch
        return max(1, examples // self.examples_per_update)

    def _report_step(self, terms: dict[str, float]) -> None:
        p, rate = self.progress, float(self.optimiser.param_groups[0]["lr"])
        self.report(StepDone(p.step, p.epoch, self.fraction(), p.seconds, rate, self.stage().downsampling, terms))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _save_or_report(self, save: Callable[[], object]) -> None:
        """``save()``; if it fails, for example on a full disk, report it and continue."""
        try:
            save()
        except UserError as error:
            self.report(CheckpointFailed(str(error)))

    def _validate_and_save(self) -> None:
        result = self.validate()
        if result is not None:
            in_last_stage = self.stage() == self.config.training.stages[-1]
            is_best = in_last_stage and result.quality > self.progress.best
            self.report(dataclasses.replace(result, is_best=is_best))
            self._figures = self.as_figures(result)
            if is_best:
                self.save("best")
                self.progress.best = result.quality
        self.save_state()

    def save(self, name: str) -> Path:
        """Write the model to ``<name>.safetensors``, in the form that ``register --model`` reads."""
        path = self.context.folder / f"{name}.safetensors"
        if self.team.leads:
            self.context.folder.mkdir(parents=True, exist_ok=True)
            self.write(path)
        return path

    def save_state(self) -> Path:
        """Write the model ``last.safetensors`` and the state ``last.resume.safetensors``."""
        path = self.context.folder / STATE
        if self.team.leads:
            self.save("last")
            write_state(path, Networks(self.network, self.mean), self.optimiser, self.progress, self.config)
        return path

    def resume(self, path: Path) -> None:
        """Continue from a state. Raises :class:`UserError` if it is that of a different training."""
        progress = read_state(path, Networks(self.network, self.mean), self.optimiser, self.config)
        if progress.processes != self.team.size:
            raise UserError(
                f"{path} was trained by {progress.processes} processes, now there are {self.team.size}; start as many, "
                "because the pairs of an update are shared among them."
            )
        self.progress = progress

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of another model. ``RuntimeError`` when they are those of a different network."""
        for network in (self.network, self.judged):
            network.load_state_dict(weights)


def lacks_bfloat16(device: torch.device) -> bool:
    """Whether convolutions in bfloat16 may take minutes on a ``device``: on a processor without AVX-512."""
    return device.type == "cpu" and not torch.backends.cpu.get_cpu_capability().startswith("AVX512")
