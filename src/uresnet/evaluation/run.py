"""Evaluates models on the labelled pairs of a prepared data folder. It registers and judges; it trains nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uresnet.core.files import RECORD, fresh_folder, write_text
from uresnet.evaluation.journal import Journal
from uresnet.evaluation.names import TABLES
from uresnet.evaluation.pairs import Judge, ScanPair
from uresnet.evaluation.scores import PairScores
from uresnet.evaluation.table import pairs_csv, structures_csv, table1
from uresnet.model.checkpoint import CHRISTODOULIDIS, MIDSPACE, PAIR, TRANSLATION, Model, load_model
from uresnet.results.json_values import json_text
from uresnet.results.record import environment, now
from uresnet.training.data.dataset import PackedDataset

TITLES = {
    TRANSLATION: "Rigid",
    CHRISTODOULIDIS: "Christodoulidis et al.",
    PAIR: "U-ReSNet",
    MIDSPACE: "Midspace",
}
"""Titles of columns by the kind of model; the first three are those of the paper's Table 1."""


@dataclass(frozen=True)
class Evaluation:
    """Scores of all models on all pairs, ``where`` they were measured, and the record of the run."""

    scores: tuple[PairScores, ...]
    where: str
    record: dict[str, Any]

    def save(self, folder: Path, overwrite: bool = False, command: Sequence[str] = ()) -> list[Path]:
        """Write ``table1.md``, ``pairs.csv``, ``structures.csv`` and ``run.json``: all of them or none."""
        voxel_mm = {title: model["voxel_mm"] for title, model in self.record["models"].items()}
        tables = (table1(self.scores, self.where, voxel_mm), pairs_csv(self.scores), structures_csv(self.scores))
        texts = dict(zip(TABLES, tables, strict=True))
        texts[RECORD] = json_text(self.record | {"command": list(command), "files": [*texts, RECORD]})
        with fresh_folder(folder, overwrite) as beside:
            for name, text in texts.items():
                write_text(text, beside / name)
        return [folder / name for name in texts]


def evaluate(
    models: Sequence[str | Path],
    dataset: PackedDataset,
    pairs: Sequence[ScanPair],
    device: str = "cpu",
    progress: Callable[[PairScores], None] = lambda scores: None,
    journal: Journal | None = None,
) -> Evaluation:
    """Register every pair with every model and score it against the pair's labels.

    ``progress`` is called with the scores of every pair that was registered. Pairs whose scores are in the ``journal``
    are not registered again.
    """
    scores: list[PairScores] = []
    described: dict[str, dict[str, Any]] = {}
    for title, model in _load_models(models).items():
        described[title] = {"name": model.name, "kind": model.card.kind, "sha256": model.sha256}
        described[title]["voxel_mm"] = max(model.conform.zooms) * model.conform.blocks
        known = {(pair.moving, pair.fixed): pair for pair in (journal.known(title, model) if journal else [])}
        judge = Judge(title, model, dataset, device)
        for together in _with_swapped(pairs):
            ids = [(moving.id, fixed.id) for moving, fixed in together]
            if all(pair in known for pair in ids):
                scores += [known[pair] for pair in ids]
                continue
            for pair_scores in judge.score(together):
                scores.append(pair_scores)
                if journal:
                    journal.note(model, pair_scores)
                progress(pair_scores)
    split = pairs[0][0].split
    record = {
        "finished": now(),
        "versions": environment(),
        "device": device,
        "threads": torch.get_num_threads(),
        "data": {"folder": str(dataset.folder), "name": dataset.name, "split": split},
        "pairs": [[moving.id, fixed.id] for moving, fixed in pairs],
        "models": described,
        "warnings": sorted({sentence for pair in scores for sentence in pair.warnings}),
    }
    where = f"{dataset.name or dataset.folder.resolve().name}, split {split}"
    return Evaluation(tuple(scores), where, record)


def _with_swapped(pairs: Sequence[ScanPair]) -> Iterator[list[ScanPair]]:
    """Every pair together with the same pair swapped, if this is among the ``pairs``."""
    left = dict.fromkeys(pairs)
    for moving, fixed in pairs:
        if (moving, fixed) not in left:
            continue
        together = [pair for pair in dict.fromkeys([(moving, fixed), (fixed, moving)]) if pair in left]
        for pair in together:
            del left[pair]
        yield together


def _load_models(names: Sequence[str | Path]) -> dict[str, Model]:
    """Models by the title of their column; models that would share a title are told apart by the given names."""
    models = [load_model(name) for name in names]
    titles = [_title(model) for model in models]
    return {
        title if titles.count(title) == 1 else f"{title} {name}": model
        for title, name, model in zip(titles, names, models, strict=True)
    }


def _title(model: Model) -> str:
    if model.card.kind == TRANSLATION:
        return TITLES[TRANSLATION]
    if model.name.endswith((".hdf5", ".h5")):
        return f"published weights ({model.name})"
    return f"{TITLES.get(model.card.kind, model.card.kind)} ({model.name})"
