"""The kernel of the local cross-correlation's derivative.

Its sums are in the order of the source, so that equal images get exactly equal derivatives.
"""

from __future__ import annotations

import numpy as np

from uresnet.core.kernels.compiling import compiler

_kernel = compiler(set())
_ZERO, _ONE = np.float32(0), np.float32(1)


@_kernel
def _sum_around(plane, reach, work, out):  # type: ignore[no-untyped-def]
    """Sums of ``plane`` (C, J, K) over squares of 2 · ``reach`` + 1, with 0 beyond the edge → ``out``, via ``work``."""
    channels, size_j, size_k = plane.shape
    for c in range(channels):
        for j in range(size_j):
            row, total = plane[c, j], work[c, j]
            for k in range(size_k):
                total[k] = row[k]
            for step in range(1, min(reach, size_k - 1) + 1):
                for k in range(size_k - step):
                    total[k] += row[k + step]
                for k in range(size_k - step):
                    total[k + step] += row[k]
        for j in range(size_j):
            total = out[c, j]
            total[:] = _ZERO
            for near in range(max(j - reach, 0), min(j + reach + 1, size_j)):
                row = work[c, near]
                for k in range(size_k):
                    total[k] += row[k]


@_kernel
def _sum_planes(planes, j, share, out):  # type: ignore[no-untyped-def]
    """``share`` times the sum of row ``j`` over ``planes`` (P, C, J, K) → ``out`` (C, K)."""
    count, channels, _, size_k = planes.shape
    for c in range(channels):
        total = out[c]
        total[:] = _ZERO
        for p in range(count):
            row = planes[p, c, j]
            for k in range(size_k):
                total[k] += row[k]
        for k in range(size_k):
            total[k] *= share


@_kernel
def correlation_slopes(a, b, counted, reach, epsilon, pull_a, pull_b, start, stop):  # type: ignore[no-untyped-def]
    """Derivatives of the summed squared correlation of ``a`` and ``b`` (I, J, K) in cubes of 2 · ``reach`` + 1 voxels
    around those ``counted`` (I, J, K) → ``pull_a`` and ``pull_b``, exactly the same where a = b. A range of axis i,
    plane by plane: sums over the cubes need the planes around, and the sums of what comes of them again."""
    size_i, size_j, size_k = a.shape
    width = 2 * reach + 1
    share = _ONE / np.float32(width * width * width)
    means = np.empty((width, 5, size_j, size_k), np.float32)  # of a, b, a², b², ab; planes of sums around each voxel
    slopes = np.empty((width, 5, size_j, size_k), np.float32)  # by those
    plane, work = np.empty((5, size_j, size_k), np.float32), np.empty((5, size_j, size_k), np.float32)
    total = np.empty((5, size_k), np.float32)
    two, half = np.float32(2), np.float32(0.5)
    for i in range(start - 2 * reach, stop + 2 * reach):
        if 0 <= i < size_i:
            for j in range(size_j):
                for k in range(size_k):
                    x, y = a[i, j, k], b[i, j, k]
                    plane[0, j, k], plane[1, j, k] = x, y
                    plane[2, j, k], plane[3, j, k], plane[4, j, k] = x * x, y * y, x * y
            _sum_around(plane, reach, work, means[i % width])
        else:
            means[i % width] = _ZERO
        middle = i - reach
        if middle < start - reach:
            continue
        if 0 <= middle < size_i:
            for j in range(size_j):
                _sum_planes(means, j, share, total)
                for k in range(size_k):
                    mean_a, mean_b = total[0, k], total[1, k]
                    variance_a = max(total[2, k] - mean_a * mean_a, _ZERO)
                    variance_b = max(total[3, k] - mean_b * mean_b, _ZERO)
                    covariance = total[4, k] - mean_a * mean_b
                    spread = variance_a * variance_b + epsilon
                    scale = two * covariance * np.float32(counted[middle, j, k]) / spread
                    shrink = scale * covariance / spread
                    by_square_a, by_square_b = -half * shrink * variance_b, -half * shrink * variance_a
                    plane[0, j, k] = -(scale * mean_b + two * by_square_a * mean_a)
                    plane[1, j, k] = -(scale * mean_a + two * by_square_b * mean_b)
                    plane[2, j, k], plane[3, j, k], plane[4, j, k] = by_square_a, by_square_b, scale
            _sum_around(plane, reach, work, slopes[middle % width])
        else:
            slopes[middle % width] = _ZERO
        last = middle - reach
        if last < start:
            continue
        for j in range(size_j):
            _sum_planes(slopes, j, share, total)
            for k in range(size_k):
                x, y = a[last, j, k], b[last, j, k]
                pull_a[last, j, k] = total[0, k] + two * x * total[2, k] + y * total[4, k]
                pull_b[last, j, k] = total[1, k] + two * y * total[3, k] + x * total[4, k]
