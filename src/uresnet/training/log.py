"""The log of a training: CSV tables of updates and validations, pictures of a few validation pairs, and both for
TensorBoard if wanted."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from uresnet.core.files import write_text
from uresnet.core.labels import LabelScheme
from uresnet.core.training_files import SAMPLES, STEPS, VALIDATIONS
from uresnet.errors import UserError
from uresnet.training.events import Event, StepDone
from uresnet.training.samples import in_colour, write_samples
from uresnet.training.validation import Validation


class Logbook:
    """Writes ``log.csv`` (a row per reported update), ``validation.csv`` and ``samples.npz`` (pictures of the last
    validation) into a run's folder.

    A run that is resumed from update ``step`` first drops the rows after it, which will be written again.
    """

    def __init__(self, folder: Path, scheme: LabelScheme, step: int = 0, tensorboard: bool = False) -> None:
        self.folder = folder
        self.scheme = scheme
        self.board = _open_board(folder, step) if tensorboard else None
        for name in (STEPS, VALIDATIONS):
            _drop_after(folder / name, step)

    def __call__(self, event: Event) -> None:
        """Log one event if it is an update or a validation."""
        if isinstance(event, StepDone):
            self._note(STEPS, "train", event.step, _step_row(event))
        elif isinstance(event, Validation):
            structures = [structure.abbreviation for structure in self.scheme.classes]
            self._note(VALIDATIONS, "validation", event.step, _validation_row(event, structures))
            self._keep_pictures(event)

    def close(self) -> None:
        """Write out what TensorBoard still holds."""
        if self.board is not None:
            self.board.close()

    def _keep_pictures(self, event: Validation) -> None:
        if event.samples:
            write_samples(self.folder / SAMPLES, event.samples, self.scheme, event.step)
        if self.board is not None:
            for n, pictures in enumerate(event.samples, start=1):
                self.board.add_image(f"validation/pair {n}: moving, fixed, warped", in_colour(pictures), event.step)

    def _note(self, name: str, group: str, step: int, row: Mapping[str, float]) -> None:
        _append(self.folder / name, {"step": step, **row})
        if self.board is not None:
            for name, value in row.items():
                if not math.isnan(value):
                    self.board.add_scalar(f"{group}/{name}", value, step)


def _step_row(event: StepDone) -> dict[str, float]:
    row = {"epoch": event.epoch, "seconds": round(event.seconds, 2), "rate": float(f"{event.rate:.6g}")}
    terms = {name: float(f"{value:.6g}") for name, value in event.terms.items()}
    return row | {"downsampling": event.downsampling} | terms


def _validation_row(event: Validation, structures: Sequence[str]) -> dict[str, float]:
    dice = {f"dice_{name}": round(value, 5) for name, value in zip(structures, event.segmentation, strict=False)}
    if math.isnan(event.registration):
        return {"segmentation_dice": round(event.quality, 5)} | dice
    row = {"downsampling": event.downsampling, "registration_dice": round(event.registration, 5)}
    return row | dice | {"mse": float(f"{event.mse:.6g}"), "folding": float(f"{event.folding:.6g}")}


def _append(path: Path, row: Mapping[str, Any]) -> None:
    try:
        is_new = not path.exists() or path.stat().st_size == 0
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row), lineterminator="\n")
            if is_new:
                writer.writeheader()
            writer.writerow(row)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); check the folder and its free space.") from error


def _drop_after(path: Path, step: int) -> None:
    """Remove the rows of updates after ``step`` from a table."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for n, line in enumerate(lines) if n == 0 or _within(line, step)]
    write_text("".join(kept), path)


def _within(line: str, step: int) -> bool:
    """Whether a row is whole and not after ``step``; a killed process can leave half a row at the end."""
    first = line.partition(",")[0]
    return line.endswith("\n") and first.isdigit() and int(first) <= step


def _open_board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("TensorBoard is not installed; install it with: pip install 'uresnet[train]'.") from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)
