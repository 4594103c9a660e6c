"""Scores on disk while an evaluation runs, so that a stopped one can be continued."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from uresnet._version import __version__
from uresnet.errors import UserError
from uresnet.evaluation.scores import PairScores
from uresnet.model.checkpoint import Model
from uresnet.training.data.dataset import INDEX, PackedDataset


class Journal:
    """A file beside the folder that will hold the tables; a line for every model and pair.

    Scores are used again only if model, data and version of uresnet are the same. A line that was cut off when the
    process was killed is ignored.
    """

    def __init__(self, folder: Path, dataset: PackedDataset) -> None:
        self.path = folder.with_name(f".{folder.name}.scores.jsonl")
        index = (dataset.folder / INDEX).read_bytes()
        self._data = f"{__version__} {hashlib.sha256(index).hexdigest()[:16]}"

    def known(self, title: str, model: Model) -> list[PairScores]:
        """The scores of a model that are there already, for the column ``title``."""
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
        """Remove the file, once the tables are written."""
        self.path.unlink(missing_ok=True)

    def _key(self, model: Model) -> str:
        return f"{self._data} {model.card.kind} {model.sha256}"
