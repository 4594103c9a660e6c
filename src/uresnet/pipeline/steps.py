"""The steps that registering and segmenting share: read, find the brain, bring labels to their own grid, record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from uresnet.core.choices import BrainMethod, check_choices
from uresnet.core.device import chosen_device, computing_threads, possible_threads
from uresnet.core.files import check_utf8
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.coupling import Segmented
from uresnet.errors import UserError
from uresnet.io.in_memory import ImageSource, check_source, labels_from
from uresnet.model.catalogue import ModelFile, find_model
from uresnet.model.checkpoint import Model, load_model
from uresnet.pipeline.progress import Progress, Stages
from uresnet.preprocess import Conformed, check_mask, extract_brain
from uresnet.results.record import InputRecord, ModelRecord, RunRecord, environment, now
from uresnet.transform import Affine, resample

ModelSource = str | Path | ModelFile | Model | None
"""A packaged name, a model file, what :func:`~uresnet.model.catalogue.find_model` found, a loaded model, or None for
the default."""


@dataclass(frozen=True, eq=False)
class FoundBrain:
    """An image as it was given, the mask of its brain on the same grid, and how the brain was found, in words."""

    image: Image
    mask: LabelMap
    how: str


def check_arguments(
    function: str, device: str, threads: int | None, progress: Progress, **given: tuple[Any, Any]
) -> str:
    """The device to compute on. Raises :class:`UserError` for an argument of another type, a word that is no choice and
    a device that is not here; the sentence names the public ``function``."""
    kinds = {"device": (device, str | torch.device), "threads": (threads, int | None), "progress": (progress, Callable)}
    check_choices(function, **given, **kinds)
    if threads is not None and (threads < 1 or isinstance(threads, bool)):
        raise UserError(f"{function}: threads is {threads}; give a number of at least 1, or None for all cores.")
    for value, _ in given.values():
        if isinstance(value, str | Path):
            check_utf8(value)
    try:
        return chosen_device(str(device))
    except UserError as error:
        raise UserError(f"{function}: {error}") from None


def check_sources(function: str, **given: Any) -> None:
    """Raises :class:`UserError` that names the public ``function`` for an argument that is no image; ``masks`` are two,
    each of them an image or None."""
    for name, value in given.items():
        if name == "masks":
            if not isinstance(value, tuple | list) or len(value) != 2:
                raise UserError(f"{function}: masks is of type {type(value).__name__}; give (moving, fixed) or None.")
            for mask in value:
                if mask is not None:
                    check_sources(function, mask=mask)
            continue
        check_source(function, name, value)
        if isinstance(value, str | Path | Image):
            check_utf8(value.path if isinstance(value, Image) else value)


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Computes with at most so many threads while the block lasts."""
    with computing_threads(possible_threads(threads)):
        yield


def chosen_model(model: ModelSource) -> ModelFile | Model:
    """The model that is meant, not loaded yet: an unknown one is reported before any image is read."""
    return model if isinstance(model, ModelFile | Model) else find_model(model)


def ready_model(model: ModelFile | Model, device: str) -> Model:
    """The model with its weights on ``device``."""
    return (model if isinstance(model, Model) else load_model(model)).to(device)


def mask_of(source: ImageSource | None, image: Image, title: str = "mask") -> LabelMap | None:
    """A brain mask. Raises :class:`UserError` when it does not lie on its image, or is empty."""
    if source is None:
        return None
    mask = labels_from(source, title)
    if not mask.grid.overlaps(image.grid):
        raise UserError(
            f"{mask.name} and {image.name} do not overlap in the world; give a mask that was drawn on this image."
        )
    check_mask(image, mask)
    return mask


def find_brain(image: Image, mask: LabelMap | None, method: BrainMethod, device: str) -> FoundBrain:
    """The brain of an image; with a ``mask``, what that says."""
    # deepbet's networks hold operations that Apple's GPUs lack.
    return FoundBrain(image, *extract_brain(image, method, mask, device="cpu" if device == "mps" else device))


def native_labels(segmented: Segmented, scheme: LabelScheme, grid: Grid) -> LabelMap:
    """An image's structures (FreeSurfer ids) on its own ``grid``."""
    if isinstance(segmented, LabelMap):
        return labels_from_classes(resample(Affine.identity(), segmented, grid).data, scheme, grid)
    return labels_from_classes(segmented.classes_on(grid), scheme, grid)


def labels_from_classes(classes: torch.Tensor, scheme: LabelScheme, grid: Grid) -> LabelMap:
    """FreeSurfer ids of the numbers of classes (I, J, K)."""
    return LabelMap(torch.from_numpy(scheme.to_ids(classes.cpu().numpy())), grid)


def run_record(
    model: Model, device: str, stages: Stages, warnings: list[str], inputs: Mapping[str, InputRecord]
) -> RunRecord:
    """What both kinds of run record."""
    return RunRecord(
        finished=now(),
        versions=environment(),
        model=ModelRecord(name=model.name, kind=model.card.kind, sha256=model.sha256, scheme=model.card.scheme),
        device=device,
        threads=torch.get_num_threads(),
        inputs=inputs,
        seconds={**stages.seconds, "total": round(sum(stages.seconds.values()), 3)},
        warnings=tuple(warnings),
    )


def input_record(found: FoundBrain, conformed: Conformed, intracranial_mm3: float | None) -> InputRecord:
    """What is recorded of an image."""
    grid = found.image.grid
    first, second, third = (round(float(zoom), 4) for zoom in grid.zooms)
    return InputRecord(
        path=found.image.path,
        shape=grid.shape,
        voxel_mm=(first, second, third),
        axes="".join(grid.axis_codes),
        brain=found.how,
        brain_mm3=round(float(found.mask.mask.sum()) * grid.voxel_volume, 1),
        conformed_shape=conformed.grid.shape,
        notes=(*filter(None, [found.image.chosen]), *conformed.notes),
        intracranial_mm3=None if intracranial_mm3 is None else round(intracranial_mm3, 1),
    )
