"""4×4 matrices in plain text, as greedy, c3d and FLIRT keep them: four rows of four numbers and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uresnet.core.files import write_text
from uresnet.errors import UserError
from uresnet.transform import Affine
from uresnet.transform_files.contents import small_content


def read_text(path: Path) -> str | None:
    """The content where it is text; None where it is binary (MATLAB)."""
    content = small_content(path)
    if b"\0" in content:
        return None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return None


def read_matrix(path: Path) -> np.ndarray:
    """(4, 4) of a text file, in the convention of the program that wrote it. ``UserError`` for anything else."""
    text = read_text(path)
    if text is None:
        raise UserError(f"{path} is not a 4×4 matrix in plain text; check that it is the right file.")
    return parse_matrix(path, text)


def parse_matrix(path: Path, text: str) -> np.ndarray:
    """(4, 4) of the text of a file. ``UserError`` where it is not four rows of four numbers, or singular."""
    rows = [line.split() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(rows) != 4 or any(len(row) != 4 for row in rows):
        raise UserError(f"{path} is neither an ITK transform nor a 4×4 matrix; check that it is the right file.")
    return affine_of(path, np.array([floats(path, row) for row in rows])).matrix


def affine_of(path: Path, matrix: np.ndarray) -> Affine:
    """A matrix (4, 4) that was read, as an affine. ``UserError`` naming ``path`` where it is singular or not affine."""
    try:
        return Affine(matrix)
    except ValueError as error:
        raise UserError(
            f"{path} holds a matrix that is not an invertible affine; check that it is the right file."
        ) from error


def write_matrix(matrix: np.ndarray, path: str | Path) -> None:
    """Write (4, 4) as text to the last bit."""
    rows = [" ".join(f"{value:.17g}" for value in row) for row in matrix]
    write_text("\n".join(rows) + "\n", path)


def floats(path: Path, words: Sequence[str]) -> np.ndarray:
    """Words to numbers; ``UserError`` naming ``path`` where one is none."""
    try:
        return np.array([number(word) for word in words])
    except ValueError as error:
        raise UserError(
            f"{path} holds something that is not a number where numbers belong; check that it is the right file."
        ) from error


def number(word: str) -> float:
    """A word as a number, as other programs write numbers. ``ValueError`` where it is none."""
    if "_" in word or not word.isascii():
        raise ValueError("Python reads this as a number, other programs do not")
    return float(word)
