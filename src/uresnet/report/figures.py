"""Figures for a paper: what the transform does (Figure 2) and where the structures land (Figure 3). Needs matplotlib.

Colours are told apart by the colour-blind: red–blue and viridis for maps; for structures Okabe and Ito's palette, and
where there are more, further colours chosen so that no two of all come nearer to each other than two of Okabe and Ito's
do. Both sides of a structure have one colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.core.files import written_whole
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError
from uresnet.report.deformation import GRID_MM, WarpSlice, placement, warp_slices
from uresnet.report.pictures import DIVERGING, FOLD, SEQUENTIAL, Colours, nice_limit
from uresnet.report.slices import PLANES, Plane, View, cut, cut_labels, foreground_box, grey_window, plane_grid, view_of
from uresnet.report.structures import Group, groups, present
from uresnet.results.registration import RegisteredPair, read_registered_pair

OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
MORE = ("#9900FF", "#DDFFFF", "#553355", "#773300", "#00FF99", "#003399", "#FF0055", "#7755DD", "#99FF77", "#990033")
"""Each the farthest from all before it (smallest distance in CIELAB as the normal, the red-, the green- and the
blue-blind eye sees it; Machado et al. 2009)."""

Shown = list[tuple[Group, str]]
"""Structures, sides together, with their colours."""

LEGEND_MM = 32.0
"""Room for the longest name of a structure in the legend."""

SUFFIXES = (".png", ".svg", ".pdf")
MM_PER_INCH = 25.4


def figure_2(results: RegisteredPair, width_mm: float = 174.0) -> Any:
    """The paper's Figure 2: warped image, deformed grid, displacement per axis and its length, log Jacobian; a row per
    plane. Returns a matplotlib figure ``width_mm`` wide."""
    view = view_of(results.background)
    slices = warp_slices(results, view, placement(results.transform, view))
    warped = [cut(results.warped_moving, plane_grid(plane, view, slices=1))[0] for plane in PLANES]
    limits = _limits(slices)
    titles = ("Warped", "Deformed grid", "Left–right", "Back–front", "Foot–head", "Distance", "log Jacobian")
    figure, axes = _canvas([one.inside.shape for one in slices], len(titles), width_mm, foot=0.3, bars=True)
    for row, one in enumerate(slices):
        white = grey_window(results.warped_moving)
        axes[row][0].imshow(warped[row], cmap="gray", vmin=white[0], vmax=white[1], interpolation="bilinear")
        _draw_grid(axes[row][1], one)
        drawn = [_draw_map(axes[row][2 + n], one.displacement[n], one, limits["along"], DIVERGING) for n in range(3)]
        length = np.linalg.norm(one.displacement, axis=0)
        drawn.append(_draw_map(axes[row][5], length, one, (0, limits["far"]), SEQUENTIAL))
        growth = np.nan_to_num(one.log_jacobian)
        drawn.append(_draw_map(axes[row][6], growth, one, limits["growth"], DIVERGING))
        _mark_folds(axes[row][6], one)
    for column, title in enumerate(titles):
        axes[0][column].set_title(title, fontsize=min(7.0, width_mm / 174 * 7.5), pad=3)
    for column, mappable in zip((4, 5, 6), drawn[2:], strict=True):
        bar = figure.colorbar(mappable, cax=axes[-1][column], orientation="horizontal")
        low, high = mappable.get_clim()
        bar.set_ticks([low, high], labels=[f"{low:g}", f"{high:g}"])
        for text, side in zip(bar.ax.get_xticklabels(), ("left", "right"), strict=True):
            text.set_horizontalalignment(side)  # so that neighbouring scales do not run into each other
        bar.ax.tick_params(labelsize=min(6.0, width_mm / 174 * 7.5), length=2, pad=1)
        bar.set_label("mm" if column < 6 else "log ratio", fontsize=min(6.0, width_mm / 174 * 7.5), labelpad=1)
    return figure


def figure_3(results: RegisteredPair, width_mm: float = 174.0) -> Any:
    """The paper's Figure 3: the moving and the fixed image with their own structures, and the fixed image with the
    warped ones; a row per plane. Raises :class:`UserError` for a result without segmentation."""
    scheme = results.scheme
    if scheme is None or results.warped_segmentation is None or results.fixed_segmentation is None:
        raise UserError("There is no segmentation to draw: the model of this result only registers.")
    view = view_of(results.background, *([results.moving] if results.moving is not None else []))
    columns: list[tuple[str, Image, LabelMap, View]] = []
    if results.moving is not None and results.moving_segmentation is not None:
        low, high = foreground_box(results.moving)
        columns.append(("Moving", results.moving, results.moving_segmentation, view.moved_to((low + high) / 2)))
    columns.append(("Fixed", results.background, results.fixed_segmentation, view))
    columns.append(("Warped on fixed", results.background, results.warped_segmentation, view))
    shown = _shown_groups(scheme, [labels for _, _, labels, _ in columns])
    shapes = [(g.shape[1], g.shape[0]) for g in (plane_grid(plane, view, slices=1) for plane in PLANES)]
    across = max(1, int(width_mm / LEGEND_MM))
    legend_rows = -(-len(shown) // across)
    figure, axes = _canvas(shapes, len(columns), width_mm, foot=0.08 + 0.13 * legend_rows)
    for column, (title, image, labels, where) in enumerate(columns):
        axes[0][column].set_title(title, fontsize=8, pad=3)
        for row, plane in enumerate(PLANES):
            _draw_structures(axes[row][column], image, labels, shown, (plane, where))
    _legend(figure, shown, across)
    return figure


FIGURES: dict[str, Callable[[RegisteredPair, float], Any]] = {"figure2": figure_2, "figure3": figure_3}


def save_figure(figure: Any, path: Path, dots_per_inch: int = 300) -> None:
    """Write a figure as PNG, SVG or PDF by its ending, whole or not at all; text stays text."""
    import matplotlib

    # No time stamps: the same results give the same file.
    stamp = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    style = {"svg.fonttype": "none", "svg.hashsalt": "uresnet", "pdf.fonttype": 42}
    with written_whole(path) as beside, matplotlib.rc_context(style):
        figure.savefig(beside, dpi=dots_per_inch, metadata=stamp)


def write_figures(
    folder: Path, output: Path, formats: Sequence[str], width_mm: float, inputs: tuple[Path | None, Path | None]
) -> list[Path]:
    """Draw both figures of an output folder into ``output``, in each of ``formats`` ("png", "svg", "pdf").

    ``inputs`` say where the (moving, fixed) images are now. A result without segmentation has no Figure 3. Returns the
    paths. Raises :class:`UserError` for a format or width that is none, and as ``read_registered_pair`` does.
    """
    suffixes = [f".{one.strip().lower()}" for one in formats]
    unknown = [one for one in suffixes if one not in SUFFIXES]
    if unknown:
        raise UserError(f"There is no format {unknown[0].removeprefix('.')}; choose png, svg or pdf.")
    results = read_registered_pair(folder, *inputs)
    output.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in FIGURES.items():
        if draw is figure_3 and results.warped_segmentation is None:
            continue
        for suffix in suffixes:
            # Drawn anew: matplotlib's other backends stumble over a figure that one of them has laid out before.
            save_figure(draw(results, width_mm), output / f"{name}{suffix}")
            written.append(output / f"{name}{suffix}")
    return written


# -- pieces ----------------------------------------------------------------------------------------------------------


def _canvas(
    shapes: Sequence[tuple[int, ...]], columns: int, width_mm: float, foot: float, bars: bool = False
) -> tuple[Any, Any]:
    """A figure with a row of axes per plane, rows as high as their pictures need, and ``foot`` inches below them; with
    ``bars`` a row for scales."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError("Figures need matplotlib; install it with: pip install 'uresnet[figures]'") from None
    if not 20 <= width_mm <= 1000:
        raise UserError(f"A figure {width_mm:g} mm wide is not for paper; choose 20 to 1000.")
    widest = max(shape[1] for shape in shapes)
    ratios = [shape[0] / widest for shape in shapes]
    cell = width_mm / MM_PER_INCH / columns
    extra = [0.05] if bars else []
    head = 0.2
    height = cell * (sum(ratios) + 0.03 * len(ratios) + sum(extra)) + head + foot
    figure = Figure(figsize=(width_mm / MM_PER_INCH, height))
    axes = figure.subplots(len(ratios) + len(extra), columns, squeeze=False, height_ratios=[*ratios, *extra])
    figure.subplots_adjust(0.005, foot / height, 0.995, 1 - head / height, wspace=0.03, hspace=0.03)
    for ax in axes.ravel():
        ax.set_axis_off()
        ax.set_facecolor("black")
    if bars:
        for column in (4, 5, 6):
            axes[-1][column].set_axis_on()
    return figure, axes


def _limits(slices: list[WarpSlice]) -> dict[str, Any]:
    along = nice_limit(np.concatenate([one.displacement[:, one.inside].ravel() for one in slices]), 1.0)
    far = np.concatenate([np.linalg.norm(one.displacement, axis=0)[one.inside] for one in slices])
    growth = nice_limit(np.concatenate([one.log_jacobian[one.inside & ~one.folded] for one in slices]), 0.2)
    return {"along": (-along, along), "far": nice_limit(far, 1.0), "growth": (-growth, growth)}


def _draw_map(ax: Any, values: np.ndarray, one: WarpSlice, limits: tuple[float, float], colours: Colours) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("scale", [tuple(c / 255 for c in colour) for colour in colours])
    shown = np.ma.masked_where(~one.inside, values)
    return ax.imshow(shown, cmap=scale, vmin=limits[0], vmax=limits[1], interpolation="nearest")


def _draw_grid(ax: Any, one: WarpSlice) -> None:
    lit = one.anatomy[one.inside]
    ax.imshow(one.anatomy, cmap="gray", vmin=0, vmax=1.4 * float(np.percentile(lit, 99)) if len(lit) else 1)
    for axis in sorted({0, 1, 2} - {one.plane.through}):
        values = one.position[axis]
        levels = np.arange(np.ceil(values.min() / GRID_MM) * GRID_MM, values.max(), GRID_MM)
        if len(levels):
            ax.contour(values, levels=levels, colors="#ffd600", linewidths=0.35, linestyles="solid")


def _mark_folds(ax: Any, one: WarpSlice) -> None:
    marked = np.zeros((*one.folded.shape, 4))
    marked[one.folded] = [*(c / 255 for c in FOLD), 1.0]
    ax.imshow(marked, interpolation="nearest")


def _draw_structures(ax: Any, image: Image, labels: LabelMap, shown: Shown, where: tuple[Plane, View]) -> None:
    grid = plane_grid(*where, slices=1)
    window = grey_window(image)
    ax.imshow(cut(image, grid)[0], cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    picture = cut_labels(labels, grid)[0]
    for group, colour in shown:
        mask = np.isin(picture, [one.id for one in group.members]).astype(float)
        if mask.any():
            ax.contourf(mask, levels=[0.5, 2], colors=[colour], alpha=0.45)
            ax.contour(mask, levels=[0.5], colors=[colour], linewidths=0.6)


def structure_colours(scheme: LabelScheme) -> list[tuple[Group, str]]:
    """A colour for every structure without its side: from the palette, and from the label table beyond it."""
    found = groups(scheme.classes)
    rest = [group.members[0].hex_colour for group in found[len(OKABE_ITO) + len(MORE) :]]
    return list(zip(found, [*OKABE_ITO, *MORE, *rest], strict=False))


def _shown_groups(scheme: LabelScheme, maps: Sequence[LabelMap]) -> Shown:
    shown = present(scheme, *maps)
    return [(group, colour) for group, colour in structure_colours(scheme) if any(o in shown for o in group.members)]


def _legend(figure: Any, shown: Shown, across: int) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=group.name) for group, colour in shown]
    columns = min(across, max(1, len(patches)))
    figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=6, frameon=False, borderpad=0.1)
