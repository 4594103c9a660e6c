"""Figures have the width that was asked for, hold what they should, and their colours are told apart by everyone."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from report_results import SIDED, made_up_results, write_folder
from uresnet.core.labels import SCHEMES
from uresnet.errors import UserError
from uresnet.results.registration import RegisteredPair

pytest.importorskip("matplotlib", reason="figures are an extra")

from uresnet.report.figures import (
    MORE,
    OKABE_ITO,
    figure_2,
    figure_3,
    save_figure,
    structure_colours,
    write_figures,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(made_up_results(), tmp_path_factory.mktemp("figure") / "out")


def test_files_have_the_width_on_paper(folder: Path, tmp_path: Path) -> None:
    written = write_figures(folder, tmp_path, ["png", " PDF"], 85.0, (None, None))
    assert [path.name for path in written] == ["figure2.png", "figure2.pdf", "figure3.png", "figure3.pdf"]
    for path in written[::2]:
        content = path.read_bytes()
        wide, _ = struct.unpack(">II", content[16:24])  # IHDR
        assert wide == pytest.approx(85 / 25.4 * 300, abs=1)
    for path in written[1::2]:
        box = path.read_bytes().split(b"/MediaBox [")[1].split(b"]")[0].split()
        assert float(box[2]) == pytest.approx(85 / 25.4 * 72, abs=0.5)  # points
    assert not list(tmp_path.glob(".*"))


def test_text_of_a_drawing_stays_text_and_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    results = made_up_results()
    for name in ("a.svg", "b.svg"):
        save_figure(figure_3(results, 174.0), tmp_path / name)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert ">Warped on fixed</text>" in text
    assert ">Lateral Ventricle</text>" in text
    assert text == (tmp_path / "b.svg").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def of_many_structures() -> RegisteredPair:
    return made_up_results(scheme=SIDED)


@pytest.mark.parametrize("width", [85.0, 174.0])
def test_no_text_is_cut_off_or_lies_on_another(width: float, of_many_structures: RegisteredPair) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    for figure in (figure_2(of_many_structures, width), figure_3(of_many_structures, width)):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        shown = [ax.title for ax in figure.axes]
        shown += [text for ax in figure.axes if ax.axison for text in ax.get_xticklabels()]
        shown += [text for legend in figure.legends for text in legend.get_texts()]
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in shown if text.get_text()]
        page = figure.bbox
        for box in boxes:
            assert box.x0 >= page.x0 - 1
            assert box.x1 <= page.x1 + 1
            assert box.y0 >= page.y0 - 1
        overlap = [1 for a, b in combinations(boxes, 2) if a.shrunk(0.98, 0.9).overlaps(b.shrunk(0.98, 0.9))]
        assert not overlap
        pictures = min(ax.get_window_extent().y0 for ax in figure.axes)
        assert all(legend.get_window_extent().y1 <= pictures + 1 for legend in figure.legends)


def test_folds_are_marked() -> None:
    results = made_up_results()
    folded = results.jacobian.data.clone()
    folded[20:24, 18:22, 13:17] = -0.5
    drawn = figure_2(replace(results, jacobian=replace(results.jacobian, data=folded)), 174.0)
    marks = [image.get_array() for ax in drawn.axes for image in ax.images if np.ndim(image.get_array()) == 3]
    assert len(marks) == 3
    assert all((mark[..., 3] > 0).any() for mark in marks)


def test_sides_share_a_colour_and_structures_do_not() -> None:
    colours = structure_colours(SIDED)
    assert len(colours) == 16
    assert len({colour for _, colour in colours}) == 16
    assert {one.id for group, _ in colours for one in group.members} == set(SIDED.ids)
    assert [colour for _, colour in structure_colours(SCHEMES["tissue3"])] == list(OKABE_ITO[:3])


def lab(colours: np.ndarray) -> np.ndarray:
    """Linear RGB (N, 3) to CIELAB, D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    share = np.clip(colours, 0, 1) @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(share > 0.008856, np.cbrt(share), 7.787 * share + 16 / 116)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


# What the red-, the green- and the blue-blind eye sees, linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all": np.eye(3),
    "red": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "green": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]),
    "blue": np.array([[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]]),
}


@pytest.mark.parametrize("eye", EYES)
def test_further_colours_are_as_far_apart_as_those_of_okabe_and_ito(eye: str) -> None:
    def smallest(names: tuple[str, ...]) -> float:
        values = np.array([[int(name[i : i + 2], 16) for i in (1, 3, 5)] for name in names]) / 255
        linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        seen = lab(linear @ EYES[eye].T)
        return min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2))

    assert smallest((*OKABE_ITO, *MORE)) >= smallest(OKABE_ITO) - 1e-9


def test_what_cannot_be_drawn_is_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no format tiff"):
        write_figures(folder, tmp_path / "none", ["tiff"], 85.0, (None, None))
    with pytest.raises(UserError, match="not for paper"):
        write_figures(folder, tmp_path, ["png"], 5.0, (None, None))
    bare = replace(made_up_results(), warped_segmentation=None, fixed_segmentation=None, scheme=None)
    with pytest.raises(UserError, match="only registers"):
        figure_3(bare)
    assert not (tmp_path / "none").exists()


def test_figures_come_together_and_replace_nothing_unasked(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    from uresnet.report import figures

    (tmp_path / "figure3.svg").write_text("mine")
    with pytest.raises(UserError, match=r"figure3\.svg exists already"):
        write_figures(folder, tmp_path, ["png", "svg"], 85.0, (None, None))
    assert [path.name for path in tmp_path.iterdir()] == ["figure3.svg"]

    def broken(*_: object) -> None:
        raise UserError("There is nothing to draw.")

    monkeypatch.setitem(figures.FIGURES, "figure2", lambda *_: Figure(figsize=(1, 1)))
    with monkeypatch.context() as patch, pytest.raises(UserError, match="nothing to draw"):
        patch.setitem(figures.FIGURES, "figure3", broken)
        write_figures(folder, tmp_path, ["svg"], 85.0, (None, None), overwrite=True)
    assert (tmp_path / "figure3.svg").read_text(encoding="utf-8") == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["figure3.svg"]
    monkeypatch.setitem(figures.FIGURES, "figure3", lambda *_: Figure(figsize=(1, 1)))
    write_figures(folder, tmp_path, ["svg"], 85.0, (None, None), overwrite=True)
    assert (tmp_path / "figure3.svg").read_bytes() != b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure2.svg", "figure3.svg"]
