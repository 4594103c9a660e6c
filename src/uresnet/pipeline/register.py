"""Register a pair: find the brains, conform them, couple them, warp, measure, judge. Computes; ``save`` writes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from uresnet.config.conform import ConformSpec
from uresnet.core.background import scan_background
from uresnet.core.choices import BrainMethod, Freedom
from uresnet.core.exact import computed_exactly, is_exact
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.core.threads import background_threads
from uresnet.coupling import (
    Coupling,
    Segmented,
    check_leaves_out,
    check_refinable,
    couple,
    look,
    segments_alone,
)
from uresnet.errors import InputWarning
from uresnet.io.in_memory import ImageSource, image_from
from uresnet.measures.intracranial import intracranial_volume
from uresnet.measures.overlap import dice_per_class
from uresnet.pipeline.invariants import check_registration
from uresnet.pipeline.kept import Keep, not_kept
from uresnet.pipeline.progress import Progress, Stages, collected_warnings, silent
from uresnet.pipeline.save import Registration
from uresnet.pipeline.steps import (
    FoundBrain,
    ModelSource,
    check_arguments,
    check_sources,
    chosen_model,
    find_brain,
    input_record,
    labels_from_classes,
    limited,
    mask_of,
    native_labels,
    ready_model,
    run_record,
    warn_of_labels,
    with_lesion,
    without_drawn,
)
from uresnet.preprocess import Conformed, conform_pair
from uresnet.quality.predicted_dice import predicted_dice
from uresnet.quality.signs import Appearance, appearance, measure_signs
from uresnet.quality.verdict import deforms, judge
from uresnet.results.record import Measures
from uresnet.results.registration import volumes_by_image
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


def register(  # noqa: PLR0913  what a caller may choose, all but two by name
    moving: ImageSource,
    fixed: ImageSource,
    *,
    model: ModelSource = None,
    transform: Freedom = "joint",
    refine: bool = False,
    exact: bool = False,
    brain: BrainMethod = "auto",
    masks: tuple[ImageSource | None, ImageSource | None] = (None, None),
    lesions: tuple[ImageSource | None, ImageSource | None] = (None, None),
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
    keep: Keep = not_kept,
) -> Registration:
    """Register ``moving`` to ``fixed`` and segment both.

    Each image is a path, an image of nibabel, SimpleITK, ANTsPy, TorchIO or MONAI, an :class:`~uresnet.Image`, or
    ``(array, affine)``: values (I, J, K) and the 4×4 matrix from voxel indices to RAS+ mm. ``model`` is a packaged
    name, a model file or a loaded model; ``transform`` is what the registration may change; ``refine`` takes more time
    for a more accurate result; ``exact`` computes the reference on the CPU: slower, without what is faster and gives
    almost the same numbers, and ``save`` rounds nothing; ``brain`` "auto" strips a skull where there is one, "none"
    takes every voxel above zero; ``masks`` are brain masks of (moving, fixed), in the same forms as images, to use
    instead; ``lesions`` are masks of abnormal tissue of (moving, fixed), used beside what the model finds: nothing is
    matched to it. ``device`` "auto" is a CUDA GPU if there is one, else the CPU; ``threads`` None takes all cores;
    ``progress`` is called with the name of each stage when it starts (and None) and when it ends (and its seconds).
    Raises :class:`UserError` for a mistake in the inputs or arguments.

    >>> import uresnet
    >>> result = uresnet.register("moving.nii.gz", "fixed.nii.gz")
    >>> result.verdict in ("good", "look", "failed")
    True
    >>> result.warped.grid.shape == result.fixed.grid.shape
    True
    >>> moving_mm = result.transform.apply([[0.0, 0.0, 10.0]])  # a point of the fixed world, RAS mm
    >>> moving_mm.shape
    (1, 3)
    """
    function = "uresnet.register"
    check_sources(function, moving=moving, fixed=fixed, masks=masks, lesions=lesions)
    device = check_arguments(
        function,
        device,
        threads,
        progress,
        model=(model, ModelSource),
        transform=(transform, Freedom),
        refine=(refine, bool),
        exact=(exact, bool),
        brain=(brain, BrainMethod),
    )
    stages, sentences = Stages(progress), list[str]()
    with (
        collected_warnings(sentences),
        limited(threads),
        computed_exactly(exact),
        background_threads(2) as background,
    ):
        with stages("read"):
            chosen = chosen_model(model)
            images = image_from(moving, "moving"), image_from(fixed, "fixed")
            _warn_of(*images)
            drawn = mask_of(masks[0], images[0], "moving mask"), mask_of(masks[1], images[1], "fixed mask")
            abnormal = (
                mask_of(lesions[0], images[0], "moving lesion", "abnormal tissue"),
                mask_of(lesions[1], images[1], "fixed lesion", "abnormal tissue"),
            )
        with stages("load model"):
            network = ready_model(chosen, device)
            if refine:
                check_refinable(network)
            if abnormal != (None, None):
                check_leaves_out(network)
        with stages("find brain"):
            searches = [
                background.submit(keep, "brain", image, partial(find_brain, image, mask, brain, device))
                for image, mask in zip(images, drawn, strict=True)
            ]
            source, target = (search.result() for search in searches)
            looks = [
                background.submit(keep, "look", found.image, partial(appearance, found.image, found.mask))
                for found in (source, target)
            ]
        with stages("conform"):
            conformed = _conformed((source, target), abnormal, network.conform)
        with stages("recognise"):
            network, seen = look(network, *conformed)
        with stages("couple"):
            coupling = couple(network, *conformed, transform, refine, seen)
        scheme = coupling.scheme
        keep_labels = keep if segments_alone(network) else not_kept
        native = [
            background.submit(
                keep_labels,
                f"labels {image.grid.shape} {network.name} {scheme and scheme.name}",
                found.image,
                partial(_native, segmented, scheme, found.image.grid),
            )
            for segmented, found, image in zip(
                (coupling.moving_segmented, coupling.fixed_segmented), (source, target), conformed, strict=True
            )
        ]
        with stages("invert"):
            inverse = coupling.transform.inverse()
        with stages("warp"):
            dense = _dense(coupling.transform, target.image.grid)
            outside = scan_background(source.image.data.numpy())
            warped = resample(dense, source.image, target.image.grid, fill=outside)
            jacobian = Image(jacobian_determinant(dense, target.image.grid), target.image.grid)
        with stages("segment"):
            warped_labels = _warped_labels(coupling, dense, scheme, target.image.grid)
            (moving_labels, moving_head), (fixed_labels, fixed_head) = (done.result() for done in native)
        with stages("measure"):
            measures = _measure(coupling.transform, inverse, dense, jacobian, (source.mask, target.mask), conformed)
            volumes = volumes_by_image(scheme, moving=moving_labels, fixed=fixed_labels)
    sentences.sort(key=lambda sentence: sentence.startswith(target.image.name))  # the two were looked at side by side
    moving_dice, fixed_dice = (
        predicted_dice(expected, (network.specialist or network).sha256)
        for expected in (coupling.moving_expected, coupling.fixed_expected)
    )
    inputs = {
        "moving": input_record(source, conformed[0], moving_head, seen[:1], moving_dice),
        "fixed": input_record(target, conformed[1], fixed_head, seen[1:], fixed_dice),
    }
    record = run_record(network, scheme, device, stages, sentences, inputs, exact)
    registration = Registration(
        moving=source.image,
        fixed=target.image,
        warped=warped,
        jacobian=jacobian,
        transform=coupling.transform,
        inverse=inverse,
        moving_segmentation=moving_labels,
        fixed_segmentation=fixed_labels,
        warped_segmentation=warped_labels,
        scheme=scheme,
        volumes=volumes,
        measures=measures,
        record=replace(record, transform=transform, refined=refine, measures=measures.rounded()),
        moving_brain=source.mask,
        fixed_brain=target.mask,
    )
    return _judged(check_registration(registration), [look.result() for look in looks])


# -- steps -------------------------------------------------------------------------------------------------------------


def _warn_of(moving: Image, fixed: Image) -> None:
    warn_of_labels(moving, fixed)
    if not moving.grid.overlaps(fixed.grid):
        apart = float(np.linalg.norm(moving.grid.centre_world - fixed.grid.centre_world))
        warnings.warn(
            f"{moving.name} and {fixed.name} do not overlap where their headers place them ({apart:.0f} mm apart); the "
            "transform contains that distance: check that the headers are right.",
            InputWarning,
            stacklevel=2,
        )


def _dense(transform: Composite, grid: Grid) -> Composite:
    """The same map, its deformation sampled once at the voxels of ``grid``, where it is needed four times."""
    if is_exact() or all(isinstance(part, Affine) for part in transform.parts):
        return transform
    return Composite([displacement_on(transform, grid)])


def _conformed(
    brains: tuple[FoundBrain, FoundBrain], lesions: tuple[LabelMap | None, LabelMap | None], spec: ConformSpec
) -> tuple[Conformed, Conformed]:
    """Both images as the network sees them, with what was drawn as abnormal."""
    shown = [
        (without_drawn(found.image, lesion, found.mask), found.mask)
        for found, lesion in zip(brains, lesions, strict=True)
    ]
    moving, fixed = conform_pair(shown[0], shown[1], spec)
    return with_lesion(moving, lesions[0]), with_lesion(fixed, lesions[1])


def _native(
    segmented: Segmented | None, scheme: LabelScheme | None, grid: Grid
) -> tuple[LabelMap | None, float | None]:
    """An image's structures on its own ``grid``, and its intracranial volume in mm³."""
    if scheme is None or segmented is None:
        return None, None
    labels = native_labels(segmented, scheme, grid)
    return labels, intracranial_volume(labels)


def _warped_labels(coupling: Coupling, dense: Composite, scheme: LabelScheme | None, fixed: Grid) -> LabelMap | None:
    """The moving image's structures on the fixed grid."""
    segmented = coupling.moving_segmented
    if scheme is None or segmented is None:
        return None
    if isinstance(segmented, LabelMap):
        return labels_from_classes(resample(dense, segmented, fixed).data, scheme, fixed)
    return labels_from_classes(resample(dense, segmented, fixed).data.argmax(dim=0), scheme, fixed)


def _measure(
    transform: Composite,
    inverse: Composite,
    dense: Composite,
    jacobian: Image,
    brains: tuple[LabelMap, LabelMap],
    conformed: tuple[Conformed, Conformed],
) -> Measures:
    fixed = brains[1]
    error = inverse_error(transform, inverse, fixed)
    return Measures(
        folding_fraction=folding_fraction(jacobian.data, fixed.mask),
        sd_log_jacobian=log_jacobian_std(jacobian.data, fixed.mask),
        inverse_mean_mm=error.mean_mm,
        inverse_max_mm=error.max_mm,
        overlap_before=_overlap(Affine.identity(), brains, conformed),
        overlap_after=_overlap(dense, brains, conformed),
    )


def _overlap(
    transform: Affine | Composite, brains: tuple[LabelMap, LabelMap], conformed: tuple[Conformed, Conformed]
) -> float:
    """Dice of the two brains on the fixed grid, after the transform, where neither is cut off by its field of view."""
    moving, fixed = brains
    grid = fixed.grid
    seen = torch.ones(grid.shape, dtype=torch.bool)
    for onto_fixed, image in zip((transform, Affine.identity()), conformed, strict=True):
        if image.unseen is not None:
            unseen = LabelMap(image.unseen.to(torch.uint8), image.grid)
            seen &= ~resample(onto_fixed, unseen, grid, "nearest").mask
    warped = resample(transform, moving, grid, "nearest").mask
    return float(dice_per_class(warped & seen, fixed.mask & seen, classes=2))


def _judged(registration: Registration, looks: Sequence[Appearance]) -> Registration:
    """The same registration, its record with the verdict."""
    record = registration.record
    with computed_exactly(record.exact is True):
        signs = measure_signs(registration, looks)
    return replace(
        registration, record=replace(record, quality=judge(signs, record.model, deforms(record)).quality(signs))
    )
