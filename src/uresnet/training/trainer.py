"""The optimisation: one loop over random pairs, with validation, checkpoints and resuming."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from uresnet.config import Config, Stage, TrainingConfig, to_dict
from uresnet.errors import UserError
from uresnet.labels import label_scheme
from uresnet.model.network import UResNet, UResNetOutput
from uresnet.training.augment import Augmenter, mirror
from uresnet.training.data import DeviceStore
from uresnet.training.objective import Batch, Objective, PairScore, at_resolution, score_pair
from uresnet.training.pairs import random_pairs, ring_pairs
from uresnet.transform.deformation import GridConvention

Report = Callable[[str], None]


@dataclass
class Progress:
    """Where a training stands; all that is needed, beside weights and moments, to go on."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best: float = -1.0


@dataclass(frozen=True)
class Validation:
    """Means over the validation pairs."""

    registration: float
    segmentation: tuple[float, ...]
    mse: float
    folding: float
    scores: tuple[PairScore, ...]

    @property
    def quality(self) -> float:
        """What checkpoints are chosen by: mean Dice of the registration plus that of the segmentation."""
        return self.registration + (float(np.mean(self.segmentation)) if self.segmentation else 0.0)

    def __str__(self) -> str:
        segmentation = "/".join(f"{d:.3f}" for d in self.segmentation) or "none"
        return f"dice {self.registration:.4f} seg {segmentation} mse {self.mse:.5f} folds {self.folding:.2%}"


class Trainer:
    """Trains a network on a store of images; writes checkpoints into ``folder``; tells ``report`` what happens."""

    def __init__(
        self, config: Config, training: DeviceStore, validation: DeviceStore | None, folder: Path, report: Report
    ) -> None:
        self.config = config
        self.device = training.images.device
        self.stores = {1: training}
        self.validation_stores = {1: validation} if validation is not None else {}
        self.folder = folder
        self.report = report
        self.progress = Progress()
        torch.manual_seed(config.training.seed)
        self.network = UResNet(config.model).to(self.device)
        if config.training.channels_last:
            self.network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.scheme = label_scheme(config.model.scheme)
        self.convention = GridConvention(config.model.convention)
        self.objective = Objective(config.losses, self.scheme, self.convention, self.device)
        self.optimiser = torch.optim.Adam(_parameter_groups(self.network, config.training))
        self._generator = torch.Generator(device=self.device)

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, stop_after_minutes: float | None = None) -> None:
        """Train to the end, or for ``stop_after_minutes`` more; the last state is on disk when this returns."""
        started, before = time.monotonic(), self.progress.seconds
        saved = validated = started
        while self.fraction() < 1:
            terms = self.step()
            now = time.monotonic()
            self.progress.seconds = before + now - started
            if self.progress.step % 50 == 0:
                self._report_step(terms)
            if now - validated > 60 * self.config.training.validate_every_minutes:
                self._validate_and_keep()
                validated = saved = time.monotonic()
            elif now - saved > 60 * self.config.training.checkpoint_every_minutes:
                self.save_state()
                saved = time.monotonic()
            if stop_after_minutes is not None and now - started > 60 * stop_after_minutes:
                break
        self._validate_and_keep()

    def step(self) -> dict[str, Tensor]:
        """One update of the weights; returns the terms of the loss (mean over accumulated batches)."""
        t = self.config.training
        rate = learning_rate(t, self.fraction(), self.progress.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in range(t.accumulate):
            batch = self._next_batch(part)
            terms = self.objective(self.predict(batch), batch)
            (terms["total"] / t.accumulate).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach() / t.accumulate
        if t.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), t.clip_norm)
        self.optimiser.step()
        self.progress.step += 1
        return sums

    def predict(self, batch: Batch) -> UResNetOutput:
        """The network on a batch: convolutions in the configured precision, the output at the batch's resolution."""
        moving, fixed = batch.moving, batch.fixed
        if self.config.training.channels_last:
            moving = moving.contiguous(memory_format=torch.channels_last_3d)
            fixed = fixed.contiguous(memory_format=torch.channels_last_3d)
        half = self.config.training.precision == "bf16"
        with torch.autocast(device_type=self.device.type, dtype=torch.bfloat16, enabled=half):
            output = self.network(moving, fixed)
        return at_resolution(output, batch.downsampling)

    def fraction(self) -> float:
        """How much of the training is done, 0 … 1, by time when a time is set, else by updates."""
        t = self.config.training
        if t.max_minutes is not None:
            return min(1.0, self.progress.seconds / (60 * t.max_minutes))
        return min(1.0, self.progress.step / (t.epochs * self._batches_per_epoch()))

    # -- data ----------------------------------------------------------------------------------------------------

    def _batches_per_epoch(self) -> int:
        t = self.config.training
        pairs = t.pairs_per_epoch or len(self.stores[1].scans)
        return max(1, pairs // (t.batch_size * t.accumulate))

    def _next_batch(self, part: int) -> Batch:
        """The pairs of this update. Everything random depends on seed, update and part alone: resuming repeats it."""
        t = self.config.training
        per_epoch = self._batches_per_epoch()
        epoch, index = divmod(self.progress.step, per_epoch)
        self.progress.epoch = epoch
        count = per_epoch * t.batch_size * t.accumulate
        pairs = random_pairs(len(self.stores[1].scans), count, t.seed, epoch)
        first = (index * t.accumulate + part) * t.batch_size
        moving, fixed = zip(*pairs[first : first + t.batch_size], strict=True)
        seed = np.random.SeedSequence([t.seed, self.progress.step, part]).generate_state(1, np.uint64)[0]
        self._generator.manual_seed(int(seed >> np.uint64(1)))
        return self._augmented(self._store(self.stores, self.stage()), moving, fixed)

    def _augmented(self, store: DeviceStore, moving: tuple[int, ...], fixed: tuple[int, ...]) -> Batch:
        augmenter = Augmenter(self.config.augment, store.downsampling)
        with torch.no_grad():
            mirrored = augmenter.flips(self._generator)
            sides = []
            for indices in (moving, fixed):
                images, labels = store.batch(indices)
                if mirrored:
                    images, labels = mirror(images, labels)
                sides.append(augmenter(images, labels, self._generator))
        return Batch(sides[0][0], sides[1][0], sides[0][1], sides[1][1], store.downsampling)

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
        """Score the fixed validation pairs in float32 at the stage's resolution; None without validation images."""
        if not self.validation_stores:
            return None
        self.network.eval()
        store = self._store(self.validation_stores, stage or self.stage())
        scores = []
        for m, f in ring_pairs(len(store.scans)):
            (moving, moving_labels), (fixed, fixed_labels) = store.batch([m]), store.batch([f])
            batch = Batch(moving, fixed, moving_labels, fixed_labels, store.downsampling)
            output = at_resolution(self.network(moving, fixed), store.downsampling)
            scores.append(score_pair(output, batch, self.scheme, self.convention))
        return _mean_of(scores)

    def _validate_and_keep(self) -> None:
        result = self.validate()
        if result is not None:
            stage = self.stage()
            self.report(f"VALIDATION step {self.progress.step} at 1/{stage.downsampling}: {result}")
            if result.quality > self.progress.best and stage == self.config.training.stages[-1]:
                self.progress.best = result.quality
                self.save("best")
        self.save_state()

    def _report_step(self, terms: dict[str, Tensor]) -> None:
        p = self.progress
        shown = " ".join(f"{name} {float(value):.4f}" for name, value in terms.items())
        rate = self.optimiser.param_groups[0]["lr"]
        self.report(
            f"step {p.step} epoch {p.epoch} {p.seconds:.0f} s ({self.fraction():.0%}) "
            f"1/{self.stage().downsampling} lr {rate:.1e} {shown}"
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def save(self, name: str) -> Path:
        """Write the weights to ``<name>.safetensors``; whole files or none."""
        weights = {k: v.detach().contiguous().cpu() for k, v in self.network.state_dict().items()}
        return _write(weights, self._metadata(), self.folder / f"{name}.safetensors")

    def save_state(self) -> Path:
        """Write ``last.safetensors`` and, with all that resuming needs, ``last.resume.safetensors``."""
        tensors = {k: v.detach().contiguous().cpu() for k, v in self.network.state_dict().items()}
        for key, parameter in self.network.named_parameters():
            for what, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"{what}/{key}"] = value.detach().contiguous().cpu()
        self.save("last")
        return _write(tensors, self._metadata(), self.folder / "last.resume.safetensors")

    def _metadata(self) -> dict[str, str]:
        return {"config": json.dumps(to_dict(self.config)), "progress": json.dumps(vars(self.progress))}

    def resume(self, path: Path) -> None:
        """Continue from ``last.resume.safetensors``. Raises :class:`UserError` if it is of another network."""
        tensors, metadata = _read(path)
        weights = {k: v for k, v in tensors.items() if "/" not in k}
        try:
            self.network.load_state_dict(weights)
        except RuntimeError as error:
            raise UserError(
                f"{path} is a checkpoint of another network; train with the configuration it has."
            ) from error
        for key, parameter in self.network.named_parameters():
            if f"exp_avg/{key}" in tensors:
                names = ("step", "exp_avg", "exp_avg_sq")
                state = {name: tensors[f"{name}/{key}"] for name in names}
                self.optimiser.state[parameter] = {
                    name: value if name == "step" else value.to(self.device) for name, value in state.items()
                }
        self.progress = Progress(**json.loads(metadata["progress"]))

    def start_from(self, path: Path) -> None:
        """Take weights, and nothing else, from a checkpoint."""
        tensors, _ = _read(path)
        self.network.load_state_dict({k: v for k, v in tensors.items() if "/" not in k})


def learning_rate(config: TrainingConfig, fraction: float, step: int) -> float:
    """The rate at ``fraction`` of the training: halved at equal distances, or half a cosine; after a linear warm-up."""
    if config.schedule == "cosine":
        rate = config.learning_rate * max(0.01, 0.5 * (1 + math.cos(math.pi * fraction)))
    else:
        rate = config.learning_rate * 0.5 ** min(config.halvings, math.floor(fraction * (config.halvings + 1)))
    return rate * min(1.0, (step + 1) / (config.warmup_steps + 1))


def _parameter_groups(network: UResNet, config: TrainingConfig) -> list[dict]:
    affine = list(network.affine_head.parameters())
    deformable = list(network.deformable_head.layers[-1].parameters())
    known = {id(p) for p in affine + deformable}
    others = [p for p in network.parameters() if id(p) not in known]
    return [
        {"params": others, "factor": 1.0},
        {"params": affine, "factor": config.affine_rate},
        {"params": deformable, "factor": config.deformable_rate},
    ]


def _mean_of(scores: list[PairScore]) -> Validation:
    columns = np.array([s.segmentation for s in scores])
    segmentation = tuple(float(v) for v in columns.mean(axis=0)) if columns.size else ()
    return Validation(
        registration=float(np.mean([s.registration for s in scores])),
        segmentation=segmentation,
        mse=float(np.mean([s.mse for s in scores])),
        folding=float(np.mean([s.folding for s in scores])),
        scores=tuple(scores),
    )


def _write(tensors: dict[str, Tensor], metadata: dict[str, str], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    save_file(tensors, partial, metadata)
    partial.replace(path)
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:
        raise UserError(f"Cannot read the checkpoint {path}.") from error
