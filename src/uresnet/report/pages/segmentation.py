"""The page of one segmented image: whether to trust it, its slices with the structures, and their volumes."""

from __future__ import annotations

from uresnet._version import __version__
from uresnet.measures.volumes import NOT_FREESURFER, PREDICTED_DICE
from uresnet.quality.verdict import judge_record
from uresnet.report.contours import SUBPIXELS
from uresnet.report.html import render
from uresnet.report.pages.slice_panels import one_scale, shown_planes
from uresnet.report.slices import view_of
from uresnet.report.structures import groups, is_predicted, present, table_rows, why_not_predicted
from uresnet.results.record_text import image_name, plain_warnings
from uresnet.results.segmentation import SegmentedImage


def segmentation_page(result: SegmentedImage, of: str = "") -> str:
    """The page of a segmentation, as HTML; ``of`` begins its title."""
    view = view_of(result.background)
    planes = shown_planes({"fixed": (result.background, view)}, {"fixed": result.labels}, result.scheme, view)
    structures = present(result.scheme, result.labels)
    return render(
        "segmentation.html.j2",
        extra_style=one_scale(planes),
        title=of + image_name(result.record),
        verdict=judge_record(result.record),
        record=result.record,
        warnings=plain_warnings(result.record),
        planes=planes,
        structures=structures,
        groups=groups(structures),
        rows=table_rows(result.scheme, {"image": result.volumes}, inputs=result.record.inputs),
        predicted_dice=PREDICTED_DICE if is_predicted(result.record) else "",
        why_not_predicted=why_not_predicted(result.record),
        look_first="Go through the slices: each outline should follow one structure, and none should be missing.",
        next_file="the label map (FreeSurfer ids) and volumes.tsv; the label tables name and colour it elsewhere.",
        not_freesurfer=NOT_FREESURFER,
        sided=result.scheme.sided,
        subpixels=SUBPIXELS,
        version=__version__,
    )
