"""Figures for a paper: what the transform does (Figure 2) and the warped structures (Figure 3). Needs matplotlib.

Colours are safe for the colour-blind: red–blue and viridis for maps; for structures Okabe and Ito's palette, and where
there are more, further colours no two of which are closer to each other than the closest two of Okabe and Ito's. Both
sides of a structure have one colour.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.core.files import check_output_files, check_output_folder, fresh_outputs, written_whole
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelScheme
from uresnet.errors import UserError, quoted
from uresnet.report.deformation import WarpSlice, map_limits, placement, warp_slices
from uresnet.report.pictures import DIVERGING, FOLD, SEQUENTIAL, Colours
from uresnet.report.slices import PLANES, Plane, View, cut, cut_labels, grey_window, plane_grid, view_of
from uresnet.report.structures import Group, groups, present
from uresnet.results.registration import RegisteredPair, read_registered_pair

OKABE_ITO = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#999999")
MORE = ("#9900FF", "#DDFFFF", "#553355", "#773300", "#00FF99", "#003399", "#FF0055", "#7755DD", "#99FF77", "#990033")
"""Each the farthest from all before it (smallest distance in CIELAB as the normal, the red-, the green- and the
blue-blind eye sees it; Machado et al. 2009)."""

ColouredGroups = list[tuple[Group, str]]
"""Structures, sides together, with their colours."""

LEGEND_MM = 32.0
"""Room for the longest name of a structure in the legend."""

SUFFIXES = (".png", ".svg", ".pdf")
MM_PER_INCH = 25.4


def figure_2(pair: RegisteredPair, width_mm: float = 174.0) -> Any:
    """The paper's Figure 2: warped image, deformed grid, displacement per axis and its length, log Jacobian; a row per
    plane. Returns a matplotlib figure ``width_mm`` wide."""
    view = view_of(pair.background)
    slices = warp_slices(pair, view, placement(pair.transform, view))
    warped = [cut(pair.warped, plane_grid(plane, view, slices=1))[0] for plane in PLANES]
    limits = map_limits(slices)
    signed, growth = (-limits.displacement, limits.displacement), (-limits.log_jacobian, limits.log_jacobian)
    titles = ("Warped", "Deformed grid", "Left–right", "Back–front", "Foot–head", "Distance", "log Jacobian")
    figure, axes = _canvas(
        [warp_slice.inside.shape for warp_slice in slices], len(titles), width_mm, foot=0.3, bars=True
    )
    black, white = grey_window(pair.warped)
    for row, shown in enumerate(slices):
        axes[row][0].imshow(warped[row], cmap="gray", vmin=black, vmax=white, interpolation="bilinear")
        _draw_grid(axes[row][1], shown)
        drawn = [_draw_map(axes[row][2 + n], shown.displacement[n], shown, signed, DIVERGING) for n in range(3)]
        drawn.append(_draw_map(axes[row][5], shown.distance, shown, (0, limits.distance), SEQUENTIAL))
        drawn.append(_draw_map(axes[row][6], np.nan_to_num(shown.log_jacobian), shown, growth, DIVERGING))
        _mark_folds(axes[row][6], shown)
    _mark_sides(axes)
    for column, title in enumerate(titles):
        axes[0][column].set_title(title, fontsize=min(7.0, width_mm / 174 * 7.5), pad=3)
    for column, mappable in zip((4, 5, 6), drawn[2:], strict=True):
        bar = figure.colorbar(mappable, cax=axes[-1][column], orientation="horizontal")
        low, high = mappable.get_clim()
        bar.set_ticks([low, high], labels=[f"{low:g}", f"{high:g}"])
        for text, side in zip(bar.ax.get_xticklabels(), ("left", "right"), strict=True):
            text.set_horizontalalignment(side)  # so that neighbouring scales do not overlap
        box = bar.ax.get_position()  # narrower than its column, so that the ends of two scales do not touch
        bar.ax.set_position((box.x0 + 0.1 * box.width, box.y0, 0.8 * box.width, box.height))
        bar.ax.tick_params(labelsize=min(6.0, width_mm / 174 * 7.5), length=2, pad=1)
        bar.set_label("mm" if column < 6 else "log ratio", fontsize=min(6.0, width_mm / 174 * 7.5), labelpad=1)
    return figure


def figure_3(pair: RegisteredPair, width_mm: float = 174.0) -> Any:
    """The paper's Figure 3: the moving and the fixed image with their own structures, and the fixed image with the
    warped ones; a row per plane. Raises :class:`UserError` for a result without segmentation."""
    scheme = pair.scheme
    if scheme is None or pair.warped_segmentation is None or pair.fixed_segmentation is None:
        raise UserError("There is no segmentation to draw: the model of this result only registers.")
    view = view_of(pair.background, *([pair.moving] if pair.moving is not None else []))
    columns: list[tuple[str, Image, LabelMap, View]] = []
    if pair.moving is not None and pair.moving_segmentation is not None:
        columns.append(("Moving", pair.moving, pair.moving_segmentation, view.centred_on(pair.moving)))
    columns.append(("Fixed", pair.background, pair.fixed_segmentation, view))
    columns.append(("Warped on fixed", pair.background, pair.warped_segmentation, view))
    shown = _shown_groups(scheme, [labels for _, _, labels, _ in columns])
    shapes = [(g.shape[1], g.shape[0]) for g in (plane_grid(plane, view, slices=1) for plane in PLANES)]
    across = max(1, int(width_mm / LEGEND_MM))
    legend_rows = -(-len(shown) // across)
    figure, axes = _canvas(shapes, len(columns), width_mm, foot=0.08 + 0.13 * legend_rows)
    for column, (title, image, labels, where) in enumerate(columns):
        axes[0][column].set_title(title, fontsize=8, pad=3)
        for row, plane in enumerate(PLANES):
            _draw_structures(axes[row][column], image, labels, shown, (plane, where))
    _mark_sides(axes)
    _legend(figure, shown, across)
    return figure


FIGURES: dict[str, Callable[[RegisteredPair, float], Any]] = {"figure2": figure_2, "figure3": figure_3}


def save_figure(figure: Any, path: Path, dots_per_inch: int = 300) -> None:
    """Write a figure as PNG, SVG or PDF by its ending, whole or not at all; text stays text."""
    import matplotlib

    # No time stamps: the same pair give the same file.
    stamp = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix, {})
    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "uresnet", "pdf.fonttype": 42}
    with written_whole(path) as beside, matplotlib.rc_context(style):
        figure.savefig(beside, dpi=dots_per_inch, metadata=stamp)


def write_figures(
    folder: Path,
    output: Path,
    formats: Sequence[str],
    width_mm: float,
    inputs: tuple[Path | None, Path | None],
    overwrite: bool = False,
) -> list[Path]:
    """Draw both figures of an output folder into ``output``, in each of ``formats`` ("png", "svg", "pdf"): all or none.

    ``inputs`` say where the (moving, fixed) images are now. A result without segmentation has no Figure 3. Returns the
    paths. Raises :class:`UserError` for a format or width that is none, for a figure that exists without ``overwrite``,
    and as ``read_registered_pair`` does.
    """
    suffixes = [f".{name.strip().lower()}" for name in formats if name.strip()]
    unknown = [suffix for suffix in suffixes if suffix not in SUFFIXES] if suffixes else ["."]
    if unknown:
        raise UserError(f"There is no format {quoted(unknown[0][1:])}; choose png, svg or pdf.")
    if output.exists():
        check_output_files([output / f"{name}{suffix}" for name in FIGURES for suffix in suffixes], overwrite)
    else:
        check_output_folder(output, overwrite)
    pair = read_registered_pair(folder, *inputs)
    drawn = {
        output / f"{name}{suffix}": draw
        for name, draw in FIGURES.items()
        for suffix in suffixes
        if draw is not figure_3 or pair.warped_segmentation is not None
    }
    with fresh_outputs(list(drawn), overwrite) as places:
        for place, draw in zip(places, drawn.values(), strict=True):
            # Drawn anew for every format: a figure that one backend has laid out, another does not draw correctly.
            save_figure(draw(pair, width_mm), place)
    return list(drawn)


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


def _draw_map(ax: Any, values: np.ndarray, shown: WarpSlice, limits: tuple[float, float], colours: Colours) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    scale = LinearSegmentedColormap.from_list("scale", [tuple(c / 255 for c in colour) for colour in colours])
    return ax.imshow(
        np.where(shown.inside, values, np.nan), cmap=scale, vmin=limits[0], vmax=limits[1], interpolation="nearest"
    )


def _draw_grid(ax: Any, shown: WarpSlice) -> None:
    lit = shown.anatomy[shown.inside]
    ax.imshow(shown.anatomy, cmap="gray", vmin=0, vmax=1.4 * float(np.percentile(lit, 99)) if len(lit) else 1)
    for values, levels in shown.grid_lines():
        if len(levels):
            ax.contour(values, levels=levels, colors="#ffd600", linewidths=0.35, linestyles="solid")


def _mark_folds(ax: Any, shown: WarpSlice) -> None:
    marked = np.zeros((*shown.folded.shape, 4))
    marked[shown.folded] = [*(c / 255 for c in FOLD), 1.0]
    ax.imshow(marked, interpolation="nearest")


def _mark_sides(axes: Any) -> None:
    """The letters of the sides on the first picture of every row, as on the page."""
    for row, plane in enumerate(PLANES):
        for letter, x, side in ((plane.edges[0], 0.03, "left"), (plane.edges[1], 0.97, "right")):
            axes[row][0].text(
                x, 0.5, letter, color="white", fontsize=6, ha=side, va="center", transform=axes[row][0].transAxes
            )


def _draw_structures(ax: Any, image: Image, labels: LabelMap, shown: ColouredGroups, where: tuple[Plane, View]) -> None:
    grid = plane_grid(*where, slices=1)
    window = grey_window(image)
    ax.imshow(cut(image, grid)[0], cmap="gray", vmin=window[0], vmax=window[1], interpolation="bilinear")
    picture = cut_labels(labels, grid)[0]
    for group, colour in shown:
        mask = np.isin(picture, [structure.id for structure in group.members]).astype(float)
        if mask.any():
            ax.contourf(mask, levels=[0.5, 2], colors=[colour], alpha=0.45)
            ax.contour(mask, levels=[0.5], colors=[colour], linewidths=0.6)


def structure_colours(scheme: LabelScheme) -> list[tuple[Group, str]]:
    """A colour for every structure without its side: from the palettes, and from ``core/labels.py`` beyond them."""
    found = groups(scheme.classes)
    rest = [group.members[0].hex_colour for group in found[len(OKABE_ITO) + len(MORE) :]]
    return list(zip(found, [*OKABE_ITO, *MORE, *rest], strict=False))


def _shown_groups(scheme: LabelScheme, maps: Sequence[LabelMap]) -> ColouredGroups:
    found = set(present(scheme, *maps))
    return [(group, colour) for group, colour in structure_colours(scheme) if found & set(group.members)]


def _legend(figure: Any, shown: ColouredGroups, across: int) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label=group.name) for group, colour in shown]
    columns = min(across, max(1, len(patches)))
    figure.legend(handles=patches, loc="lower center", ncols=columns, fontsize=6, frameon=False, borderpad=0.1)
