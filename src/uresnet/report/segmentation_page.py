"""The page of one segmented image: its slices with the structures, and their volumes."""

from __future__ import annotations

from typing import Any

from uresnet import __version__
from uresnet.image import Image, LabelMap
from uresnet.labels import LabelScheme
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.html import render
from uresnet.report.page import asymmetry, file_name, has_sides, one_scale, plain_warnings
from uresnet.report.pictures import data_uri, grey
from uresnet.report.slices import PLANES, Plane, View, cut, cut_labels, grey_window, plane_grid, view_of


def segmentation_page(
    image: Image, labels: LabelMap, scheme: LabelScheme, volumes: dict[int, float], record: dict[str, Any]
) -> str:
    """The page of a segmentation, as HTML; ``labels`` on the image's grid, ``volumes`` in mm³ by FreeSurfer id."""
    view = view_of(image)
    planes = [_plane(image, labels, scheme, plane, view) for plane in PLANES]
    present = {int(i) for i in labels.data.unique()}
    rows = [
        {"structure": one, "name": one.name.replace("-", " "), "ml": volumes.get(one.id, 0.0) / 1000,
         "asymmetry": asymmetry(volumes, one.id)}
        for one in scheme.classes
    ]  # fmt: skip
    return render(
        "segmentation.html.j2",
        extra_style=one_scale([one["width"] for one in planes]),
        title=file_name(record.get("inputs", {}).get("image", {}).get("path")) or "Segmentation",
        record=record,
        warnings=plain_warnings(record),
        planes=planes,
        data=[one["data"] for one in planes],
        structures=[one for one in scheme.classes if one.id in present],
        rows=rows,
        sided=has_sides(scheme),
        subpixels=SUBPIXELS,
        version=__version__,
    )


def _plane(image: Image, labels: LabelMap, scheme: LabelScheme, plane: Plane, view: View) -> dict[str, Any]:
    grid = plane_grid(plane, view)
    window = grey_window(image)
    pictures = [data_uri(grey(one, window)) for one in cut(image, grid)]
    outlines = [structure_paths(one, scheme) for one in cut_labels(labels, grid)]
    positions = [f"{n} of {len(pictures)}" for n in range(1, len(pictures) + 1)]
    middle = len(pictures) // 2
    return {
        "name": plane.name,
        "edges": dict(zip(("left", "right", "top", "bottom"), plane.edges, strict=True)),
        "width": grid.shape[0],
        "height": grid.shape[1],
        "middle": middle,
        "last": len(pictures) - 1,
        "positions": positions,
        "picture": pictures[middle],
        "outlines": outlines[middle],
        "data": {
            "name": plane.name,
            "positions": positions,
            "pictures": {"fixed": pictures},
            "outlines": {"fixed": outlines},
        },
    }
