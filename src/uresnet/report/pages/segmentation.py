"""The page of one segmented image: whether to trust it, its slices with the structures, and their volumes."""

from __future__ import annotations

from typing import Any

from uresnet import __version__
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.quality.verdict import judge_image_record
from uresnet.report.contours import SUBPIXELS
from uresnet.report.html import render
from uresnet.report.pages.registration import file_name, plain_warnings
from uresnet.report.pages.slice_panels import one_scale, shown_planes
from uresnet.report.slices import view_of
from uresnet.report.structures import groups, present, table_rows


def segmentation_page(
    image: Image, labels: LabelMap, scheme: LabelScheme, volumes: dict[int, float], record: dict[str, Any]
) -> str:
    """The page of a segmentation, as HTML; ``labels`` on the image's grid, ``volumes`` in mm³ by FreeSurfer id."""
    view = view_of(image)
    planes = shown_planes({"fixed": (image, view)}, {"fixed": labels}, scheme, view)
    structures = present(scheme, labels)
    return render(
        "segmentation.html.j2",
        extra_style=one_scale(planes),
        title=file_name(record["inputs"]["image"]["path"]) or "Segmentation",
        verdict=judge_image_record(record),
        record=record,
        warnings=plain_warnings(record),
        planes=planes,
        structures=structures,
        groups=groups(structures),
        rows=table_rows(scheme, {"image": volumes}),
        sided=scheme.sided,
        subpixels=SUBPIXELS,
        version=__version__,
    )
