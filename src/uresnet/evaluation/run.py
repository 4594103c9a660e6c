"""Models judged on the fixed pairs of a prepared data folder, through the very steps that ``register`` takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from uresnet import __version__
from uresnet.core.files import RECORD, fresh_folder, write_text
from uresnet.core.image import Image, LabelMap
from uresnet.errors import UserError
from uresnet.evaluation.scores import PairScores, segmentation_scores, structure_scores
from uresnet.evaluation.table import pairs_csv, structures_csv, table1
from uresnet.model.checkpoint import Model, load_model
from uresnet.pipeline.register import register
from uresnet.pipeline.save import Registration
from uresnet.results.json_values import json_text
from uresnet.results.record import environment, now
from uresnet.training.data.dataset import INDEX, PackedDataset, Scan, open_dataset
from uresnet.training.data.pairs import ring_pairs
from uresnet.transform import Composite, inverse_error, resample

TITLES = {
    "translation": "Rigid",
    "christodoulidis": "Christodoulidis et al.",
    "uresnet": "U-ReSNet",
    "midspace": "Flagship",
}
"""Names of the columns by the kind of network: the paper's, and our own."""

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Evaluation:
    """Scores of all models on all pairs, and what was run on what."""

    scores: tuple[PairScores, ...]
    where: str
    record: dict[str, Any]

    def save(self, folder: Path, overwrite: bool = False, command: Sequence[str] = ()) -> list[Path]:
        """Write ``table1.md``, ``pairs.csv``, ``structures.csv`` and ``run.json``: all of them or none."""
        voxel_mm = {name: model["voxel_mm"] for name, model in self.record["models"].items()}
        texts = {
            "table1.md": table1(self.scores, self.where, voxel_mm),
            "pairs.csv": pairs_csv(self.scores),
            "structures.csv": structures_csv(self.scores),
        }
        texts[RECORD] = json_text(self.record | {"command": list(command), "files": [*texts, RECORD]})
        with fresh_folder(folder, overwrite) as beside:
            for name, text in texts.items():
                write_text(text, beside / name)
        return [folder / name for name in texts]


class Journal:
    """Scores as they come, in a file beside the folder that will hold the tables, so that a stopped evaluation goes on.

    Only what the same model, data and version of uresnet gave is taken up again; a line that a kill cut off is not.
    """

    def __init__(self, folder: Path, dataset: PackedDataset) -> None:
        self.path = folder.with_name(f".{folder.name}.scores.jsonl")
        index = (dataset.folder / INDEX).read_bytes()
        self._data = f"{__version__} {hashlib.sha256(index).hexdigest()[:16]}"

    def known(self, title: str, model: Model) -> list[PairScores]:
        """What there is of a model already, as column ``title``."""
        found = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            key, _, text = line.partition("\t")
            with suppress(ValueError, KeyError, TypeError):
                if key == self._key(model):
                    found.append(replace(PairScores.from_json(text), model=title))
        return found

    def note(self, model: Model, scores: PairScores) -> None:
        """Add one pair. Raises :class:`UserError` when the file cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"{self._key(model)}\t{scores.to_json()}\n")
        except OSError as error:
            raise UserError(f"{self.path} cannot be written ({error.strerror}); check the folder.") from error

    def close(self) -> None:
        """Remove it; the tables are written."""
        self.path.unlink(missing_ok=True)

    def _key(self, model: Model) -> str:
        return f"{self._data} {model.card.kind} {model.sha256}"


def open_pairs(folder: Path, split: str, limit: int | None = None) -> tuple[PackedDataset, list[tuple[Scan, Scan]]]:
    """The data and the fixed pairs (moving, fixed) of a split: a ring, each pair followed by itself swapped.

    ``limit`` takes the first so many. Raises :class:`UserError` when there is no such data, or fewer than two scans.
    """
    dataset = open_dataset(folder)
    scans = dataset.of_split(split)
    if len(scans) < 2:
        raise UserError(f"{folder} holds a single scan in the split '{split}'; a pair needs two.")
    forward = ring_pairs(len(scans))[: len(scans)]
    both = [pair for a, b in forward for pair in ((a, b), (b, a))]
    pairs = [(scans[a], scans[b]) for a, b in dict.fromkeys(both)]
    return dataset, pairs[:limit]


def evaluate(
    models: Sequence[str | Path],
    dataset: PackedDataset,
    pairs: Sequence[tuple[Scan, Scan]],
    device: str = "cpu",
    progress: Callable[[PairScores], None] = lambda scores: None,
    journal: Journal | None = None,
) -> Evaluation:
    """Register every pair with every model and score it against the pair's labels; ``progress`` is told each pair.

    Pairs that the ``journal`` knows are not registered again.
    """
    scores: list[PairScores] = []
    described: dict[str, dict[str, Any]] = {}
    for name, model in _loaded(models).items():
        described[name] = {"name": model.name, "kind": model.card.kind, "sha256": model.sha256}
        described[name]["voxel_mm"] = max(model.conform.zooms) * model.conform.blocks
        known = {(one.moving, one.fixed): one for one in (journal.known(name, model) if journal else [])}
        waiting: dict[tuple[str, str], _Waiting] = {}
        for moving, fixed in pairs:
            if (moving.id, fixed.id) in known:
                scores.append(known[moving.id, fixed.id])
                continue
            one = _register(name, model, dataset, (moving, fixed), device)
            other = waiting.pop((fixed.id, moving.id), None)
            found = [one.scored(None)] if other is None else _consistent(other, one)
            if other is None and (fixed, moving) in pairs:
                waiting[moving.id, fixed.id] = one
                continue
            for each in found:
                scores.append(each)
                if journal:
                    journal.note(model, each)
                progress(each)
    split = pairs[0][0].split
    record = {
        "finished": now(),
        "versions": environment(),
        "device": device,
        "threads": torch.get_num_threads(),
        "data": {"folder": str(dataset.folder), "name": dataset.name, "split": split},
        "pairs": [[moving.id, fixed.id] for moving, fixed in pairs],
        "models": described,
        "warnings": sorted({sentence for one in scores for sentence in one.warnings}),
    }
    where = f"{dataset.name or dataset.folder.resolve().name}, split {split}"
    return Evaluation(tuple(scores), where, record)


@dataclass(frozen=True, eq=False)
class _Waiting:
    """A registered pair whose swapped one may be yet to come."""

    scores: dict[str, Any]
    transform: Composite
    fixed_labels: LabelMap

    def scored(self, consistency: float | None) -> PairScores:
        return PairScores(**self.scores, consistency_mm=consistency)


def _consistent(one: _Waiting, other: _Waiting) -> list[PairScores]:
    there = inverse_error(one.transform, other.transform, one.fixed_labels).mean_mm
    back = inverse_error(other.transform, one.transform, other.fixed_labels).mean_mm
    return [one.scored(there), other.scored(back)]


def _register(name: str, model: Model, dataset: PackedDataset, pair: tuple[Scan, Scan], device: str) -> _Waiting:
    moving, fixed = (_volume(dataset, scan) for scan in pair)
    known = _forget_peak(device)
    done = register(moving[0], fixed[0], model=model, brain="none", device=device)
    peak = _peak_memory(device) if known else None
    warped = resample(done.transform, moving[1], fixed[1].grid)
    error = inverse_error(done.transform, done.inverse, fixed[1])
    scores = {
        "model": name,
        "moving": pair[0].id,
        "fixed": pair[1].id,
        "structures": structure_scores(warped, fixed[1]),
        "segmentation": _segmentation(done, moving[1]),
        "folding_fraction": done.measures.folding_fraction,
        "sd_log_jacobian": done.measures.sd_log_jacobian,
        "inverse_mm": error.mean_mm,
        "inverse_max_mm": error.max_mm,
        "seconds": done.record.seconds["total"],
        "peak_bytes": peak,
        "warnings": tuple(done.warnings),
    }
    return _Waiting(scores, done.transform, fixed[1])


def _segmentation(done: Registration, truth: LabelMap) -> dict[str, float]:
    return {} if done.moving_segmentation is None else segmentation_scores(done.moving_segmentation, truth)


def _volume(dataset: PackedDataset, scan: Scan) -> tuple[Image, LabelMap]:
    """A scan as ``register`` would read it from files: intensities and labels in the world."""
    grid = dataset.grid(scan)
    image = torch.from_numpy(dataset.image(scan) * dataset.image_scale)
    labels = torch.from_numpy(dataset.labels(scan).astype("int16"))
    return Image(image, grid, scan.id), LabelMap(labels, grid, f"{scan.id} (labels)")


def _loaded(models: Sequence[str | Path]) -> dict[str, Model]:
    """Models by the title of their column; those that would share one are told apart by how they were named."""
    found = [(str(one), load_model(one)) for one in models]
    titles = [_title(model) for _, model in found]
    return {
        title if titles.count(title) == 1 else f"{title} {given}": model
        for title, (given, model) in zip(titles, found, strict=True)
    }


def _title(model: Model) -> str:
    if model.card.kind == "translation":
        return TITLES["translation"]
    if model.name.endswith((".hdf5", ".h5")):
        return f"published weights ({model.name})"
    return f"{TITLES.get(model.card.kind, model.card.kind)} ({model.name})"


# -- memory ------------------------------------------------------------------------------------------------------------


def _forget_peak(device: str) -> bool:
    """Start to measure memory anew; False where the system does not let us (not Linux, or not allowed)."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
        return True
    try:
        _RESET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_memory(device: str) -> int | None:
    """The most held since :func:`_forget_peak`: on the GPU, or by the process, which may keep what earlier pairs
    freed."""
    if device.startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    try:
        line = next(one for one in _STATUS.read_text(encoding="ascii").splitlines() if one.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024
