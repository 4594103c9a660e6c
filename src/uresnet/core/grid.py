"""Grids of voxels in the world, and the only conversions between voxels and millimetres.

World coordinates are RAS+ millimetres and matrices are 4×4 float64, named ``a_to_b``. A voxel's index is its centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product

import numpy as np

_DIRECTIONS = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
_CODES = (("L", "R"), ("P", "A"), ("I", "S"))

Shape = tuple[int, int, int]
AxisCodes = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels placed in the world.

    ``shape`` is (I, J, K). ``voxel_to_world`` is (4, 4) float64, voxel index to RAS+ mm; it is copied and locked.
    Raises ``ValueError`` when the shape is not three positive numbers or the matrix is not an invertible affine.
    """

    shape: Shape
    voxel_to_world: np.ndarray

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(f"a grid has three axes of at least one voxel, not {self.shape}")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "voxel_to_world", _checked_affine(self.voxel_to_world))

    def __str__(self) -> str:
        """Shape, axis codes and voxel size: ``160 × 192 × 224, LAS, 1 × 1 × 1.2 mm``."""
        size = " × ".join(f"{zoom:.4g}" for zoom in self.zooms)
        return f"{' × '.join(map(str, self.shape))}, {''.join(self.axis_codes)}, {size} mm"

    # -- what it is ------------------------------------------------------------------------------------------------

    @cached_property
    def world_to_voxel(self) -> np.ndarray:
        """(4, 4) float64, RAS+ mm to voxel index."""
        return _locked(np.linalg.inv(self.voxel_to_world))

    @cached_property
    def zooms(self) -> np.ndarray:
        """Voxel size along each array axis, mm, (3,)."""
        return _locked(np.linalg.norm(self.voxel_to_world[:3, :3], axis=0))

    @cached_property
    def axis_codes(self) -> AxisCodes:
        """The anatomical direction in which each array axis grows, e.g. ``("R", "A", "S")``; nearest when oblique."""
        u, _, vt = np.linalg.svd(self.voxel_to_world[:3, :3] / self.zooms)
        nearest = u @ vt  # the orthonormal frame closest to the (possibly sheared) one
        best = max(permutations(range(3)), key=lambda p: sum(abs(nearest[p[axis], axis]) for axis in range(3)))
        codes = [_CODES[best[axis]][int(nearest[best[axis], axis] > 0)] for axis in range(3)]
        return (codes[0], codes[1], codes[2])

    @property
    def voxel_volume(self) -> float:
        """Volume of one voxel, mm³."""
        return float(abs(np.linalg.det(self.voxel_to_world[:3, :3])))

    @property
    def shear(self) -> float:
        """Largest |cosine| between two voxel axes: 0 for a box, towards 1 as it is sheared flat."""
        axes = self.voxel_to_world[:3, :3] / self.zooms
        return float(np.abs(axes.T @ axes - np.eye(3)).max())

    @cached_property
    def centre_world(self) -> np.ndarray:
        """World position of the middle of the box, voxel (shape - 1) / 2, mm, (3,)."""
        return _locked(self.points_to_world((np.array(self.shape) - 1) / 2))

    @cached_property
    def corners_world(self) -> np.ndarray:
        """World positions of the eight outer corners (voxel edges, not centres), mm, (8, 3)."""
        edges = [(-0.5, n - 0.5) for n in self.shape]
        return _locked(self.points_to_world(np.array(list(product(*edges)))))

    # -- conversions -----------------------------------------------------------------------------------------------

    def points_to_world(self, voxels: np.ndarray | Sequence[float]) -> np.ndarray:
        """Voxel positions (..., 3) to world mm (..., 3)."""
        return _apply(self.voxel_to_world, voxels)

    def points_to_voxel(self, world: np.ndarray | Sequence[float]) -> np.ndarray:
        """World mm (..., 3) to voxel positions (..., 3)."""
        return _apply(self.world_to_voxel, world)

    # -- comparisons -----------------------------------------------------------------------------------------------

    def same_as(self, other: Grid, atol_mm: float = 1e-3) -> bool:
        """Whether both have the same shape and no corner lies more than ``atol_mm`` apart."""
        if self.shape != other.shape:
            return False
        return bool(np.linalg.norm(self.corners_world - other.corners_world, axis=1).max() <= atol_mm)

    def overlaps(self, other: Grid) -> bool:
        """Whether the two boxes share any volume (exact for boxes at any angle: separating axes)."""
        a, b = self.corners_world, other.corners_world
        edges_a = self.voxel_to_world[:3, :3].T
        edges_b = other.voxel_to_world[:3, :3].T
        axes = [np.cross(x, y) for x, y in [*_pairs(edges_a), *_pairs(edges_b), *product(edges_a, edges_b)]]
        for axis in axes:
            length = np.linalg.norm(axis)
            if length < 1e-9:
                continue  # parallel edges: their cross product separates nothing
            along_a, along_b = a @ axis / length, b @ axis / length
            if along_a.max() <= along_b.min() or along_b.max() <= along_a.min():
                return False
        return True

    # -- other grids -----------------------------------------------------------------------------------------------

    @classmethod
    def centred(
        cls,
        shape: Sequence[int],
        zooms: Sequence[float] | np.ndarray,
        axis_codes: Sequence[str],
        centre_world: Sequence[float] | np.ndarray,
    ) -> Grid:
        """An axis-aligned grid whose voxel (shape - 1) / 2 lies at ``centre_world`` (mm)."""
        matrix = np.eye(4)
        matrix[:3, :3] = directions(axis_codes) * np.asarray(zooms, dtype=np.float64)
        middle = (np.asarray(shape, dtype=np.float64) - 1) / 2
        matrix[:3, 3] = np.asarray(centre_world, dtype=np.float64) - matrix[:3, :3] @ middle
        return cls((int(shape[0]), int(shape[1]), int(shape[2])), matrix)

    def subgrid(self, start: Sequence[float] | np.ndarray, shape: Sequence[int]) -> Grid:
        """The grid whose voxel 0 is this grid's voxel ``start``; it may reach outside (padding) on any side."""
        matrix = self.voxel_to_world.copy()
        matrix[:3, 3] = self.points_to_world(np.asarray(start, dtype=np.float64))
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), matrix)

    def rescaled(self, factor: float | Sequence[float]) -> Grid:
        """The grid with voxels ``factor`` times as large from the same outer corner; 2 halves the number of voxels.

        The box is kept when ``factor`` divides the shape, otherwise it grows at its far end to cover the whole. Voxel
        centres move: a voxel of 2 mm made of two of 1 mm has its centre between them.
        """
        factors = np.broadcast_to(np.asarray(factor, dtype=np.float64), 3)
        scaling = np.diag([*factors, 1.0])
        scaling[:3, 3] = (factors - 1) / 2
        shape = np.maximum(1, np.ceil(np.array(self.shape) / factors - 1e-6)).astype(int)
        return Grid((int(shape[0]), int(shape[1]), int(shape[2])), self.voxel_to_world @ scaling)

    def reoriented(self, axis_codes: Sequence[str]) -> Grid:
        """The same voxels with array axes permuted and flipped to be nearest to ``axis_codes``."""
        source, step = axis_order(self.axis_codes, axis_codes)
        matrix = np.eye(4)
        matrix[:3, :3] = 0
        for new, (old, sign) in enumerate(zip(source, step, strict=True)):
            matrix[old, new] = sign
            matrix[old, 3] = 0 if sign > 0 else self.shape[old] - 1
        shape = (self.shape[source[0]], self.shape[source[1]], self.shape[source[2]])
        return Grid(shape, self.voxel_to_world @ matrix)


def voxel_to_voxel(source: Grid, target: Grid, world_map: np.ndarray | None = None) -> np.ndarray:
    """(4, 4): source voxel → source world → ``world_map`` (4×4, mm; identity if None) → target voxel."""
    to_target = target.world_to_voxel if world_map is None else target.world_to_voxel @ _checked_affine(world_map)
    matrix: np.ndarray = to_target @ source.voxel_to_world
    return matrix


def directions(axis_codes: Sequence[str]) -> np.ndarray:
    """(3, 3) signed permutation whose column a is the world direction of array axis a, e.g. ("L", "I", "A")."""
    matrix = np.zeros((3, 3))
    for axis, code in enumerate(_checked_codes(axis_codes)):
        row, sign = _DIRECTIONS[code]
        matrix[row, axis] = sign
    return matrix


def axis_order(source: Sequence[str], target: Sequence[str]) -> tuple[Shape, Shape]:
    """For each target axis: which source axis it is, and +1 or -1 for its direction."""
    turn = np.rint(directions(source).T @ directions(target)).astype(int)  # columns: target axes in source axes
    order = np.abs(turn).argmax(axis=0)
    sign = turn[order, range(3)]
    return (int(order[0]), int(order[1]), int(order[2])), (int(sign[0]), int(sign[1]), int(sign[2]))


def _checked_codes(axis_codes: Sequence[str]) -> AxisCodes:
    codes = tuple(axis_codes)
    if len(codes) != 3 or any(c not in _DIRECTIONS for c in codes) or len({_DIRECTIONS[c][0] for c in codes}) != 3:
        raise ValueError(f"axis codes name three different axes from L/R, P/A and I/S, not {axis_codes}")
    return (codes[0], codes[1], codes[2])


def _checked_affine(matrix: np.ndarray) -> np.ndarray:
    affine = np.array(matrix, dtype=np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or np.abs(affine[3] - [0, 0, 0, 1]).max() > 1e-9:
        raise ValueError(f"not a finite 4×4 affine matrix with last row 0 0 0 1:\n{matrix}")
    affine[3] = [0, 0, 0, 1]
    # Relative to the size of the voxel, so that voxels of micrometres pass as those of millimetres do.
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if sides.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / sides)) < 1e-6:
        raise ValueError(f"affine matrix is singular:\n{matrix}")
    return _locked(affine)


def _apply(matrix: np.ndarray, points: np.ndarray | Sequence[float]) -> np.ndarray:
    moved: np.ndarray = np.asarray(points, dtype=np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
    return moved


def _pairs(edges: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(edges[0], edges[1]), (edges[1], edges[2]), (edges[2], edges[0])]


def _locked(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array
