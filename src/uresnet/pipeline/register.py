"""From files to results: register a pair, segment an image. Computes; ``save`` on the results writes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uresnet.core.choices import BrainMethod
from uresnet.core.files import RECORD, fresh_folder, write_text
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.coupling import Coupling, Freedom, Segmented, check_refinable, couple, segment_conformed
from uresnet.errors import InputWarning, UserError
from uresnet.io import (
    WRITABLE_SUFFIXES,
    read_image,
    read_labels,
    write_colour_table,
    write_image,
    write_itksnap_labels,
    write_label_table,
    write_labels,
    write_slicer_colours,
)
from uresnet.measures.intracranial import intracranial_volume
from uresnet.measures.overlap import dice_per_class
from uresnet.measures.volumes import structure_volumes, volumes_table
from uresnet.model.catalogue import find_model
from uresnet.model.checkpoint import Model, load_model
from uresnet.preprocess import Conformed, conform, extract_brain
from uresnet.quality.signs import image_signs, look_at, measure_signs
from uresnet.quality.verdict import judge, judge_image
from uresnet.report.pages import PAGE, registration_page, segmentation_page
from uresnet.results.record import Progress, Stages, collected_warnings, environment, now, silent, to_json
from uresnet.results.registration import Results
from uresnet.transform import (
    Affine,
    Composite,
    displacement_on,
    folding_fraction,
    inverse_error,
    jacobian_determinant,
    log_jacobian_std,
    resample,
)
from uresnet.transform_files import TransformPair, export_files, write_itk_composite

Source = str | Path | Image


@dataclass(frozen=True, eq=False)
class Subject:
    """One image on its way: as it was given, its brain on the same grid, and as the network sees it."""

    image: Image
    brain: LabelMap
    brain_found: str
    conformed: Conformed


@dataclass(frozen=True)
class Measures:
    """What can be said of a registration without labels.

    ``folding_fraction`` and ``sd_log_jacobian`` are over the fixed brain; ``inverse_mean_mm`` and ``inverse_max_mm``
    are how far the inverse after the transform moves a point of it; ``overlap_before`` and ``overlap_after`` are the
    Dice of the two brains' masks where the files place them, and after the transform.
    """

    folding_fraction: float
    sd_log_jacobian: float
    inverse_mean_mm: float
    inverse_max_mm: float
    overlap_before: float
    overlap_after: float


@dataclass(frozen=True, eq=False)
class Registration:
    """A registered pair. ``transform`` maps fixed world mm to moving world mm, ``inverse`` back.

    ``warped_moving`` and ``jacobian`` lie on the fixed image's grid; ``moving_segmentation`` and ``fixed_segmentation``
    (FreeSurfer ids) each on its own image's grid, ``warped_segmentation`` on the fixed one: None from a model that does
    not segment. ``volumes`` are mm³ by image and FreeSurfer id. ``record`` is what ``run.json`` says.
    """

    warped_moving: Image
    transform: Composite
    inverse: Composite
    jacobian: Image
    moving_segmentation: LabelMap | None
    fixed_segmentation: LabelMap | None
    warped_segmentation: LabelMap | None
    scheme: LabelScheme | None
    volumes: dict[str, dict[int, float]]
    measures: Measures
    record: dict[str, Any]
    results: Results
    moving_grid: Grid | None = None

    @property
    def warnings(self) -> list[str]:
        """What was assumed or repaired, a sentence each."""
        return list(self.record["warnings"])

    def save(
        self,
        folder: str | Path,
        overwrite: bool = False,
        command: Sequence[str] = (),
        report: bool = True,
        formats: Sequence[str] = (),
    ) -> list[Path]:
        """Write all results to ``folder``, with a page to look at unless ``report`` is False: all of them or, after an
        error, none. Returns their paths. ``formats`` are names of :data:`uresnet.transform_files.FORMATS` to write the
        transform in besides ITK's.

        Raises :class:`UserError` when the folder exists and ``overwrite`` is not set, or cannot be written.
        """
        return _save(Path(folder), self._writers(report) | self._exports(formats), self.record, overwrite, command)

    def _exports(self, formats: Sequence[str]) -> dict[str, Callable[[Path], None]]:
        pair = TransformPair(self.transform, self.inverse, self.warped_moving.grid, self.moving_grid)
        return export_files(pair, [name for name in formats if name != "itk"])

    def _writers(self, report: bool) -> dict[str, Callable[[Path], None]]:
        # The largest first, so that they overlap with everything else.
        writers: dict[str, Callable[[Path], None]] = {
            "transform.h5": partial(write_itk_composite, self.transform),
            "inverse_transform.h5": partial(write_itk_composite, self.inverse),
            "warped.nii.gz": partial(write_image, self.warped_moving),
            "jacobian.nii.gz": partial(write_image, self.jacobian),
        }
        for name in ("moving", "fixed", "warped"):
            labels = getattr(self, f"{name}_segmentation")
            if labels is not None:
                writers[f"{name}_dseg.nii.gz"] = partial(write_labels, labels, scheme=self.scheme)
        if self.scheme is not None:
            inputs = self.record["inputs"].items()
            brains, heads = (
                {name: one.get(what) for name, one in inputs} for what in ("brain_mm3", "intracranial_mm3")
            )
            writers |= _label_tables(self.scheme, "dseg")
            writers["volumes.tsv"] = partial(write_text, volumes_table(self.scheme, self.volumes, brains, heads))
        if report:
            writers[PAGE] = lambda path: write_text(registration_page(self.results), path)
        return writers


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented ``image``: ``labels`` (FreeSurfer ids) on its own grid, ``volumes`` in mm³ by id, and the run's
    record."""

    image: Image
    labels: LabelMap
    scheme: LabelScheme
    volumes: dict[int, float]
    record: dict[str, Any]

    @property
    def warnings(self) -> list[str]:
        """What was assumed or repaired, a sentence each."""
        return list(self.record["warnings"])

    def save(self, path: str | Path, report: bool = True) -> None:
        """Write the label map, and beside it, named after it, its label tables, its ``_volumes.tsv`` and, unless
        ``report`` is False, ``_report.html``, a page to look at."""
        path = Path(path)
        write_labels(self.labels, path, self.scheme)
        stem = next(path.name[: -len(end)] for end in WRITABLE_SUFFIXES if path.name.lower().endswith(end))
        for name, write in _label_tables(self.scheme, stem).items():
            write(path.with_name(name))
        one = self.record["inputs"]["image"]
        brain, head = {"image": one["brain_mm3"]}, {"image": one.get("intracranial_mm3")}
        table = volumes_table(self.scheme, {"image": self.volumes}, brain, head)
        write_text(table, path.with_name(f"{stem}_volumes.tsv"))
        if report:
            page = segmentation_page(self.image, self.labels, self.scheme, self.volumes, self.record)
            write_text(page, path.with_name(f"{stem}_{PAGE}"))


def _label_tables(scheme: LabelScheme, stem: str) -> dict[str, Callable[[Path], None]]:
    """What BIDS, Freeview, 3D Slicer and ITK-SNAP read beside a segmentation to name and colour it."""
    return {
        f"{stem}.tsv": partial(write_label_table, scheme),
        f"{stem}_freeview.txt": partial(write_colour_table, scheme),
        f"{stem}_slicer.ctbl": partial(write_slicer_colours, scheme),
        f"{stem}_itksnap.txt": partial(write_itksnap_labels, scheme),
    }


def register_pair(  # noqa: PLR0913  what a caller may choose, all but two by name
    moving: Source,
    fixed: Source,
    *,
    model: str | Path | Model | None = None,
    transform: Freedom = "joint",
    refine: bool = False,
    brain: BrainMethod = "auto",
    masks: tuple[str | Path | None, str | Path | None] = (None, None),
    device: str = "cpu",
    progress: Progress = silent,
) -> Registration:
    """Register ``moving`` to ``fixed`` (files or images) and segment both.

    ``model`` is a packaged name, a model file or a loaded model; ``transform`` is what may move; ``refine``
    takes longer and comes closer; ``brain`` "auto"
    strips a skull where there is one, "none" takes every voxel above zero; ``masks`` are brain masks of (moving, fixed)
    to use instead. Raises :class:`UserError` for anything that the caller can mend.
    """
    stages, sentences = Stages(progress), list[str]()
    with collected_warnings(sentences), ThreadPoolExecutor(2) as meanwhile:
        with stages("read"):
            loaded = _found(model)
            images = _read(moving), _read(fixed)
            _warn_where_apart(*images)
            brains = _read_mask(masks[0], images[0]), _read_mask(masks[1], images[1])
        with stages("load model"):
            network = (loaded if isinstance(loaded, Model) else load_model(loaded)).to(device)
            if refine:
                check_refinable(network)
        with stages("find brain"):
            finding = [meanwhile.submit(_find_brain, *one, brain, device) for one in zip(images, brains, strict=True)]
            found = [one.result() for one in finding]
            looks = [meanwhile.submit(look_at, image, one[0]) for image, one in zip(images, found, strict=True)]
        with stages("conform"):
            one, other = _conform_pair(images, found, network)
        with stages("couple"):
            coupling = couple(network, one.conformed, other.conformed, transform, refine)
        own = [
            meanwhile.submit(_own_labels, segmented, network.scheme, subject.image.grid)
            for segmented, subject in ((coupling.moving_segmented, one), (coupling.fixed_segmented, other))
        ]
        with stages("invert"):
            inverse = coupling.transform.inverse()
        with stages("warp"):
            dense = _dense(coupling.transform, other.image.grid)
            warped = resample(dense, one.image, other.image.grid)
            jacobian = jacobian_determinant(dense, other.image.grid)
        with stages("segment"):
            carried = _carried_labels(coupling, dense, network.scheme, other.image.grid)
            (moving_labels, moving_head), (fixed_labels, fixed_head) = (done.result() for done in own)
            labels = moving_labels, fixed_labels, carried
        with stages("measure"):
            measures = _measure(coupling.transform, inverse, dense, jacobian, one, other)
            volumes = _volumes(network.scheme, labels)
    record = _record(network, device, stages, sentences, {"moving": one, "fixed": other})
    record |= {"transform": transform, "refined": refine, "measures": _measures_as_json(measures)}
    _note_head_sizes(record, [moving_head, fixed_head])
    results = Results(
        one.image,
        other.image,
        warped,
        Image(jacobian, other.image.grid),
        coupling.transform,
        *labels,
        network.scheme,
        volumes,
        record,
        one.brain,
        other.brain,
    )
    signs = measure_signs(results, [look.result() for look in looks])
    record["quality"] = judge(signs).to_dict(signs)
    return Registration(
        warped,
        coupling.transform,
        inverse,
        Image(jacobian, other.image.grid),
        *labels,
        network.scheme,
        volumes,
        measures,
        record,
        results,
        one.image.grid,
    )


def segment_image(
    image: Source,
    *,
    model: str | Path | Model | None = None,
    brain: BrainMethod = "auto",
    mask: str | Path | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Segmentation:
    """Segment one image (a file or an image) on its own grid; arguments and errors as in :func:`register_pair`."""
    stages, sentences = Stages(progress), list[str]()
    with collected_warnings(sentences):
        with stages("read"):
            loaded = _found(model)
            given = _read(image)
            drawn = _read_mask(mask, given)
        with stages("load model"):
            network = (loaded if isinstance(loaded, Model) else load_model(loaded)).to(device)
            if network.scheme is None:
                raise UserError(f"The model {network.name} registers only; choose one that segments with --model.")
        with stages("find brain"):
            found, what = _find_brain(given, drawn, brain, device)
        with stages("conform"):
            subject = Subject(given, found, what, conform(given, found, network.conform))
        with stages("segment"):
            labels = _labels_on(segment_conformed(network, subject.conformed), network.scheme, given.grid)
    record = _record(network, device, stages, sentences, {"image": subject})
    _note_head_sizes(record, [intracranial_volume(labels)])
    signs = image_signs(given, found, labels, network.scheme)
    record["quality"] = judge_image(signs, network.scheme.name, network.name).to_dict(signs)
    return Segmentation(given, labels, network.scheme, structure_volumes(labels, network.scheme), record)


# -- steps -------------------------------------------------------------------------------------------------------------


def _found(model: str | Path | Model | None) -> Path | Model:
    """An unknown model is said before anything is read."""
    return model if isinstance(model, Model) else find_model(model).path


def _read(source: Source) -> Image:
    return source if isinstance(source, Image) else read_image(source)


def _warn_where_apart(moving: Image, fixed: Image) -> None:
    if not moving.grid.overlaps(fixed.grid):
        apart = float(np.linalg.norm(moving.grid.centre_world - fixed.grid.centre_world))
        warnings.warn(
            f"{moving.name} and {fixed.name} do not overlap where their headers place them ({apart:.0f} mm apart); the "
            "transform contains that distance: check that the headers are right.",
            InputWarning,
            stacklevel=2,
        )


def _read_mask(path: str | Path | None, image: Image) -> LabelMap | None:
    if path is None:
        return None
    mask = read_labels(path)
    if not mask.grid.overlaps(image.grid):
        raise UserError(
            f"{path} and {image.name} do not overlap in the world; give a mask that was drawn on this image."
        )
    return mask


def _find_brain(image: Image, mask: LabelMap | None, method: BrainMethod, device: str) -> tuple[LabelMap, str]:
    # deepbet's networks hold operations that Apple's GPUs lack.
    return extract_brain(image, method, mask, device="cpu" if device == "mps" else device)


def _conform_pair(
    images: tuple[Image, Image], found: Sequence[tuple[LabelMap, str]], model: Model
) -> tuple[Subject, Subject]:
    """Both on grids of one shape: when one brain needs a larger grid, the other gets it too."""
    brains = found[0][0], found[1][0]
    both = [conform(image, brain, model.conform) for image, brain in zip(images, brains, strict=True)]
    shapes = [one.grid.shape for one in both]
    if shapes[0] != shapes[1]:
        sizes = tuple(model.conform.blocks * max(pair) for pair in zip(*shapes, strict=True))
        common = replace(model.conform, shape=sizes)
        both = [conform(image, brain, common) for image, brain in zip(images, brains, strict=True)]
    one, other = (Subject(images[n], *found[n], both[n]) for n in (0, 1))
    return one, other


def _dense(transform: Composite, grid: Grid) -> Composite:
    """The same map, its deformation read once where it is needed four times: at the voxels of ``grid``."""
    if all(isinstance(part, Affine) for part in transform.parts):
        return transform
    return Composite([displacement_on(transform, grid)])


def _carried_labels(coupling: Coupling, dense: Composite, scheme: LabelScheme | None, fixed: Grid) -> LabelMap | None:
    """The moving image's structures on the fixed grid."""
    segmented = coupling.moving_segmented
    if scheme is None or segmented is None:
        return None
    if isinstance(segmented, LabelMap):
        return _as_labels(resample(dense, segmented, fixed).data, scheme, fixed)
    return _as_labels(resample(dense, segmented, fixed).data.argmax(dim=0), scheme, fixed)


def _own_labels(
    segmented: Segmented | None, scheme: LabelScheme | None, grid: Grid
) -> tuple[LabelMap | None, float | None]:
    """An image's structures on its own ``grid``, and its head's size in mm³."""
    if scheme is None or segmented is None:
        return None, None
    labels = _labels_on(segmented, scheme, grid)
    return labels, intracranial_volume(labels)


def _labels_on(segmented: Segmented, scheme: LabelScheme, grid: Grid) -> LabelMap:
    if isinstance(segmented, LabelMap):
        return _as_labels(resample(Affine.identity(), segmented, grid).data, scheme, grid)
    return _as_labels(segmented.classes_on(grid), scheme, grid)


def _as_labels(classes: torch.Tensor, scheme: LabelScheme, grid: Grid) -> LabelMap:
    return LabelMap(torch.from_numpy(scheme.to_ids(classes.cpu().numpy())), grid)


def _measure(
    transform: Composite,
    inverse: Composite,
    dense: Composite,
    jacobian: torch.Tensor,
    moving: Subject,
    fixed: Subject,
) -> Measures:
    mask = fixed.brain.mask
    error = inverse_error(transform, inverse, fixed.brain)
    placed = resample(Affine.identity(), moving.brain, fixed.image.grid, "nearest")
    carried = resample(dense, moving.brain, fixed.image.grid, "nearest")
    return Measures(
        folding_fraction=folding_fraction(jacobian, mask),
        sd_log_jacobian=log_jacobian_std(jacobian, mask),
        inverse_mean_mm=error.mean_mm,
        inverse_max_mm=error.max_mm,
        overlap_before=_overlap(placed, fixed.brain),
        overlap_after=_overlap(carried, fixed.brain),
    )


def _overlap(a: LabelMap, b: LabelMap) -> float:
    return float(dice_per_class(a.mask, b.mask, classes=2))


def _volumes(scheme: LabelScheme | None, labels: Sequence[LabelMap | None]) -> dict[str, dict[int, float]]:
    if scheme is None:
        return {}
    named = zip(("moving", "fixed"), labels, strict=False)
    return {name: structure_volumes(one, scheme) for name, one in named if one is not None}


# -- the record --------------------------------------------------------------------------------------------------------


def _record(
    model: Model, device: str, stages: Stages, sentences: list[str], subjects: dict[str, Subject]
) -> dict[str, Any]:
    return {
        "finished": now(),
        "versions": environment(),
        "model": {"name": model.name, "kind": model.card.kind, "sha256": model.sha256, "scheme": model.card.scheme},
        "device": device,
        "threads": torch.get_num_threads(),
        "inputs": {name: _describe(one) for name, one in subjects.items()},
        "seconds": {**stages.seconds, "total": round(sum(stages.seconds.values()), 3)},
        "warnings": sentences,
    }


def _describe(subject: Subject) -> dict[str, Any]:
    grid = subject.image.grid
    return {
        "path": subject.image.path,
        "shape": list(grid.shape),
        "voxel_mm": [round(float(z), 4) for z in grid.zooms],
        "axes": "".join(grid.axis_codes),
        "brain": subject.brain_found,
        "brain_mm3": round(float(subject.brain.mask.sum()) * grid.voxel_volume, 1),
        "conformed_shape": list(subject.conformed.grid.shape),
        "notes": list(subject.conformed.notes),
    }


def _note_head_sizes(record: dict[str, Any], sizes: Sequence[float | None]) -> None:
    """Only where there is an estimate."""
    for one, size in zip(record["inputs"].values(), sizes, strict=True):
        if size is not None:
            one["intracranial_mm3"] = round(size, 1)


def _measures_as_json(measures: Measures) -> dict[str, Any]:
    return {
        "folding_fraction": measures.folding_fraction,
        "sd_log_jacobian": round(measures.sd_log_jacobian, 5),
        "inverse_residual_mm": {"mean": round(measures.inverse_mean_mm, 5), "max": round(measures.inverse_max_mm, 5)},
        "brain_overlap": {"before": round(measures.overlap_before, 4), "after": round(measures.overlap_after, 4)},
    }


def _save(
    folder: Path,
    writers: dict[str, Callable[[Path], None]],
    record: dict[str, Any],
    overwrite: bool,
    command: Sequence[str],
) -> list[Path]:
    names = [*writers, RECORD]
    with fresh_folder(folder, overwrite) as beside:
        # Compression leaves the interpreter's lock, so that files are written at the same time.
        with ThreadPoolExecutor(max_workers=max(1, torch.get_num_threads())) as pool:
            for done in [pool.submit(write, beside / name) for name, write in writers.items()]:
                done.result()
        full = record | {"command": list(command), "files": names}
        write_text(to_json(full), beside / RECORD)
    return [folder / name for name in names]
