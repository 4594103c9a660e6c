"""A result in a notebook: its pictures and verdict as HTML, a montage of slices, and the viewer in the cell."""

from __future__ import annotations

import io
import tempfile
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError
from uresnet.io import nifti_bytes, write_labels
from uresnet.report.contours import SUBPIXELS, structure_paths
from uresnet.report.pictures import data_uri, grey
from uresnet.report.slices import PLANES, View, cut, cut_labels, grey_window, place_of, plane_grid, view_of
from uresnet.report.structures import present
from uresnet.report.viewer import label_colours
from uresnet.results.record import Level
from uresnet.results.record_text import image_name, image_names
from uresnet.results.registration import RegisteredPair
from uresnet.results.segmentation import SegmentedImage

_COLOURS = {Level.good: "#1a7f37", Level.look: "#9a6700", Level.failed: "#cf222e"}


_JACOBIAN = {"colormap": "blue2red", "opacity": 0.0, "cal_min": 0.5, "cal_max": 1.5, "colorbar_visible": True}


@dataclass(frozen=True)
class _Row:
    """A row of pictures: an image, and the structures that are outlined in it."""

    title: str
    image: Image
    labels: LabelMap | None


def result_html(result: RegisteredPair | SegmentedImage) -> str:
    """The result as a notebook shows it: what it is, its verdict with the reasons, and a slice of every plane. Holds
    its pictures, loads nothing, and escapes all text from outside."""
    level = result.verdict
    colour = _COLOURS[level] if level is not None else "#57606a"
    headline = "automatic checks passed" if level is Level.good else "; ".join(result.reasons) or "not judged"
    rows, view = _rows(result), _view(result)
    pictures = "".join(
        f'<div style="margin-top:6px"><div>{escape(row.title)}</div>{_pictures(row, view, result.scheme)}</div>'
        for row in rows
    )
    return (
        f'<div style="font:14px system-ui,sans-serif;max-width:640px"><div><b>{escape(_title(result))}</b></div>'
        f'<div style="border-left:4px solid {colour};padding-left:8px;margin:4px 0"><b style="color:{colour}">'
        f"{escape(str(level or 'no verdict').upper())}</b> {escape(headline)}</div>{pictures}"
        '<div style="color:#57606a">The patient’s right is on the left; the nose is on the left of sagittal slices.'
        "</div></div>"
    )


def result_plot(result: RegisteredPair | SegmentedImage, slices: int = 3) -> Any:
    """A matplotlib figure: a row for each image, and ``slices`` pictures of each plane, with the outlines of the
    structures. Raises :class:`UserError` where matplotlib is missing, and for a number that is not 1 to 12."""
    if isinstance(slices, bool) or not isinstance(slices, int) or not 1 <= slices <= 12:
        raise UserError(f"plot: slices is {slices!r:.50}; give a number from 1 to 12.")
    rows, view = _rows(result), _view(result)
    size = (2.2 * slices, 2.3 * len(PLANES) * len(rows))
    figure = _montage()(figsize=size, layout="constrained", facecolor="black")
    axes = figure.subplots(len(rows) * len(PLANES), slices, squeeze=False)
    for ax in axes.ravel():
        ax.set_axis_off()
    for n, row in enumerate(rows):
        black, white = grey_window(row.image)
        for p, plane in enumerate(PLANES):
            grid = plane_grid(plane, view, slices)
            labels = None if row.labels is None else cut_labels(row.labels, grid)
            for s, picture in enumerate(cut(row.image, grid)):
                ax = axes[n * len(PLANES) + p][s]
                ax.imshow(picture, cmap="gray", vmin=black, vmax=white, interpolation="bilinear")
                if labels is not None and result.scheme is not None:
                    _outline(ax, labels[s], result.scheme)
                title = f"{row.title}; the patient’s right is on the left\n" if s == p == 0 else ""
                ax.set_title(title + place_of(plane, grid, s), fontsize=7, color="white", loc="left", pad=2)
    return figure


def result_view(result: RegisteredPair | SegmentedImage, height: int = 420) -> Any:
    """The NiiVue viewer as a widget for a notebook's cell: the images, and the structures over them. Raises
    :class:`UserError` where ipyniivue is missing."""
    try:
        from ipyniivue import NiiVue, SliceType
    except ImportError:
        raise UserError("view needs ipyniivue; install it with: pip install 'uresnet[view]'.") from None
    widget: Any = NiiVue(
        height=height,
        slice_type=SliceType.MULTIPLANAR,
        is_radiological_convention=True,
        sagittal_nose_left=True,
        is_colorbar=True,
    )
    widget.load_volumes(_volumes(result))
    return widget


# -- what is shown -----------------------------------------------------------------------------------------------------


def _montage() -> Any:
    """matplotlib's Figure, which a notebook shows whether or not pyplot is loaded."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("plot needs matplotlib; install it with: pip install 'uresnet[figures]'.") from None

    class Montage(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png", dpi="figure", facecolor=self.get_facecolor())
            return file.getvalue()

    return Montage


def _title(result: RegisteredPair | SegmentedImage) -> str:
    if isinstance(result, SegmentedImage):
        return f"{image_name(result.record)}, segmented by {result.record.model.names}"
    names = image_names(result.record)
    return f"{names['moving']} → {names['fixed']}, registered by {result.record.model.names}"


def _rows(result: RegisteredPair | SegmentedImage) -> list[_Row]:
    if isinstance(result, SegmentedImage):
        return [_Row("Image with its structures", result.background, result.labels)]
    warped = _Row("Warped image with the fixed image’s structures", result.warped, result.fixed_segmentation)
    if result.fixed is None:
        return [warped]
    return [_Row("Fixed image with its structures", result.fixed, result.fixed_segmentation), warped]


def _view(result: RegisteredPair | SegmentedImage) -> View:
    return view_of(result.background)


def _pictures(row: _Row, view: View, scheme: LabelScheme | None) -> str:
    window, cells = grey_window(row.image), []
    for plane in PLANES:
        grid = plane_grid(plane, view, slices=1)
        width, high = grid.shape[:2]
        uri = data_uri(grey(cut(row.image, grid)[0], window))
        drawn = ""
        if row.labels is not None and scheme is not None:
            paths = structure_paths(cut_labels(row.labels, grid)[0], scheme)
            drawn = "".join(
                f'<path d="{paths[s.id]}" fill="none" stroke="{s.hex_colour}" stroke-width="{SUBPIXELS}"/>'
                for s in present(scheme, row.labels)
                if s.id in paths
            )
        cells.append(
            f'<div style="position:relative;flex:{width};background:#000"><img alt="{plane.name} slice" src="{uri}" '
            f'style="display:block;width:100%"><svg viewBox="0 0 {width * SUBPIXELS} {high * SUBPIXELS}" '
            f'style="position:absolute;inset:0;width:100%;height:100%">{drawn}</svg></div>'
        )
    return f'<div style="display:flex;gap:2px;align-items:end">{"".join(cells)}</div>'


def _outline(ax: Any, picture: Any, scheme: LabelScheme) -> None:
    for structure in scheme.classes:
        mask = picture == structure.id
        if mask.any() and not mask.all():
            ax.contour(mask.astype(float), levels=[0.5], colors=[structure.hex_colour], linewidths=0.6)


def _volumes(result: RegisteredPair | SegmentedImage) -> list[dict[str, Any]]:
    """What NiiVue is given: content and how it is shown; the first lies below all others."""
    shown: list[tuple[str, Image | LabelMap | None, dict[str, Any]]]
    if isinstance(result, SegmentedImage):
        shown = [("image", result.background, {}), ("image_dseg", result.labels, {"opacity": 0.45})]
    else:
        shown = [
            ("fixed", result.fixed, {}),
            ("warped", result.warped, {"opacity": 0.0 if result.fixed is not None else 1.0}),
            ("warped_dseg", result.warped_segmentation, {"opacity": 0.45}),
            ("jacobian", result.jacobian, _JACOBIAN),
        ]
    labels = {"colormap_label": _label_table()}
    return [
        {"name": f"{name}.nii.gz", "data": _content(image, result.scheme), "colorbar_visible": False}
        | (labels if isinstance(image, LabelMap) else {})
        | how
        for name, image, how in shown
        if image is not None
    ]


def _label_table() -> Any:
    """The colours and names of the structures as ipyniivue holds them."""
    from ipyniivue.traits import LUT

    return LUT(**label_colours())


def _content(image: Image | LabelMap, scheme: LabelScheme | None) -> bytes:
    if isinstance(image, Image):
        return nifti_bytes(image)
    with tempfile.TemporaryDirectory(prefix="uresnet-") as folder:
        path = Path(folder) / "labels.nii.gz"
        write_labels(image, path, scheme)
        return path.read_bytes()
