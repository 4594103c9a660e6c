"""A training from start to end: a configuration, a data folder and a folder for the run; a model comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from uresnet.config import Config, to_dict
from uresnet.core.files import write_text
from uresnet.errors import UserError, quoted
from uresnet.model.catalogue import BRAIN, ModelFile, brain_finder, read_model_file
from uresnet.model.checkpoint import load_model
from uresnet.training.context import ModelDescription, TrainingContext
from uresnet.training.data.bundle import Extras, open_bundle
from uresnet.training.data.dataset import INDEX, PackedDataset, open_dataset
from uresnet.training.data.prepare import FEWEST
from uresnet.training.data.store import DeviceStore, load_other_contrasts, load_store
from uresnet.training.events import Event, Report
from uresnet.training.finder_trainer import FinderTrainer, StructureTrainer
from uresnet.training.log import Logbook
from uresnet.training.loop import Trainer
from uresnet.training.memory import memory_explained
from uresnet.training.pair_trainer import PairTrainer
from uresnet.training.parallel import Team
from uresnet.training.segmenter_trainer import SegmenterTrainer
from uresnet.training.state import STATE

VALIDATION = "val"
CONFIGURATION = "config.yaml"

_OF_PAIRS, _OF_SEGMENTERS = ("model", "losses", "augment", "abnormal"), ("segmenter", "blocks", "contrasts", "heads")
"""The parts of a configuration that only networks of one kind are trained with."""


@dataclass(frozen=True)
class RunOptions:
    """Where a training reads (a data folder or a bundle) and writes, and how it is started.

    ``report_every``: updates between reports.
    """

    data: Path
    folder: Path
    resume: bool = False
    tensorboard: bool = False
    report_every: int = 1


def open_training(config: Config, options: RunOptions, device: str, team: Team, report: Report) -> Trainer[Any]:
    """Open the data and build the trainer, at its start or where it stopped; nothing is written.

    Raises :class:`UserError` for data that are missing or have no training scans, a folder that holds a training
    already (unless ``options.resume``), and a state of another configuration.
    """
    state = options.folder / STATE
    if state.exists() and not options.resume:
        raise UserError(
            f"{options.folder} holds a training already; continue it with --resume, or choose another folder with -o."
        )
    is_bundle = options.data.is_file()
    dataset, extras = open_bundle(options.data) if is_bundle else (open_dataset(options.data), Extras())
    _check_content(config, dataset)
    with memory_explained(config):
        training, validation = _load_stores(config, dataset, device)
        if config.contrasts:
            extras = replace(extras, others=load_other_contrasts(dataset, config.training.splits, device))
        description = _describe(dataset, options.folder, len(training.scans))
        context = TrainingContext(options.folder, report, team, description, options.report_every, extras)
        trainer: Trainer[Any] = _kind_of(config)(config, training, validation, context)
    if config.training.start:
        _start_from(trainer, config.training.start)
    if options.resume and state.exists():
        trainer.resume(state)
    return trainer


def train(trainer: Trainer[Any], options: RunOptions, stop: Callable[[], bool] = lambda: False) -> bool:
    """Run a training to its end or until ``stop()``, and log it; whether it reached the end."""
    if not trainer.team.leads:
        with memory_explained(trainer.config):
            return trainer.run(stop)
    _write_configuration(trainer.config, options)
    logbook = Logbook(options.folder, trainer.scheme, trainer.progress.step, options.tensorboard)
    report = trainer.report

    def log_and_report(event: Event) -> None:
        logbook(event)
        report(event)

    trainer.report = log_and_report
    try:
        with memory_explained(trainer.config):
            return trainer.run(stop)
    finally:
        trainer.report = report
        logbook.close()


def check_named_data(config: Config, where: str) -> None:
    """Raises :class:`UserError` where the data folder, or bundle, that the configuration ``where`` names is not
    prepared."""
    folder = Path(config.data)
    if folder.is_file() or (folder / INDEX).is_file():
        return
    prepare = "heads" if config.heads else "pairs"
    raise UserError(
        f"The configuration {quoted(where)} names the data folder {quoted(config.data)}, which "
        f"{'is not prepared' if folder.exists() else 'does not exist'} here; give yours with --data FOLDER, or "
        f"prepare it with uresnet prepare {prepare}."
    )


def with_limits(config: Config, data: Path | None, minutes: float | None) -> Config:
    """The configuration with the data folder and the length that the command line gives."""
    changed = config if data is None else replace(config, data=str(data))
    if minutes is None:
        return changed
    return replace(changed, training=replace(changed.training, max_minutes=minutes))


def _kind_of(config: Config) -> type[PairTrainer] | type[SegmenterTrainer]:
    if config.heads:
        return FinderTrainer if config.heads.find == "brain" else StructureTrainer
    return SegmenterTrainer if config.segmenter else PairTrainer


def _check_content(config: Config, dataset: PackedDataset) -> None:
    """Raises :class:`UserError` for heads where brains are needed, or the converse."""
    if not config.heads:
        dataset.check_images()
    elif not dataset.heads:
        raise UserError(f"{dataset.folder} holds scans of brains; make a folder of heads with uresnet prepare heads.")


def _load_stores(config: Config, dataset: PackedDataset, device: str) -> tuple[DeviceStore, DeviceStore | None]:
    """The scans to train on, and those to validate on that are not trained on, if there are enough: networks that take
    a pair need two."""
    training = load_store(dataset, config.training.splits, device)
    if len(training.scans) < FEWEST:
        raise UserError(f"{dataset.folder} holds a single scan to train on; at least two are needed.")
    unseen = VALIDATION not in config.training.splits
    others = sum(scan.split == VALIDATION and not scan.has_t1 for scan in dataset.scans) if unseen else 0
    enough = others >= (1 if config.segmenter else 2)
    return training, load_store(dataset, [VALIDATION], device) if enough else None


def _start_from(trainer: Trainer[Any], name: str) -> None:
    finds_brains = trainer.config.heads is not None and (name == BRAIN or trainer.config.heads.find == "brain")
    model = load_model(_finder(name) if finds_brains else name)
    try:
        trainer.start_from(model.network.state_dict())
    except RuntimeError as error:
        raise UserError(
            f"The model {name} has another network than the configuration; change training.start."
        ) from error


def _finder(name: str) -> ModelFile:
    return brain_finder() if name == BRAIN else read_model_file(Path(name))


def _describe(dataset: PackedDataset, folder: Path, scans: int) -> ModelDescription:
    data = dataset.name or dataset.folder.resolve().name
    what = "heads" if dataset.heads else "scans"
    return ModelDescription(folder.resolve().name, dataset.conform, dataset.licence, f"{data}, {scans} {what}")


def _write_configuration(config: Config, options: RunOptions) -> None:
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{options.folder} cannot be made ({error.strerror}); choose another with -o.") from error
    tree = to_dict(replace(config, data=str(options.data)))
    idle = _OF_PAIRS if config.segmenter else _OF_SEGMENTERS
    tree = {name: value for name, value in tree.items() if name not in idle}
    write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), options.folder / CONFIGURATION)
