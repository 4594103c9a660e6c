"""The page beside a registration: one self-contained file that opens from disk, in a mail, on a phone and on paper."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from math import nan
from pathlib import PurePath
from typing import Any

import numpy as np

from uresnet import __version__
from uresnet.core.labels import LabelClass
from uresnet.quality.signs import structure_dice
from uresnet.quality.verdict import judge_record
from uresnet.report.contours import SUBPIXELS, area_path, level_paths
from uresnet.report.deformation import GRID_MM, WarpSlice, placement, warp_slices
from uresnet.report.html import render
from uresnet.report.pages.slice_panels import one_scale, shown_planes
from uresnet.report.pictures import DIVERGING, SEQUENTIAL, ColourScale, data_uri, grey, nice_limit
from uresnet.report.slices import foreground_box, view_of
from uresnet.report.structures import groups, present, table_rows
from uresnet.results.registration import Results

PAGE = "report.html"
"""What the page is called in an output folder."""

WAYS = (("to the right", "left–right"), ("to the front", "back–front"), ("upwards", "foot–head"))


def registration_page(results: Results, title: str = "") -> str:
    """The page of one registration, as HTML.

    ``title`` stands in the heading; by default the two images' file names.
    """
    view = view_of(results.background, *([results.moving] if results.moving is not None else []))
    images = {"warped": (results.warped, view)}
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
        verdict=judge_record(results.record.get("quality", {})),
        record=results.record,
        warnings=plain_warnings(results.record),
        planes=planes,
        subpixels=SUBPIXELS,
        structures=structures,
        groups=groups(structures),
        has_fixed=results.fixed is not None,
        warp=_warp_panels(warp_slices(results, view, overall)),
        overall=overall,
        rows=table_rows(results.scheme, results.volumes, _dice(results)),
        sided=results.scheme is not None and results.scheme.sided,
        commands=commands(results.record),
        version=__version__,
    )


def image_names(record: dict[str, Any]) -> dict[str, str]:
    """File names of the two images, without the folders that they are nobody's business to know."""
    inputs = record.get("inputs", {})
    return {name: file_name(inputs.get(name, {}).get("path")) or f"{name} image" for name in ("moving", "fixed")}


def plain_warnings(record: dict[str, Any]) -> list[str]:
    """The run's warnings, with file names in place of paths."""
    sentences = [str(one) for one in record.get("warnings", [])]
    for one in record.get("inputs", {}).values():
        path = str(one.get("path") or "")
        if path:
            sentences = [sentence.replace(path, file_name(path)) for sentence in sentences]
    return sentences


def _structures(results: Results) -> list[LabelClass]:
    """Those that either segmentation holds."""
    if results.scheme is None or results.warped_segmentation is None:
        return []
    maps = [one for one in (results.warped_segmentation, results.fixed_segmentation) if one is not None]
    return present(results.scheme, *maps)


def _dice(results: Results) -> dict[str, float]:
    """By structure's name: as the verdict's signs have it, or measured where the record keeps none."""
    said = results.record.get("quality", {}).get("signs", {}).get("dice")
    if not said:
        return structure_dice(results)
    return {name: nan if value is None else float(value) for name, value in said.items()}


# -- the deformation -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """A row of pictures of one quantity, a picture per plane, with its scale."""

    title: str
    text: str
    pictures: list[dict[str, Any]]
    scale: dict[str, str] | None


def _warp_panels(slices: list[WarpSlice]) -> list[Panel]:
    grids = [_picture(one, data_uri(_dimmed(one)), "deformed grid") | {"grid": _grid_lines(one)} for one in slices]
    logs = np.concatenate([one.log_jacobian[one.inside & ~one.folded] for one in slices])
    growth = ColourScale(-nice_limit(logs, 0.2), nice_limit(logs, 0.2), DIVERGING)
    panels = [
        Panel(
            "Deformed grid",
            f"A grid of {GRID_MM:g} mm squares on the moving brain, as it lands on the fixed one.",
            grids,
            None,
        ),
        Panel(
            "Growth and shrinkage (log Jacobian)",
            "Red: this tissue is larger in the moving brain; blue: smaller. Yellow: folded, which no tissue does.",
            [
                _picture(one, _growth(one, growth), f"log Jacobian, {_folds(one)}") | {"folds": area_path(one.folded)}
                for one in slices
            ],
            _scale(growth, f"{np.exp(growth.low):.2g} × the volume", f"{np.exp(growth.high):.2g} ×"),
        ),
    ]
    return [*panels, *_displacements(slices)]


def _displacements(slices: list[WarpSlice]) -> list[Panel]:
    lengths = [np.linalg.norm(one.displacement, axis=0) for one in slices]
    inside = np.concatenate([length[one.inside] for length, one in zip(lengths, slices, strict=True)])
    along = np.concatenate([one.displacement[:, one.inside].ravel() for one in slices])
    far, both = ColourScale(0, nice_limit(inside, 1.0), SEQUENTIAL), nice_limit(along, 1.0)
    signed = ColourScale(-both, both, DIVERGING)
    panels = [
        Panel(
            "Distance moved",
            "How far tissue travels, whichever way, after the best rigid alignment.",
            [
                _picture(one, _coloured(length, one.inside, far), "distance moved")
                for length, one in zip(lengths, slices, strict=True)
            ],
            _scale(far, "0 mm", f"{far.high:g} mm"),
        )
    ]
    for axis, (towards, name) in enumerate(WAYS):
        pictures = [
            _picture(one, _coloured(one.displacement[axis], one.inside, signed), f"displacement {name}")
            for one in slices
        ]
        text = f"Red: the matching tissue of the moving brain lies further {towards}; blue: the opposite way."
        panels.append(Panel(f"Displacement {name}", text, pictures, _scale(signed, f"−{both:g} mm", f"+{both:g} mm")))
    return panels


def _picture(one: WarpSlice, uri: str, what: str) -> dict[str, Any]:
    rows, columns = one.inside.shape
    alt = f"{what}, {one.plane.name} slice"
    return {"uri": uri, "width": columns, "height": rows, "alt": alt, "grid": "", "folds": ""}


def _folds(one: WarpSlice) -> str:
    return "tissue folds where it is marked" if one.folded.any() else "no folds"


def _dimmed(one: WarpSlice) -> np.ndarray:
    lit = one.anatomy[one.inside]
    white = float(np.percentile(lit, 99.5)) if len(lit) else 1.0
    return (grey(one.anatomy, (0.0, white + 1e-6)) * 0.7).astype(np.uint8)


def _grid_lines(one: WarpSlice) -> str:
    """Where the coordinates along the picture's two sides pass multiples of the grid's spacing."""
    paths = []
    for axis in {0, 1, 2} - {one.plane.through}:
        values = one.position[axis]
        first = np.ceil(values.min() / GRID_MM) * GRID_MM
        paths.append(level_paths(values, np.arange(first, values.max(), GRID_MM)))
    return "".join(paths)


def _growth(one: WarpSlice, scale: ColourScale) -> str:
    # Folds are drawn over the picture, because its compression washes single pixels out.
    return data_uri(_painted(np.nan_to_num(one.log_jacobian), one.inside, scale), quality=90)


def _coloured(values: np.ndarray, inside: np.ndarray, scale: ColourScale) -> str:
    return data_uri(_painted(values, inside, scale), quality=90)


def _painted(values: np.ndarray, inside: np.ndarray, scale: ColourScale) -> np.ndarray:
    return np.where(inside[..., None], scale.paint(values), np.uint8(0)).astype(np.uint8)


def _scale(scale: ColourScale, low: str, high: str) -> dict[str, str]:
    bar = np.repeat(scale.paint(np.linspace(scale.low, scale.high, 200))[None], 8, axis=0)
    return {"uri": data_uri(bar, quality=95), "low": low, "high": high}


# -- how to go on ----------------------------------------------------------------------------------------------------


def commands(record: dict[str, Any]) -> list[dict[str, str]]:
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


def file_name(path: object) -> str:
    """The last part of a path; empty for none."""
    return PurePath(str(path)).name if path else ""
