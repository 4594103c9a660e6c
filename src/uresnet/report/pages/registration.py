"""The page beside a registration: one self-contained file that opens from disk, in a mail, on a phone and on paper."""

from __future__ import annotations

import shlex
from math import isfinite, nan

from uresnet._version import __version__
from uresnet.core.labels import ABNORMAL, WITH_ABNORMAL, LabelClass
from uresnet.measures.volumes import NOT_FREESURFER, PREDICTED_DICE
from uresnet.quality.signs import structure_dice
from uresnet.quality.verdict import judge_record
from uresnet.report.contours import SUBPIXELS
from uresnet.report.deformation import placement, warp_slices
from uresnet.report.html import render
from uresnet.report.pages.deformation_panels import deformation_panels
from uresnet.report.pages.slice_panels import begins_at_mass, one_scale, shown_planes
from uresnet.report.slices import view_of
from uresnet.report.structures import groups, is_predicted, present, table_rows, why_not_predicted, words
from uresnet.results.record import RunRecord
from uresnet.results.record_text import image_names, plain_warnings
from uresnet.results.registration import RegisteredPair
from uresnet.results.signs import PairSigns

PAGE = "report.html"
"""The page's name in an output folder."""


def registration_page(pair: RegisteredPair, title: str = "") -> str:
    """The page of one registration, as HTML.

    ``title`` stands in the heading; by default the two images' file names.
    """
    view = view_of(pair.background, *([pair.moving] if pair.moving is not None else []))
    images = {"warped": (pair.warped, view)}
    if pair.fixed is not None:
        images["fixed"] = (pair.fixed, view)
    if pair.moving is not None:
        images["moving"] = (pair.moving, view.centred_on(pair.moving))
    maps = {"fixed": pair.fixed_segmentation, "warped": pair.warped_segmentation}
    planes = shown_planes(images, maps, pair.scheme, view)
    names, structures = image_names(pair.record), _structures(pair)
    overall, dice = placement(pair.transform, view), _dice(pair)
    return render(
        "registration.html.j2",
        extra_style=one_scale(planes),
        title=title or f"{names['moving']} → {names['fixed']}",
        names=names,
        verdict=judge_record(pair.record),
        record=pair.record,
        warnings=plain_warnings(pair.record),
        planes=planes,
        subpixels=SUBPIXELS,
        structures=structures,
        groups=groups(structures),
        has_fixed=pair.fixed is not None,
        warp=deformation_panels(warp_slices(pair, view, overall)),
        overall=overall,
        rows=table_rows(pair.scheme, pair.volumes, dice, pair.record.inputs),
        predicted_dice=PREDICTED_DICE if is_predicted(pair.record) else "",
        why_not_predicted=why_not_predicted(pair.record),
        look_first=begins_at_mass(*pair.volumes.values()) + _look_first(dice),
        next_file="warped.nii.gz is the moving image on the fixed grid; transform.h5 takes any other image along; "
        "volumes.tsv has the volumes.",
        not_freesurfer=NOT_FREESURFER,
        sided=pair.scheme is not None and pair.scheme.sided,
        commands=commands(pair.record),
        version=__version__,
    )


def _structures(pair: RegisteredPair) -> list[LabelClass]:
    """The structures of either segmentation."""
    if pair.scheme is None or pair.warped_segmentation is None:
        return []
    maps = (pair.warped_segmentation, pair.fixed_segmentation)
    return present(pair.scheme, *(labels for labels in maps if labels is not None))


def _look_first(dice: dict[str, float]) -> str:
    """Where a reader looks first: the line between both images, and the structures that match least. Abnormal tissue of
    two people does not match."""
    line = "drag the line in the first pictures: edges should continue across it"
    abnormal = {structure.name for structure in WITH_ABNORMAL.classes if structure.id in ABNORMAL}
    worst = sorted((value, name) for name, value in dice.items() if isfinite(value) and name not in abnormal)[:2]
    if not worst:
        return f"{line[0].upper()}{line[1:]}."
    named = " and ".join(f"{words(name).lower()} (Dice {value:.2f})" for value, name in worst)
    return f"The structures that match least are {named}; {line}."


def _dice(pair: RegisteredPair) -> dict[str, float]:
    """Dice by structure's name: from the verdict's signs, or measured where the record has none."""
    signs = pair.record.quality.signs if pair.record.quality is not None else None
    dice = signs.dice if isinstance(signs, PairSigns) else structure_dice(pair)
    return {name: nan if value is None else value for name, value in dice.items()}


def commands(record: RunRecord) -> list[dict[str, str]]:
    """Commands that apply the transform, with the names of these files."""
    names = {name: shlex.quote(text) for name, text in image_names(record).items()}
    ants, forward = "antsApplyTransforms -d 3", f"-r {names['fixed']} -t transform.h5"
    image = f"-i {names['moving']} {forward} -o moved.nii.gz"
    labels = f"-n GenericLabel -i moving_dseg.nii.gz {forward} -o moved_dseg.nii.gz"
    back = f"-i {names['fixed']} -r {names['moving']} -t inverse_transform.h5 -o back.nii.gz"
    own = f"uresnet apply transform.h5 {names['moving']} --like {names['fixed']} -o moved.nii.gz"
    return [
        {"what": "uresnet: any image in the moving image's space", "text": own},
        {"what": "ANTs: the moving image onto the fixed one", "text": f"{ants} {image}"},
        {"what": "ANTs: a label map, without mixing labels", "text": f"{ants} {labels}"},
        {"what": "ANTs: the fixed image back onto the moving one", "text": f"{ants} {back}"},
    ]
