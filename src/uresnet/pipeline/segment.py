"""Segment one image: find its brain, conform it, segment it, judge the result."""

from __future__ import annotations

from dataclasses import replace

from uresnet.core.choices import BrainMethod
from uresnet.coupling import segment_conformed
from uresnet.errors import UserError
from uresnet.io.in_memory import ImageSource, image_from
from uresnet.measures.intracranial import intracranial_volume
from uresnet.measures.volumes import structure_volumes
from uresnet.pipeline.invariants import check_segmentation
from uresnet.pipeline.progress import Progress, Stages, collected_warnings, silent
from uresnet.pipeline.save import Segmentation
from uresnet.pipeline.steps import (
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
)
from uresnet.preprocess import conform
from uresnet.quality.signs import image_signs
from uresnet.quality.verdict import judge_image


def segment(
    image: ImageSource,
    *,
    model: ModelSource = None,
    brain: BrainMethod = "auto",
    mask: ImageSource | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress = silent,
) -> Segmentation:
    """Segment one image on its own grid.

    ``image``, the other arguments and errors are as those of :func:`uresnet.register`; ``mask`` is a brain mask to use
    instead of searching for the brain. Raises :class:`UserError` also for a model that does not segment.

    >>> import uresnet, nibabel
    >>> result = uresnet.segment(nibabel.load("image.nii.gz"))
    >>> result.labels.data.shape  # FreeSurfer ids on the image's own grid
    torch.Size([52, 56, 40])
    >>> sorted(result.volumes)  # mm³ by FreeSurfer id
    [2, 3, 4]
    """
    function = "uresnet.segment"
    check_sources(function, image=image, **({} if mask is None else {"mask": mask}))
    device = check_arguments(
        function, device, threads, progress, model=(model, ModelSource), brain=(brain, BrainMethod)
    )
    stages, warnings = Stages(progress), list[str]()
    with collected_warnings(warnings), limited(threads):
        with stages("read"):
            chosen = chosen_model(model)
            given = image_from(image, "image")
            drawn = mask_of(mask, given)
        with stages("load model"):
            network = ready_model(chosen, device)
            scheme = network.scheme
            if scheme is None:
                raise UserError(f"The model {network.name} registers only; choose one that segments with --model.")
        with stages("find brain"):
            found = find_brain(given, drawn, brain, device)
        with stages("conform"):
            conformed = conform(given, found.mask, network.conform)
        with stages("segment"):
            labels = native_labels(segment_conformed(network, conformed), scheme, given.grid)
    inputs = {"image": input_record(found, conformed, intracranial_volume(labels))}
    record = run_record(network, device, stages, warnings, inputs)
    signs = image_signs(given, found.mask, labels, scheme)
    segmentation = Segmentation(
        image=given,
        labels=labels,
        scheme=scheme,
        volumes=structure_volumes(labels, scheme),
        brain=found.mask,
        record=replace(record, quality=judge_image(signs, record.model).quality(signs)),
    )
    return check_segmentation(segmentation, given.grid)
