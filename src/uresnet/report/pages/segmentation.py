"""The page of one segmented image: whether to trust it, its slices with the structures, and their volumes; and that of
the T1-weighted image predicted for it."""

from __future__ import annotations

from dataclasses import replace

from uresnet._version import __version__
from uresnet.core.image import Image
from uresnet.measures.volumes import NOT_FREESURFER, PREDICTED_DICE
from uresnet.quality.verdict import judge_record
from uresnet.report.contours import SUBPIXELS
from uresnet.report.html import render
from uresnet.report.pages.slice_panels import begins_at_mass, one_scale, shown_planes
from uresnet.report.slices import view_of
from uresnet.report.structures import groups, is_predicted, present, table_rows, why_not_predicted
from uresnet.results.record_text import image_name, plain_warnings
from uresnet.results.segmentation import SegmentedImage


def segmentation_page(result: SegmentedImage) -> str:
    """The page of a segmentation, as HTML."""
    return _page("segmentation.html.j2", result, image_name(result.record))


def predicted_t1_page(result: SegmentedImage, predicted: Image) -> str:
    """The page of the T1-weighted image that was ``predicted`` for a segmented image, on the same grid, as HTML: no
    verdict and no volumes, which are of the image itself."""
    name = image_name(result.record)
    return _page("predicted_t1.html.j2", replace(result, image=predicted), f"Predicted T1 of {name}", name=name)


def _page(template: str, result: SegmentedImage, title: str, **values: str) -> str:
    view = view_of(result.background)
    planes = shown_planes({"fixed": (result.background, view)}, {"fixed": result.labels}, result.scheme, view)
    structures = present(result.scheme, result.labels)
    return render(
        template,
        **values,
        extra_style=one_scale(planes),
        title=title,
        verdict=judge_record(result.record),
        record=result.record,
        warnings=plain_warnings(result.record),
        planes=planes,
        structures=structures,
        groups=groups(structures),
        rows=table_rows(result.scheme, {"image": result.volumes}, inputs=result.record.inputs),
        predicted_dice=PREDICTED_DICE if is_predicted(result.record) else "",
        why_not_predicted=why_not_predicted(result.record),
        look_first=begins_at_mass(result.volumes)
        + "Go through the slices: each outline should follow one structure, and none should be missing.",
        next_file="the label map (FreeSurfer ids) and volumes.tsv; the label tables name and colour it elsewhere.",
        not_freesurfer=NOT_FREESURFER,
        sided=result.scheme.sided,
        subpixels=SUBPIXELS,
        version=__version__,
    )
