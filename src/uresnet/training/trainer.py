"""The optimisation: one loop over random pairs, with validation, checkpoints and resuming."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uresnet.config import Config, Stage, TrainingConfig
from uresnet.errors import UserError
from uresnet.labels import label_scheme
from uresnet.model.christodoulidis import PairNetwork, pair_network
from uresnet.model.network import UResNetOutput, placed
from uresnet.training.augment import Augmenter, mirror
from uresnet.training.data import DeviceStore
from uresnet.training.objective import Batch, Objective, PairScore, at_resolution, score_pair
from uresnet.training.pairs import random_pairs, ring_pairs
from uresnet.training.parallel import Team
from uresnet.training.samples import PAIRS, Sample, take_sample
from uresnet.training.soap import Soap
from uresnet.training.state import About, Networks, Progress, read_state, read_tensors, write_model, write_state
from uresnet.transform.deformation import GridConvention

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
    """Means over the validation pairs at ``step``, on images of ``downsampling``; the best so far when ``is_best``.
    ``samples`` are pictures of the first pairs."""

    registration: float
    segmentation: tuple[float, ...]
    mse: float
    folding: float
    scores: tuple[PairScore, ...]
    step: int = 0
    downsampling: int = 1
    is_best: bool = False
    samples: tuple[Sample, ...] = ()

    @property
    def quality(self) -> float:
        """What checkpoints are chosen by: mean Dice of the registration plus that of the segmentation."""
        found = [d for d in self.segmentation if not math.isnan(d)]
        return self.registration + (float(np.mean(found)) if found else 0.0)

    def __str__(self) -> str:
        segmentation = "/".join(f"{d:.3f}" for d in self.segmentation) or "none"
        return (
            f"VALIDATION step {self.step} at 1/{self.downsampling}: dice {self.registration:.4f} seg {segmentation} "
            f"mse {self.mse:.5f} folds {self.folding:.2%}"
        )


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


@dataclass(frozen=True)
class Surroundings:
    """What a trainer works with beside its configuration: who else trains, what the models say of themselves."""

    team: Team = field(default_factory=Team)
    about: About = field(default_factory=About)
    report_every: int = 50
    """Updates from one :class:`StepDone` to the next."""


class Trainer:
    """Trains a network on a store of images; writes checkpoints into ``folder``; tells ``report`` what happens."""

    def __init__(
        self,
        config: Config,
        training: DeviceStore,
        validation: DeviceStore | None,
        folder: Path,
        report: Report,
        surroundings: Surroundings | None = None,
    ) -> None:
        self.config = config
        self.device = training.images.device
        self.stores = {1: training}
        self.validation_stores = {1: validation} if validation is not None else {}
        self.folder = folder
        self.surroundings = surroundings or Surroundings()
        self.team = self.surroundings.team
        self.report: Report = report if self.team.leads else _unheard
        self.progress = Progress(processes=self.team.size)
        torch.manual_seed(config.training.seed)
        self.network = pair_network(config.model)
        placed(self.network, self.device, config.training.channels_last)
        self.scheme = label_scheme(config.model.scheme)
        self.convention = GridConvention(config.model.convention)
        self.objective = Objective(config.losses, self.scheme, self.convention, self.device)
        self.optimiser = _optimiser(self.network, config.training)
        self.mean = copy.deepcopy(self.network) if config.training.averaging else None
        self._generator = torch.Generator(device=self.device)
        self._figures: dict[str, Any] = {}

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
            batch = self._next_batch(part)
            terms = self.objective(self.predict(batch), batch, self.stage().loss_downsampling)
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
    def judged(self) -> PairNetwork:
        """The network that is validated and kept: the mean of the weights where they are averaged."""
        return self.network if self.mean is None else self.mean

    def predict(self, batch: Batch) -> UResNetOutput:
        """The network on a batch: convolutions in the configured precision, the output at the batch's resolution."""
        half = self.config.training.precision == "bf16"
        with torch.autocast(device_type=self.device.type, dtype=torch.bfloat16, enabled=half):
            output = self.network(batch.moving, batch.fixed)
        return at_resolution(output, batch.downsampling)

    def fraction(self) -> float:
        """How much of the training is done, 0 … 1, by time when a time is set, else by updates."""
        t = self.config.training
        if t.max_minutes is not None:
            return min(1.0, self.progress.seconds / (60 * t.max_minutes))
        return min(1.0, self.progress.step / (t.epochs * self._batches_per_epoch()))

    # -- data ----------------------------------------------------------------------------------------------------

    @property
    def pairs_per_update(self) -> int:
        """Over all batches and processes."""
        t = self.config.training
        return t.batch_size * t.accumulate * self.team.size

    @property
    def updates(self) -> int | None:
        """How many the whole training has; None when its length is a time."""
        t = self.config.training
        return None if t.max_minutes is not None else t.epochs * self._batches_per_epoch()

    def _batches_per_epoch(self) -> int:
        pairs = self.config.training.pairs_per_epoch or len(self.stores[1].scans)
        return max(1, pairs // self.pairs_per_update)

    def _next_batch(self, part: int) -> Batch:
        """This process's pairs of the accumulated batch ``part`` of this update.

        Everything random depends on the seed, the update and the pair's place in it alone: resuming repeats it, and
        so does another split of the same update into batches and processes.
        """
        t = self.config.training
        per_epoch = self._batches_per_epoch()
        epoch, index = divmod(self.progress.step, per_epoch)
        self.progress.epoch = epoch
        pairs = random_pairs(len(self.stores[1].scans), per_epoch * self.pairs_per_update, t.seed, epoch)
        own = (part * self.team.size + self.team.rank) * t.batch_size
        store = self._store(self.stores, self.stage())
        chosen = []
        for place in range(own, own + t.batch_size):
            seed = np.random.SeedSequence([t.seed, self.progress.step, place]).generate_state(1, np.uint64)[0]
            self._generator.manual_seed(int(seed >> np.uint64(1)))
            chosen.append(self._augmented(store, *pairs[index * self.pairs_per_update + place]))
        moving, fixed, moving_labels, fixed_labels = (torch.cat(side) for side in zip(*chosen, strict=True))
        return Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)

    def _augmented(self, store: DeviceStore, moving: int, fixed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Moving and fixed image, then their labels, each (1, 1, I, J, K)."""
        augmenter = Augmenter(self.config.augment, store.downsampling)
        with torch.no_grad():
            mirrored = augmenter.flips(self._generator)
            sides = []
            for index in (moving, fixed):
                images, labels = store.batch([index])
                if mirrored:
                    images, labels = mirror(images, labels)
                sides.append(augmenter(images, labels, self._generator))
        return sides[0][0], sides[1][0], sides[0][1], sides[1][1]

    def stage(self) -> Stage:
        """The part of the training that the present belongs to."""
        done, fraction = 0.0, self.fraction()
        for stage in self.config.training.stages:
            done += stage.fraction
            if fraction < done - 1e-9:
                return stage
        return self.config.training.stages[-1]

    def _store(self, stores: dict[int, DeviceStore], stage: Stage) -> DeviceStore:
        if stage.downsampling not in stores:
            stores[stage.downsampling] = stores[1].downsampled(stage.downsampling)
        return stores[stage.downsampling]

    # -- validation ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def validate(self, stage: Stage | None = None) -> Validation | None:
        """Score the fixed validation pairs in float32 at the stage's resolution; None without validation images.

        Processes share the pairs; all get the whole result.
        """
        if not self.validation_stores:
            return None
        network = self.judged.eval()
        store = self._store(self.validation_stores, stage or self.stage())
        pairs = ring_pairs(len(store.scans))
        axes = self.surroundings.about.conform.axis_codes
        found: list[tuple[int, PairScore, Sample | None]] = []
        for number in range(self.team.rank, len(pairs), self.team.size):
            m, f = pairs[number]
            (moving, moving_labels), (fixed, fixed_labels) = store.batch([m]), store.batch([f])
            batch = Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)
            output = at_resolution(network(moving, fixed), store.downsampling)
            seen = take_sample(output, batch, self.scheme, self.convention, axes) if number < PAIRS else None
            found.append((number, score_pair(output, batch, self.scheme, self.convention), seen))
        everyones = sorted(self.team.gathered(found), key=lambda one: one[0])
        means = _mean_of([score for _, score, _ in everyones], self.progress.step, store.downsampling)
        return dataclasses.replace(means, samples=tuple(seen for _, _, seen in everyones if seen is not None))

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
            self._figures = self._as_figures(result)
            if best:
                self.save("best")
                self.progress.best = result.quality
        self.save_state()

    def _finish(self) -> None:
        self._validate_and_keep()
        if not self.validation_stores:
            self.save("best")  # nothing to judge by: the last is the one to use

    def _as_figures(self, result: Validation) -> dict[str, Any]:
        """For the card of a model: what was measured on the validation pairs, on the network's grid."""
        figures: dict[str, Any] = {
            "training step": result.step,
            "validation pairs": len(result.scores),
            "registration Dice, 15 structures": round(result.registration, 4),
            "folding fraction": float(f"{result.folding:.3g}"),
        }
        for one, dice in zip(self.scheme.classes, result.segmentation, strict=False):
            figures[f"segmentation Dice, {one.name}"] = None if math.isnan(dice) else round(dice, 4)
        if result.downsampling > 1:
            figures["measured on blocks of voxels"] = result.downsampling
        return figures

    def _report_step(self, terms: dict[str, float]) -> None:
        p, rate = self.progress, float(self.optimiser.param_groups[0]["lr"])
        self.report(StepDone(p.step, p.epoch, self.fraction(), p.seconds, rate, self.stage().downsampling, terms))

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, name: str) -> Path:
        """Write the model to ``<name>.safetensors``, as ``register`` takes it; whole files or none."""
        path = self.folder / f"{name}.safetensors"
        if self.team.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_model(path, self.judged, self.surroundings.about, self._figures, self.config)
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

    def start_from(self, path: Path) -> None:
        """Take weights, and nothing else, from a checkpoint."""
        tensors, _ = read_tensors(path)
        for network in (self.network, self.judged):
            network.load_state_dict({k: v for k, v in tensors.items() if "/" not in k})


def _unheard(event: Event) -> None:
    """The report of a process that does not lead."""


def learning_rate(config: TrainingConfig, fraction: float, step: int) -> float:
    """The rate at ``fraction`` of the training: halved at equal distances, or half a cosine; after a linear warm-up."""
    if config.schedule == "cosine":
        rate = config.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
    else:
        rate = config.learning_rate * 0.5 ** min(config.halvings, math.floor(fraction * (config.halvings + 1)))
    return rate * min(1.0, (step + 1) / (config.warmup_steps + 1))


def _optimiser(network: PairNetwork, config: TrainingConfig) -> torch.optim.Optimizer:
    groups = _parameter_groups(network, config)
    return Soap(groups) if config.optimiser == "soap" else torch.optim.Adam(groups)


def _parameter_groups(network: PairNetwork, config: TrainingConfig) -> list[dict]:
    affine = list(network.affine_head.parameters())
    deformable = list(network.deformable_head.layers[-1].parameters())
    known = {id(p) for p in affine + deformable}
    others = [p for p in network.parameters() if id(p) not in known]
    return [
        {"params": others, "factor": 1.0},
        {"params": affine, "factor": config.affine_rate},
        {"params": deformable, "factor": config.deformable_rate},
    ]


def _mean_of(scores: list[PairScore], step: int, downsampling: int) -> Validation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a structure that no validation image has stays NaN
        segmentation = tuple(float(v) for v in np.nanmean(np.array([s.segmentation for s in scores]), axis=0))
    return Validation(
        registration=float(np.mean([s.registration for s in scores])),
        segmentation=segmentation,
        mse=float(np.mean([s.mse for s in scores])),
        folding=float(np.mean([s.folding for s in scores])),
        scores=tuple(scores),
        step=step,
        downsampling=downsampling,
    )
