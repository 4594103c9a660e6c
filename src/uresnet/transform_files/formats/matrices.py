"""4×4 matrices in plain text, as greedy, c3d and FLIRT keep them: four rows of four numbers and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uresnet.core.files import written_whole
from uresnet.errors import UserError
from uresnet.transform.affine import Affine


def text_of(path: Path) -> str | None:
    """The content where it is text; None where it is binary (MATLAB)."""
    start = path.read_bytes()[: 1 << 20]
    if b"\0" in start:
        return None
    try:
        return start.decode("utf-8")
    except UnicodeDecodeError:
        return None


def read_matrix(path: Path) -> np.ndarray:
    """(4, 4) of a text file; what its numbers mean is the caller's to know. ``UserError`` for anything else."""
    text = text_of(path)
    if text is None:
        raise UserError(f"{path} is not a 4×4 matrix in plain text; check that it is the right file")
    return parsed_matrix(path, text)


def parsed_matrix(path: Path, text: str) -> np.ndarray:
    """(4, 4) of a text that has been read. ``UserError`` where it is not four rows of four numbers, or singular."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        raise UserError(f"{path} is neither an ITK transform nor a 4×4 matrix; check that it is the right file")
    try:
        return Affine(np.array([floats(path, row) for row in rows])).matrix
    except ValueError as error:
        raise UserError(f"{path} cannot be used: {error}") from error


def write_matrix(matrix: np.ndarray, path: str | Path) -> None:
    """Write (4, 4) as text to the last bit."""
    rows = [" ".join(f"{value:.17g}" for value in row) for row in matrix]
    with written_whole(path) as beside:
        beside.write_text("\n".join(rows) + "\n", encoding="ascii")


def floats(path: Path, words: Sequence[str]) -> np.ndarray:
    """Words to numbers; ``UserError`` naming ``path`` where one is none."""
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise UserError(f"{path} holds something that is not a number where numbers belong") from error
