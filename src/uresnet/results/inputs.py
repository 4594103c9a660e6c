"""The images that a run was given, found again."""

from __future__ import annotations

from pathlib import Path

from uresnet.core.image import Image
from uresnet.errors import UserError
from uresnet.io import read_image
from uresnet.results.record import RunRecord


def read_input(folder: Path, record: RunRecord, name: str, given: str | Path | None) -> Image | None:
    """The input ``name`` ("moving", "fixed", "image") of a run: the ``given`` file, or the one that the record names.

    None where the record's file is gone, is no image, or has another shape than the record says. Raises
    :class:`UserError` for a given file that is not that image.
    """
    recorded = record.inputs.get(name)
    if recorded is None:
        raise UserError(f"{folder} holds no such result; give what uresnet register or segment wrote.")
    if given is not None:
        image = read_image(given)
        if image.grid.shape != recorded.shape:
            raise UserError(f"{given} is not the {name} image of {folder}: its size is {image.grid.shape}.")
        return image
    for path in (Path(recorded.path), folder / recorded.path):
        if path.is_file():
            try:
                image = read_image(path)
            except UserError:
                continue
            return image if image.grid.shape == recorded.shape else None
    return None
