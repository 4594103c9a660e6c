"""The page beside a registration: one self-contained file that opens from disk, in a mail, on a phone and on paper."""

from __future__ import annotations

import shlex
from math import nan

from uresnet import __version__
from uresnet.core.labels import LabelClass
from uresnet.quality.signs import structure_dice
from uresnet.quality.verdict import judge_record
from uresnet.report.contours import SUBPIXELS
from uresnet.report.deformation import placement, warp_slices
from uresnet.report.html import render
from uresnet.report.pages.deformation_panels import deformation_panels
from uresnet.report.pages.slice_panels import one_scale, shown_planes
from uresnet.report.record_text import image_names, plain_warnings
from uresnet.report.slices import foreground_box, view_of
from uresnet.report.structures import groups, present, table_rows
from uresnet.results.record import RunRecord
from uresnet.results.registration import RegisteredPair
from uresnet.results.signs import PairSigns

PAGE = "report.html"
"""What the page is called in an output folder."""


def registration_page(results: RegisteredPair, title: str = "") -> str:
    """The page of one registration, as HTML.

    ``title`` stands in the heading; by default the two images' file names.
    """
    view = view_of(results.background, *([results.moving] if results.moving is not None else []))
    images = {"warped": (results.warped_moving, view)}
    if results.fixed is not None:
        images["fixed"] = (results.fixed, view)
    if results.moving is not None:
        low, high = foreground_box(results.moving)
        images["moving"] = (results.moving, view.moved_to((low + high) / 2))
    maps = {"fixed": results.fixed_segmentation, "warped": results.warped_segmentation}
    planes = shown_planes(images, maps, results.scheme, view)
    names, structures = image_names(results.record), _structures(results)
    overall = placement(results.transform, view)
    return render(
        "registration.html.j2",
        extra_style=one_scale(planes),
        title=title or f"{names['moving']} → {names['fixed']}",
        names=names,
        verdict=judge_record(results.record),
        record=results.record,
        warnings=plain_warnings(results.record),
        planes=planes,
        subpixels=SUBPIXELS,
        structures=structures,
        groups=groups(structures),
        has_fixed=results.fixed is not None,
        warp=deformation_panels(warp_slices(results, view, overall)),
        overall=overall,
        rows=table_rows(results.scheme, results.volumes, _dice(results)),
        sided=results.scheme is not None and results.scheme.sided,
        commands=commands(results.record),
        version=__version__,
    )


def _structures(results: RegisteredPair) -> list[LabelClass]:
    """Those that either segmentation holds."""
    if results.scheme is None or results.warped_segmentation is None:
        return []
    maps = [one for one in (results.warped_segmentation, results.fixed_segmentation) if one is not None]
    return present(results.scheme, *maps)


def _dice(results: RegisteredPair) -> dict[str, float]:
    """By structure's name: as the verdict's signs have it, or measured where the record keeps none."""
    signs = results.record.quality.signs if results.record.quality is not None else None
    dice = signs.dice if isinstance(signs, PairSigns) else structure_dice(results)
    return {name: nan if value is None else value for name, value in dice.items()}


def commands(record: RunRecord) -> list[dict[str, str]]:
    """What to type to use the transform elsewhere, with the names of these very files."""
    names = {name: shlex.quote(text) for name, text in image_names(record).items()}
    ants, forward = "antsApplyTransforms -d 3", f"-r {names['fixed']} -t transform.h5"
    image = f"-i {names['moving']} {forward} -o moved.nii.gz"
    labels = f"-n GenericLabel -i moving_dseg.nii.gz {forward} -o moved_dseg.nii.gz"
    back = f"-i {names['fixed']} -r {names['moving']} -t inverse_transform.h5 -o back.nii.gz"
    own = f"uresnet apply transform.h5 {names['moving']} --like {names['fixed']} -o moved.nii.gz"
    return [
        {"what": "uresnet: any image in the moving image's space", "text": own},
        {"what": "ANTs: the moving image onto the fixed one", "text": f"{ants} {image}"},
        {"what": "ANTs: a label map, values kept whole", "text": f"{ants} {labels}"},
        {"what": "ANTs: the fixed image back onto the moving one", "text": f"{ants} {back}"},
    ]
