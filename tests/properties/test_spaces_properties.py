"""What holds for every grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from grids import rotation
from uresnet.core.grid import Grid, axis_order, directions, voxel_to_voxel

CODES = ["RAS", "LAS", "LPS", "LIA", "PSR", "AIL", "SRP", "IPL"]
angle = st.floats(-180, 180)
place = st.floats(-400, 400)
sizes = st.integers(1, 40)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(st.tuples(sizes, sizes, sizes))
    zooms = [draw(st.floats(0.2, 7)) for _ in range(3)]
    straight = Grid.centred(shape, zooms, draw(st.sampled_from(CODES)), [draw(place) for _ in range(3)])
    turn = np.eye(4)
    turn[:3, :3] = rotation((draw(angle), draw(angle), draw(angle)))
    return Grid(shape, turn @ straight.voxel_to_world)


@given(grids(), st.tuples(place, place, place))
def test_there_and_back(grid: Grid, point: tuple[float, float, float]) -> None:
    np.testing.assert_allclose(grid.points_to_voxel(grid.points_to_world(point)), point, atol=1e-7)


@given(grids(), st.sampled_from(CODES))
def test_reorienting_keeps_every_voxel_where_it_is(grid: Grid, codes: str) -> None:
    turned = grid.reoriented(codes)
    # The grid's own codes are only the nearest when it is oblique, so compare through them.
    data = np.random.default_rng(0).random(grid.shape)
    order, sign = axis_order(grid.axis_codes, codes)
    moved = data.transpose(order)[tuple(slice(None, None, s) for s in sign)]
    voxels = np.argwhere(np.ones(turned.shape, bool))[::7]
    back = np.rint(grid.points_to_voxel(turned.points_to_world(voxels))).astype(int)
    np.testing.assert_array_equal(moved[tuple(voxels.T)], data[tuple(back.T)])


@given(grids())
def test_axis_codes_are_the_nearest_directions(grid: Grid) -> None:
    axes = grid.voxel_to_world[:3, :3] / grid.zooms
    agreement = np.sum(axes * directions(grid.axis_codes))
    everything = [np.sum(axes * directions(codes)) for codes in _all_codes()]
    assert agreement >= max(everything) - 1e-9


@given(grids(), grids(), grids())
@settings(max_examples=50)
def test_voxel_maps_chain(a: Grid, b: Grid, c: Grid) -> None:
    direct, chained = voxel_to_voxel(a, c), voxel_to_voxel(b, c) @ voxel_to_voxel(a, b)
    np.testing.assert_allclose(direct, chained, atol=1e-6 * np.abs(chained).max())


@given(grids(), st.integers(1, 5))
def test_rescaling_never_loses_a_corner(grid: Grid, factor: int) -> None:
    coarse = grid.rescaled(factor)
    voxels = coarse.points_to_voxel(grid.corners_world)
    assert (voxels >= -0.5 - 1e-6).all()
    assert (voxels <= np.array(coarse.shape) - 0.5 + 1e-6).all()
    assert coarse.overlaps(grid)


@given(grids(), grids())
@settings(max_examples=50)
def test_overlap_is_mutual_and_boxes_far_apart_have_none(a: Grid, b: Grid) -> None:
    assert a.overlaps(b) == b.overlaps(a)
    reach = sum(np.linalg.norm(g.corners_world - g.centre_world, axis=1).max() for g in (a, b))
    away = b.voxel_to_world.copy()
    away[:3, 3] += a.centre_world - b.centre_world + np.array([reach * 1.01 + 1e-6, 0, 0])
    assert not a.overlaps(Grid(b.shape, away))


def _all_codes() -> list[str]:
    pairs = ["RL", "AP", "SI"]
    return [
        "".join(("RL" if x in "RL" else "AP" if x in "AP" else "SI")[f] for x, f in zip(p, flips, strict=True))
        for p in _orders([p[0] for p in pairs])
        for flips in np.ndindex(2, 2, 2)
    ]


def _orders(items: list[str]) -> list[tuple[str, ...]]:
    if len(items) == 1:
        return [(items[0],)]
    return [(x, *rest) for x in items for rest in _orders([y for y in items if y != x])]
