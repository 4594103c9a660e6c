"""A training as a person starts it: configuration, data and a folder in; a model that ``register`` takes out."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml

from uresnet.config import Config, to_dict
from uresnet.core.files import write_text
from uresnet.errors import UserError
from uresnet.model.checkpoint import load_model
from uresnet.training.data.dataset import PackedDataset, open_dataset
from uresnet.training.data.store import load_store
from uresnet.training.log import Logbook
from uresnet.training.loop import STATE, Event, Loop, Surroundings, never
from uresnet.training.parallel import Team
from uresnet.training.segmenting import SegmenterTrainer
from uresnet.training.state import About
from uresnet.training.trainer import Trainer

VALIDATION = "val"
CONFIGURATION = "config.yaml"


@dataclass(frozen=True)
class RunOptions:
    """Where a training reads and writes, and how it is started. ``report_every``: updates between reports."""

    data: Path
    folder: Path
    resume: bool = False
    tensorboard: bool = False
    report_every: int = 1


@dataclass(frozen=True)
class Rehearsal:
    """What a training would need: ``seconds`` per update and ``memory`` (bytes) on the device, both measured."""

    shape: tuple[int, ...]
    pairs_per_update: int
    updates: int | None
    weights: int
    training_scans: int
    validation_scans: int
    seconds: float
    memory: int | None


def open_training(
    config: Config, options: RunOptions, device: str, team: Team, report: Callable[[Event], None]
) -> Loop:
    """Open the data and build the trainer, at its start or where it stopped; nothing is written.

    Raises :class:`UserError` for data that are missing or have no training scans, a folder that holds a training
    already (unless ``options.resume``), and a state of another configuration.
    """
    state = options.folder / STATE
    if state.exists() and not options.resume:
        raise UserError(
            f"{options.folder} holds a training already; go on with it by --resume, or choose another folder with -o."
        )
    dataset = open_dataset(options.data)
    with memory_explained(config):
        training = load_store(dataset, config.training.splits, device)
        if len(training.scans) < 2:
            raise UserError(f"{options.data} holds a single scan to train on; at least two are needed.")
        # Scans that are trained on cannot judge.
        judging = VALIDATION not in config.training.splits
        has_validation = judging and sum(scan.split == VALIDATION for scan in dataset.scans) >= 2
        validation = load_store(dataset, [VALIDATION], device) if has_validation else None
        about = _about(dataset, options.folder, len(training.scans))
        surroundings = Surroundings(team, about, options.report_every)
        kind = SegmenterTrainer if config.segmenter else Trainer
        trainer = kind(config, training, validation, options.folder, report, surroundings)
    if config.training.start:
        _start_from(trainer, config.training.start)
    if options.resume and state.exists():
        trainer.resume(state)
    return trainer


def train(trainer: Loop, options: RunOptions, stop: Callable[[], bool] = never) -> bool:
    """Run a training to its end or until ``stop()``, with its tables; whether it reached the end."""
    if not trainer.team.leads:
        with memory_explained(trainer.config):
            return trainer.run(stop=stop)
    _write_configuration(trainer.config, options)
    logbook = Logbook(options.folder, trainer.scheme, trainer.progress.step, options.tensorboard)
    told = trainer.report

    def both(event: Event) -> None:
        logbook(event)
        told(event)

    trainer.report = both
    try:
        with memory_explained(trainer.config):
            return trainer.run(stop=stop)
    finally:
        trainer.report = told
        logbook.close()


def rehearse(trainer: Loop) -> Rehearsal:
    """Two updates, the second one timed, with nothing kept: what the training would cost."""
    on_gpu = trainer.device.type == "cuda"
    with memory_explained(trainer.config):
        trainer.step()
        if on_gpu:
            torch.cuda.synchronize(trainer.device)
        start = time.perf_counter()
        trainer.step()
        if on_gpu:
            torch.cuda.synchronize(trainer.device)
    seconds = time.perf_counter() - start
    training, validation = trainer.scans
    return Rehearsal(
        shape=trainer.shape,
        pairs_per_update=trainer.pairs_per_update,
        updates=trainer.updates,
        weights=sum(p.numel() for p in trainer.network.parameters()),
        training_scans=training,
        validation_scans=validation,
        seconds=seconds,
        memory=torch.cuda.max_memory_allocated(trainer.device) if on_gpu else _peak_memory(),
    )


@contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Turns running out of memory into a sentence that says what to change."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _too_large(config) from error
    except RuntimeError as error:
        if "not enough memory" in str(error) or "allocate memory" in str(error):
            raise _too_large(config) from error
        raise


def with_limits(config: Config, data: Path | None, minutes: float | None) -> Config:
    """The configuration with what the command line overrides."""
    changed = config if data is None else replace(config, data=str(data))
    if minutes is None:
        return changed
    return replace(changed, training=replace(changed.training, max_minutes=minutes))


def _start_from(trainer: Loop, name: str) -> None:
    model = load_model(name)
    try:
        trainer.start_from(model.network.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"The model {name} is another network than the configuration's; change training.start."
        ) from error


def _too_large(config: Config) -> UserError:
    t, changes = config.training, []
    if t.batch_size > 1:
        changes.append(f"training.batch_size below {t.batch_size} (with training.accumulate as many times higher)")
    if t.precision == "fp32":
        changes.append("training.precision: bf16")
    if config.segmenter:
        changes.append("smaller blocks.shape")
    else:
        if config.losses.downsampling == 1:
            changes.append("losses.downsampling: 2")
        changes.append("a first stage on coarser voxels (training.stages with downsampling: 2)")
    return UserError(f"There is not enough memory for this training; try {', '.join(changes)}.")


def _about(dataset: PackedDataset, folder: Path, scans: int) -> About:
    whose = dataset.name or dataset.folder.resolve().name
    return About(folder.resolve().name, dataset.conform, dataset.licence, f"{whose}, {scans} scans")


def _write_configuration(config: Config, options: RunOptions) -> None:
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{options.folder} cannot be made ({error.strerror}); choose another with -o.") from error
    tree = to_dict(replace(config, data=str(options.data)))
    write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), options.folder / CONFIGURATION)


def _peak_memory() -> int | None:
    """The most that this process has held, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
