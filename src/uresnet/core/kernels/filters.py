"""Kernels that sum over neighbours along axes.

Arrays are C-contiguous float32. Each kernel does a range of its work, from ``start`` to ``stop``.
"""

from __future__ import annotations

import numpy as np

from uresnet.core.kernels.compiling import compiler

_kernel = compiler({"contract", "reassoc", "nsz"})
_ZERO = np.float32(0)


@_kernel
def sum_rows(source, first, weights, out, start, stop):  # type: ignore[no-untyped-def]
    """Row p of ``out`` (A, P, B) is the sum over t of ``weights`` (P, T) times row ``first`` (P,) + t of ``source``
    (A, N, B); beyond the ends the ends are repeated. A range of the A · P rows."""
    rows, taps = weights.shape
    width, last = source.shape[2], source.shape[1] - 1
    for row in range(start, stop):
        a, p = row // rows, row % rows
        total = out[a, p]
        for t in range(taps):
            row_in, weight = source[a, min(max(first[p] + t, 0), last)], weights[p, t]
            if t == 0:
                for b in range(width):
                    total[b] = weight * row_in[b]
            else:
                for b in range(width):
                    total[b] += weight * row_in[b]


@_kernel
def sum_values(source, first, weights, out, start, stop):  # type: ignore[no-untyped-def]
    """As :func:`sum_rows` with B = 1: ``source`` (A, N), ``out`` (A, P). A range of A."""
    rows, taps = weights.shape
    last = source.shape[1] - 1
    for a in range(start, stop):
        for p in range(rows):
            total = _ZERO
            begin = first[p]
            if begin >= 0 and begin + taps - 1 <= last:
                for t in range(taps):
                    total += weights[p, t] * source[a, begin + t]
            else:
                for t in range(taps):
                    total += weights[p, t] * source[a, min(max(begin + t, 0), last)]
            out[a, p] = total


@_kernel
def separable(x, weights, out, start, stop):  # type: ignore[no-untyped-def]
    """Sums over neighbours of ``x`` (C, I, J, K) along all three axes by the same odd number of ``weights``; the edge
    continues → ``out``. A range of axis i, plane by plane, so that little is held of what lies between the axes."""
    channels, size_i, size_j, size_k = x.shape
    reach = len(weights) // 2
    width = 2 * reach + 1
    planes = np.empty((width, size_j, size_k), np.float32)
    rows, padded = np.empty((size_j, size_k), np.float32), np.empty(size_k + 2 * reach, np.float32)
    first, last = max(start - reach, 0), min(stop + reach, size_i) - 1
    for c in range(channels):
        for i in range(first, last + 1):
            for j in range(size_j):
                source, total = x[c, i, j], rows[j]
                for k in range(size_k + 2 * reach):  # a copy of slices compiles for 4 s: its error names their shapes
                    padded[k] = source[min(max(k - reach, 0), size_k - 1)]
                total[:] = _ZERO
                for t in range(width):
                    weight = weights[t]
                    for k in range(size_k):
                        total[k] += weight * padded[k + t]
            for j in range(size_j):
                total = planes[i % width, j]
                total[:] = _ZERO
                for t in range(width):
                    row, weight = rows[min(max(j + t - reach, 0), size_j - 1)], weights[t]
                    for k in range(size_k):
                        total[k] += weight * row[k]
            # With this plane one more result has all its neighbours; after the last plane there are only repetitions.
            for middle in range(max(i - reach, start), stop if i == last else i - reach + 1):
                for j in range(size_j):
                    total = out[c, middle, j]
                    total[:] = _ZERO
                    for t in range(width):
                        near, weight = min(max(middle + t - reach, 0), size_i - 1), weights[t]
                        row = planes[near % width, j]
                        for k in range(size_k):
                            total[k] += weight * row[k]
