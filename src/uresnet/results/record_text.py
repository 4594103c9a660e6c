"""What is shown of a run's record: file names without their folders, which may be private."""

from __future__ import annotations

from pathlib import PurePath

from uresnet.results.record import RunRecord


def image_names(record: RunRecord) -> dict[str, str]:
    """File names of the "moving" and the "fixed" image, without their folders."""
    paths = {name: image.path for name, image in record.inputs.items()}
    return {name: file_name(paths.get(name, "")) or f"{name} image" for name in ("moving", "fixed")}


def image_name(record: RunRecord) -> str:
    """File name of the image that was segmented, without its folder."""
    recorded = record.inputs.get("image")
    return (file_name(recorded.path) if recorded is not None else "") or "image"


def plain_warnings(record: RunRecord) -> list[str]:
    """The run's warnings, with file names in place of paths."""
    sentences = list(record.warnings)
    for image in record.inputs.values():
        if image.path:
            sentences = [sentence.replace(image.path, file_name(image.path)) for sentence in sentences]
    return sentences


def file_name(path: object) -> str:
    """The last part of a path; empty for none."""
    return PurePath(str(path)).name if path else ""
