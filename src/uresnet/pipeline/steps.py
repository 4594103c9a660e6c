"""The steps that registering and segmenting share: read, find the brain, bring labels to their own grid, record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from uresnet.core.choices import BrainMethod, check_choices
from uresnet.core.device import chosen_device, computing_threads, possible_threads
from uresnet.core.exact import exact_device
from uresnet.core.files import check_utf8
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.coupling import Look, Segmented
from uresnet.errors import UserError, warn_about_input
from uresnet.io.in_memory import ImageSource, check_source, labels_from
from uresnet.io.kinds import decide_kind
from uresnet.model.catalogue import ModelFile, find_model
from uresnet.model.checkpoint import Model, load_model
from uresnet.pipeline.progress import Progress, Stages
from uresnet.preprocess import Conformed, check_mask, extract_brain
from uresnet.results.record import InputRecord, ModelRecord, OtherModelRecord, RunRecord, environment, now
from uresnet.transform import Affine, resample

ModelSource = str | Path | ModelFile | Model | None
"""A packaged name, a model file, what :func:`~uresnet.model.catalogue.find_model` found, a loaded model, or None for
the default."""


_SLICES = 4  # on either side of the middle
_MOST_LESION = 0.5  # of the brain: more is a mistake
_MOST_OUTSIDE = 0.3  # of a lesion: more may be the mask of another image


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
    a device that is not here; the sentence names the public ``function``. What is ``given`` as exact leaves the CPU."""
    kinds = {"device": (device, str | torch.device), "threads": (threads, int | None), "progress": (progress, Callable)}
    check_choices(function, **given, **kinds)
    if threads is not None and (threads < 1 or isinstance(threads, bool)):
        raise UserError(f"{function}: threads is {threads}; give a number of at least 1, or None for all cores.")
    for value, _ in given.values():
        if isinstance(value, str | Path):
            check_utf8(value)
    try:
        return chosen_device(exact_device(str(device)) if given["exact"][0] else str(device))
    except UserError as error:
        raise UserError(f"{function}: {error}") from None


def check_sources(function: str, **given: Any) -> None:
    """Raises :class:`UserError` that names the public ``function`` for an argument that is no image; ``masks`` are two,
    each of them an image or None."""
    for name, value in given.items():
        if name in ("masks", "lesions"):
            if not isinstance(value, tuple | list) or len(value) != 2:
                kind = type(value).__name__
                raise UserError(f"{function}: {name} is of type {kind}; give (moving, fixed), each may be None.")
            for mask in value:
                if mask is not None:
                    check_sources(function, **{name[:-1]: mask})
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
    """The model with its weights on ``device``. Warns of one whose segmentation is coarse."""
    loaded = model if isinstance(model, Model) else load_model(model)
    if loaded.is_coarse:
        warn_about_input(
            f"The model {loaded.name} segments coarsely, on voxels of 2 mm: use its labels and volumes for "
            "orientation, not as measurements."
        )
    return loaded.to(device)


def mask_of(source: ImageSource | None, image: Image, title: str = "mask", marks: str = "the brain") -> LabelMap | None:
    """A mask that ``marks`` something. Raises :class:`UserError` when it does not lie on its image, or is empty."""
    if source is None:
        return None
    mask = labels_from(source, title)
    if not mask.grid.overlaps(image.grid):
        raise UserError(
            f"{mask.name} and {image.name} do not overlap in the world; give a mask that was drawn on this image."
        )
    check_mask(image, mask, marks)
    return mask


def warn_of_labels(*images: Image) -> None:
    """Warns of images that are label maps, as their middle slices say: a network makes a brain of them too."""
    for image in images:
        middle = image.grid.shape[2] // 2
        some = image.data[:, :, max(0, middle - _SLICES) : middle + _SLICES].numpy()
        if decide_kind([some], called_labels=False).labels:
            warn_about_input(
                f"{image.name} looks like a label map (whole numbers in patches), and is taken for a scan: unless it "
                "is one, the results mean nothing; give the scan that the labels were drawn on."
            )


def without_drawn(image: Image, lesion: LabelMap | None, brain: LabelMap) -> Image:
    """The image with the median of the rest of its brain where abnormal tissue was drawn: what is there must not change
    what is found elsewhere. Raises :class:`UserError` for a mask that has nothing in common with the brain, or covers
    most of it."""
    if lesion is None:
        return image
    share = float((lesion.mask & brain.mask).sum()) / max(1.0, float(brain.mask.sum()))
    if share == 0 or share > _MOST_LESION:
        what = "lies outside of the brain" if share == 0 else f"covers {100 * share:.0f} % of the brain"
        raise UserError(f"{lesion.name} {what}; give a mask that is not 0 in abnormal tissue only.")
    outside = float((lesion.mask & ~brain.mask).sum()) / float(lesion.mask.sum())
    if outside > _MOST_OUTSIDE:
        warn_about_input(
            f"{100 * outside:.0f} % of {lesion.name} lie outside of the brain that was found, and count as abnormal "
            "tissue too; check that the mask belongs to this image."
        )
    level = image.data[brain.mask & ~lesion.mask].median()
    return replace(image, data=torch.where(lesion.mask & brain.mask, level, image.data))


def with_lesion(conformed: Conformed, lesion: LabelMap | None) -> Conformed:
    """The conformed image that knows what was drawn as abnormal."""
    if lesion is None:
        return conformed
    tissue = LabelMap(lesion.mask.to(torch.uint8), lesion.grid)
    return replace(conformed, abnormal=resample(Affine.identity(), tissue, conformed.grid, "nearest").mask)


def find_brain(image: Image, mask: LabelMap | None, method: BrainMethod, device: str) -> FoundBrain:
    """The brain of an image; with a ``mask``, what that says."""
    return FoundBrain(image, *extract_brain(image, method, mask, device))


def native_labels(segmented: Segmented, scheme: LabelScheme, grid: Grid) -> LabelMap:
    """An image's structures (FreeSurfer ids) on its own ``grid``."""
    if isinstance(segmented, LabelMap):
        return labels_from_classes(resample(Affine.identity(), segmented, grid).data, scheme, grid)
    return labels_from_classes(segmented.classes_on(grid), scheme, grid)


def labels_from_classes(classes: torch.Tensor, scheme: LabelScheme, grid: Grid) -> LabelMap:
    """FreeSurfer ids of the numbers of classes (I, J, K)."""
    return LabelMap(torch.from_numpy(scheme.to_ids(classes.cpu().numpy())), grid)


def run_record(
    model: Model,
    scheme: LabelScheme | None,
    device: str,
    stages: Stages,
    warnings: list[str],
    inputs: Mapping[str, InputRecord],
    exact: bool = False,
) -> RunRecord:
    """What both kinds of run record; ``scheme`` is that of the segmentations."""
    return RunRecord(
        finished=now(),
        versions=environment(),
        model=ModelRecord(
            name=model.name,
            kind=model.card.kind,
            sha256=model.sha256,
            scheme=scheme.name if scheme else "",
            licence=model.card.licence,
            specialist=_other(model.specialist),
            contrast_by=_other(model.general),
        ),
        device=device,
        threads=torch.get_num_threads(),
        inputs=inputs,
        seconds={**stages.seconds, "total": round(sum(stages.seconds.values()), 3)},
        warnings=tuple(warnings),
        exact=exact or None,
    )


def _other(model: Model | None) -> OtherModelRecord | None:
    return None if model is None else OtherModelRecord(name=model.name, sha256=model.sha256)


def input_record(
    found: FoundBrain,
    conformed: Conformed,
    intracranial_mm3: float | None,
    looks: Sequence[Look] = (),
    predicted: Mapping[str, float] | None = None,
) -> InputRecord:
    """What is recorded of an image; ``predicted`` is the Dice of its structures."""
    grid, drawn = found.image.grid, conformed.abnormal
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
        contrast=looks[0].contrast if looks else None,
        predicted_dice=predicted,
        drawn_mm3=None if drawn is None else round(float(drawn.sum()) * conformed.grid.voxel_volume, 1),
    )
