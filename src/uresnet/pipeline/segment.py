"""Segment one image: find its brain, conform it, segment it, judge the result."""

from __future__ import annotations

import warnings
from dataclasses import replace

from uresnet.core.choices import BrainMethod
from uresnet.core.exact import computed_exactly
from uresnet.core.image import Image
from uresnet.coupling import Look, check_leaves_out, check_predicts_t1, look, segment_conformed
from uresnet.errors import InputWarning
from uresnet.io.in_memory import ImageSource, image_from
from uresnet.measures.intracranial import intracranial_volume
from uresnet.measures.volumes import structure_volumes
from uresnet.model.catalogue import check_segments
from uresnet.pipeline.invariants import check_segmentation
from uresnet.pipeline.progress import Progress, Stages, collected_warnings, silent
from uresnet.pipeline.save import Segmentation
from uresnet.pipeline.steps import (
    FoundBrain,
    ModelSource,
    check_arguments,
    check_sources,
    chosen_model,
    find_brain,
    input_record,
    limited,
    mask_of,
    native_labels,
    ready_model,
    run_record,
    warn_of_labels,
    with_lesion,
    without_drawn,
)
from uresnet.preprocess import Conformed, conform
from uresnet.quality.predicted_dice import predicted_dice
from uresnet.quality.signs import image_signs
from uresnet.quality.verdict import judge_image
from uresnet.transform import Affine, resample


def segment(  # noqa: PLR0913  what a caller may choose, all but one by name
    image: ImageSource,
    *,
    model: ModelSource = None,
    brain: BrainMethod = "auto",
    mask: ImageSource | None = None,
    lesion: ImageSource | None = None,
    synthesise: bool = False,
    exact: bool = False,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
) -> Segmentation:
    """Segment one image on its own grid.

    ``image``, the other arguments and errors are as those of :func:`uresnet.register`; ``mask`` is a brain mask to use
    instead of searching for the brain, ``lesion`` a mask of abnormal tissue. ``synthesise`` predicts what the image
    would look like T1-weighted: ``predicted_t1``, in [0, 1], on the same grid. Raises :class:`UserError` also for a
    model that does not segment, or does not predict.

    >>> import uresnet, nibabel
    >>> result = uresnet.segment(nibabel.load("image.nii.gz"))
    >>> result.labels.data.shape  # FreeSurfer ids on the image's own grid
    torch.Size([52, 56, 40])
    >>> sorted(result.volumes)  # mm³ by FreeSurfer id
    [2, 3, 4]
    """
    function = "uresnet.segment"
    given_masks = {name: value for name, value in (("mask", mask), ("lesion", lesion)) if value is not None}
    check_sources(function, image=image, **given_masks)
    device = check_arguments(
        function,
        device,
        threads,
        progress,
        model=(model, ModelSource),
        brain=(brain, BrainMethod),
        synthesise=(synthesise, bool),
        exact=(exact, bool),
    )
    stages, sentences = Stages(progress), list[str]()
    with collected_warnings(sentences), limited(threads), computed_exactly(exact):
        with stages("read"):
            chosen = chosen_model(model)
            check_segments(chosen.card)
            given = image_from(image, "image")
            drawn = mask_of(mask, given)
            abnormal = mask_of(lesion, given, "lesion", "abnormal tissue")
            warn_of_labels(given)
        with stages("load model"):
            network = ready_model(chosen, device)
            check_segments(network.card)
            if abnormal is not None:
                check_leaves_out(network)
            if synthesise:
                check_predicts_t1(network)
        with stages("find brain"):
            found = find_brain(given, drawn, brain, device)
        with stages("conform"):
            shown = without_drawn(given, abnormal, found.mask)
            conformed = with_lesion(conform(given if synthesise else shown, found.mask, network.conform), abnormal)
        with stages("recognise"):
            network, seen = look(network, conformed, whole=synthesise)
        with stages("segment"):
            structures = segment_conformed(network, conformed, seen)
            scheme = structures.scheme
            labels = native_labels(structures.segmented, scheme, given.grid)
            predicted = _predicted_t1(seen[0], conformed, found) if synthesise else None
    dice = predicted_dice(structures.expected, (network.specialist or network).sha256)
    inputs = {"image": input_record(found, conformed, intracranial_volume(labels), seen, dice)}
    record = run_record(network, scheme, device, stages, sentences, inputs, exact)
    with computed_exactly(exact):
        signs = image_signs(given, found.mask, labels, scheme, recorded=inputs["image"])
    segmentation = Segmentation(
        image=given,
        labels=labels,
        scheme=scheme,
        volumes=structure_volumes(labels, scheme),
        brain=found.mask,
        predicted_t1=predicted,
        record=replace(record, quality=judge_image(signs, record.model).quality(signs)),
    )
    return check_segmentation(segmentation, given.grid)


def _predicted_t1(look: Look, conformed: Conformed, found: FoundBrain) -> Image:
    """What the image would look like T1-weighted, on its own grid, in [0, 1]; 0 outside its brain."""
    assert look.evaluated is not None
    already = " This image is T1-weighted already." if look.contrast == "T1" else ""
    warnings.warn(
        f"The predicted T1-weighted image is what a network makes of {found.image.name}, not a measurement: judge no "
        f"lesions, volumes or intensities by it.{already}",
        InputWarning,
        stacklevel=2,
    )
    predicted = Image(look.evaluated.as_t1[0, 0].cpu(), conformed.grid)
    there = resample(Affine.identity(), predicted, found.image.grid)
    return replace(there, data=there.data * found.mask.mask)
