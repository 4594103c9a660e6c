"""Kernels that read between voxels: volumes, labels, displacements, forces of structures.

Arrays are C-contiguous float32, channels first unless stated otherwise; positions are voxel indices, and read
trilinearly. Each kernel does a range of its work, from ``start`` to ``stop``.
"""

from __future__ import annotations

import numpy as np

from uresnet.core.kernels.compiling import compiler

_kernel = compiler({"contract", "reassoc", "nsz"})  # not "nnan": NaN has to stay NaN
_ZERO, _ONE = np.float32(0), np.float32(1)


@_kernel
def _clamped(x, n):  # type: ignore[no-untyped-def]
    """The lower of the two voxels around ``x``, of ``n``, and the weights of both."""
    x = min(max(x, _ZERO), np.float32(n - 1))
    low = min(max(np.int32(x), 0), n - 2)  # whatever NaN becomes stays inside
    upper = x - np.float32(low)
    return np.uint64(low), _ONE - upper, upper


@_kernel
def _faded(x, n):  # type: ignore[no-untyped-def]
    """As :func:`_clamped`, the weights falling to 0 over one voxel beyond the edge."""
    low, lower, upper = _clamped(x, n)
    if x < _ZERO:
        lower = max(_ONE + x, _ZERO)
    elif x > n - 1:
        upper = max(np.float32(n) - x, _ZERO)
    return low, lower, upper


@_kernel
def _blended(flat, at, step_i, step_j, i0, i1, j0, j1, k0, k1):  # type: ignore[no-untyped-def]
    """The weighted mean of eight values, by their weights along the axes; ``at`` is the first's place in memory."""
    one = np.uint64(1)  # an unsigned index is not checked for being negative
    b, c = at + step_j, at + step_i
    d = c + step_j
    near = (flat[at] * k0 + flat[at + one] * k1) * j0 + (flat[b] * k0 + flat[b + one] * k1) * j1
    far = (flat[c] * k0 + flat[c + one] * k1) * j0 + (flat[d] * k0 + flat[d + one] * k1) * j1
    return near * i0 + far * i1


@_kernel
def _vector(flat, size_i, size_j, size_k, x, y, z):  # type: ignore[no-untyped-def]
    """A field (3, I, J, K), flattened, at one position, clamped."""
    step_j = np.uint64(size_k)
    step_i = step_j * np.uint64(size_j)
    volume = step_i * np.uint64(size_i)
    i, i0, i1 = _clamped(x, size_i)
    j, j0, j1 = _clamped(y, size_j)
    k, k0, k1 = _clamped(z, size_k)
    at = i * step_i + j * step_j + k
    p = _blended(flat, at, step_i, step_j, i0, i1, j0, j1, k0, k1)
    q = _blended(flat, at + volume, step_i, step_j, i0, i1, j0, j1, k0, k1)
    r = _blended(flat, at + volume + volume, step_i, step_j, i0, i1, j0, j1, k0, k1)
    return p, q, r


@_kernel
def _eight_rows(x, y, z, size, step):  # type: ignore[no-untyped-def]
    """The eight rows around a position of a lattice of ``size``: the first one's place in memory, where a row is
    ``step`` long, and the weights of all eight, last axis fastest."""
    i, i0, i1 = _clamped(x, size[0])
    j, j0, j1 = _clamped(y, size[1])
    k, k0, k1 = _clamped(z, size[2])
    at = ((i * np.uint64(size[1]) + j) * np.uint64(size[2]) + k) * step
    a, b, c, d = i0 * j0, i0 * j1, i1 * j0, i1 * j1
    return at, a * k0, a * k1, b * k0, b * k1, c * k0, c * k1, d * k0, d * k1


@_kernel
def affine_positions(matrix, first_slice, out, start, stop):  # type: ignore[no-untyped-def]
    """``matrix`` (3, 4), float64, times each voxel index → ``out`` (3, I, J, K), whose slices count from
    ``first_slice``. A range of axis i."""
    _, _, size_j, size_k = out.shape
    for c in range(3):
        for i in range(start, stop):
            along_i = matrix[c, 0] * (i + first_slice) + matrix[c, 3]
            for j in range(size_j):
                for k in range(size_k):
                    out[c, i, j, k] = np.float32((matrix[c, 1] * j + matrix[c, 2] * k) + along_i)


@_kernel
def read_volume(volume, where, border, out, start, stop):  # type: ignore[no-untyped-def]
    """``volume`` (C, I, J, K), two voxels or more an axis, trilinearly at ``where`` (3, N) → ``out`` (C, N)."""
    channels, size_i, size_j, size_k = volume.shape
    flat = volume.reshape(-1)
    step_j = np.uint64(size_k)
    step_i = step_j * np.uint64(size_j)
    for n in range(start, stop):
        if border:
            i, i0, i1 = _clamped(where[0, n], size_i)
            j, j0, j1 = _clamped(where[1, n], size_j)
            k, k0, k1 = _clamped(where[2, n], size_k)
        else:
            i, i0, i1 = _faded(where[0, n], size_i)
            j, j0, j1 = _faded(where[1, n], size_j)
            k, k0, k1 = _faded(where[2, n], size_k)
        at = i * step_i + j * step_j + k
        for c in range(channels):
            out[c, n] = _blended(flat, at, step_i, step_j, i0, i1, j0, j1, k0, k1)
            at += step_i * np.uint64(size_i)


@_kernel
def read_labels(labels, where, out, start, stop):  # type: ignore[no-untyped-def]
    """The label of ``labels`` (I, J, K), integers, two voxels or more an axis, with the largest trilinear weight at
    ``where`` (3, N), clamped; the smallest label wins a tie → ``out`` (N,)."""
    size_i, size_j, size_k = labels.shape
    weights = np.empty(8, np.float32)
    found = np.empty(8, labels.dtype)
    for n in range(start, stop):
        i, i0, i1 = _clamped(where[0, n], size_i)
        j, j0, j1 = _clamped(where[1, n], size_j)
        k, k0, k1 = _clamped(where[2, n], size_k)
        alike = True
        for corner in range(8):
            a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
            found[corner] = labels[i + np.uint64(a), j + np.uint64(b), k + np.uint64(c)]
            alike = alike and found[corner] == found[0]
        best = found[0]
        if not alike:
            for corner in range(8):
                a, b, c = corner >> 2, (corner >> 1) & 1, corner & 1
                weights[corner] = (i1 if a else i0) * (j1 if b else j0) * (k1 if c else k0)
            most = -_ONE
            for corner in range(8):
                total = _ZERO
                for other in range(8):
                    if found[other] == found[corner]:
                        total += weights[other]
                if total > most or (total == most and found[corner] < best):
                    best, most = found[corner], total
        out[n] = best


@_kernel
def read_rows(table, size, where, out, start, stop):  # type: ignore[no-untyped-def]
    """Rows of ``table`` (V, C), one for each voxel of a lattice of ``size``, trilinearly at ``where`` (3, N), clamped →
    ``out`` (N, C)."""
    flat = table.reshape(-1)
    step = np.uint64(table.shape[1])
    step_j = step * np.uint64(size[2])
    step_i = step_j * np.uint64(size[1])
    for n in range(start, stop):
        a, w0, w1, w2, w3, w4, w5, w6, w7 = _eight_rows(where[0, n], where[1, n], where[2, n], size, step)
        b, c, d = a + step_j, a + step_i, a + step_j + step_i
        for f in range(table.shape[1]):
            g = np.uint64(f)
            h = g + step
            near = flat[a + g] * w0 + flat[a + h] * w1 + flat[b + g] * w2 + flat[b + h] * w3
            far = flat[c + g] * w4 + flat[c + h] * w5 + flat[d + g] * w6 + flat[d + h] * w7
            out[n, f] = near + far


@_kernel
def structure_forces(  # type: ignore[no-untyped-def]
    moving,
    fixed,
    size_moving,
    size_fixed,
    at_moving,
    at_fixed,
    inside,
    weights,
    force,
    moving_image,
    fixed_image,
    start,
    stop,
):
    """Half the sum over features f of ``weights`` (F,) · (a − b) · ∇(a + b) → ``force`` (3, I, J, K).

    a and b are rows of the tables ``moving`` and ``fixed`` (V, F + 1), of lattices of ``size_moving`` and
    ``size_fixed``, at ``at_moving`` and ``at_fixed`` (3, I, J, K), clamped. Their last features are the intensities →
    ``moving_image`` and ``fixed_image`` (I, J, K). Where not ``inside`` (I, J, K) all features are 0. On the faces the
    force is 0. A range of axis i.
    """
    _, size_i, size_j, size_k = at_moving.shape
    features = len(weights)
    step = np.uint64(features + 1)
    flat_a, flat_b = moving.reshape(-1), fixed.reshape(-1)
    step_ja, step_jb = step * np.uint64(size_moving[2]), step * np.uint64(size_fixed[2])
    step_ia, step_ib = step_ja * np.uint64(size_moving[1]), step_jb * np.uint64(size_fixed[1])
    # Three planes of sums and differences: the one whose force is next and its neighbours.
    sums = np.empty((3, size_j, size_k, features + 1), np.float32)
    differences = np.empty((3, size_j, size_k, features + 1), np.float32)
    half = np.float32(0.5)
    for plane in range(max(start - 1, 0), min(stop + 1, size_i)):
        for j in range(size_j):
            for k in range(size_k):
                both, apart = sums[plane % 3, j, k], differences[plane % 3, j, k]
                if not inside[plane, j, k]:
                    both[:] = _ZERO
                    continue
                x, y, z = at_moving[0, plane, j, k], at_moving[1, plane, j, k], at_moving[2, plane, j, k]
                a, a0, a1, a2, a3, a4, a5, a6, a7 = _eight_rows(x, y, z, size_moving, step)
                x, y, z = at_fixed[0, plane, j, k], at_fixed[1, plane, j, k], at_fixed[2, plane, j, k]
                b, b0, b1, b2, b3, b4, b5, b6, b7 = _eight_rows(x, y, z, size_fixed, step)
                aj, ai, aij = a + step_ja, a + step_ia, a + step_ja + step_ia
                bj, bi, bij = b + step_jb, b + step_ib, b + step_jb + step_ib
                for f in range(features + 1):
                    g = np.uint64(f)
                    h = g + step
                    x = flat_a[a + g] * a0 + flat_a[a + h] * a1 + flat_a[aj + g] * a2 + flat_a[aj + h] * a3
                    x += flat_a[ai + g] * a4 + flat_a[ai + h] * a5 + flat_a[aij + g] * a6 + flat_a[aij + h] * a7
                    y = flat_b[b + g] * b0 + flat_b[b + h] * b1 + flat_b[bj + g] * b2 + flat_b[bj + h] * b3
                    y += flat_b[bi + g] * b4 + flat_b[bi + h] * b5 + flat_b[bij + g] * b6 + flat_b[bij + h] * b7
                    both[f] = x + y
                    apart[f] = x - y
                if start <= plane < stop:
                    moving_image[plane, j, k] = half * (both[features] + apart[features])
                    fixed_image[plane, j, k] = half * (both[features] - apart[features])
        centre = plane - 1
        if centre < start or centre < 1 or centre > size_i - 2:
            continue
        before, here, after = sums[(centre - 1) % 3], sums[centre % 3], sums[plane % 3]
        for j in range(1, size_j - 1):
            for k in range(1, size_k - 1):
                if not inside[centre, j, k]:
                    continue
                x = y = z = _ZERO
                for f in range(features):
                    pull = differences[centre % 3, j, k, f] * weights[f]
                    x += pull * (after[j, k, f] - before[j, k, f])
                    y += pull * (here[j + 1, k, f] - here[j - 1, k, f])
                    z += pull * (here[j, k + 1, f] - here[j, k - 1, f])
                force[0, centre, j, k], force[1, centre, j, k], force[2, centre, j, k] = half * x, half * y, half * z


@_kernel
def compose(first, second, weight_first, weight_second, inside, out, start, stop):  # type: ignore[no-untyped-def]
    """``weight_first`` · u(x) + ``weight_second`` · d(x + u(x)) → ``out``, for displacements u = ``first`` and d =
    ``second``, (3, I, J, K), voxels; where not ``inside`` (I, J, K) with d(x) instead. A range of axis i."""
    _, size_i, size_j, size_k = first.shape
    flat = second.reshape(-1)
    for i in range(start, stop):
        for j in range(size_j):
            for k in range(size_k):
                x, y, z = first[0, i, j, k], first[1, i, j, k], first[2, i, j, k]
                if inside[i, j, k]:
                    to_x, to_y, to_z = np.float32(i) + x, np.float32(j) + y, np.float32(k) + z
                    p, q, r = _vector(flat, size_i, size_j, size_k, to_x, to_y, to_z)
                else:
                    p, q, r = second[0, i, j, k], second[1, i, j, k], second[2, i, j, k]
                out[0, i, j, k] = weight_first * x + weight_second * p
                out[1, i, j, k] = weight_first * y + weight_second * q
                out[2, i, j, k] = weight_first * z + weight_second * r


@_kernel
def _four_rows(field, before, after, j, out):  # type: ignore[no-untyped-def]
    """Sums of rows ``j`` and ``j`` + 1 of the planes ``before`` and ``after`` of a ``field`` (C, I, J, K) → ``out``
    (C, K). Indices instead of slices: with slices of different strides it would be compiled twice."""
    for c in range(out.shape[0]):
        a, b, d, e, total = (
            field[c, before, j],
            field[c, before, j + 1],
            field[c, after, j],
            field[c, after, j + 1],
            out[c],
        )
        for k in range(out.shape[1]):
            total[k] = (a[k] + b[k]) + (d[k] + e[k])


@_kernel
def _residuals_between(own, other, pending, i, four, out):  # type: ignore[no-untyped-def]
    """How far a step along ``own`` (3, I, J, K) and back along ``other``, as large and flattened, ends from its start.

    It starts at the points half-way between voxel planes ``i`` and ``i`` + 1 that have a ``pending`` voxel beside them
    → plane ``i`` % 2 of ``out`` (3, 2, J, K); ``four`` (3, K) is working memory.
    """
    _, size_i, size_j, size_k = own.shape
    half, eighth = np.float32(0.5), np.float32(0.125)
    for j in range(size_j - 1):
        _four_rows(own, i, i + 1, j, four)
        a, b, c, d = pending[i, j], pending[i, j + 1], pending[i + 1, j], pending[i + 1, j + 1]
        for k in range(size_k - 1):
            if (a[k] | b[k] | c[k] | d[k] | a[k + 1] | b[k + 1] | c[k + 1] | d[k + 1]) == 0:
                continue
            x = eighth * (four[0, k] + four[0, k + 1])
            y = eighth * (four[1, k] + four[1, k + 1])
            z = eighth * (four[2, k] + four[2, k + 1])
            to_x, to_y, to_z = np.float32(i) + half + x, np.float32(j) + half + y, np.float32(k) + half + z
            p, q, r = _vector(other, size_i, size_j, size_k, to_x, to_y, to_z)
            out[0, i % 2, j, k], out[1, i % 2, j, k], out[2, i % 2, j, k] = x + p, y + q, z + r


@_kernel
def newton_half_step(both, pending, tolerance, low, out, done, start, stop):  # type: ignore[no-untyped-def]
    """Half of Newton's step of two displacements ``both`` (2, 3, I, J, K), voxels, towards inverting each other.

    → ``out`` (2, 3, i, j, k), a box of them whose first voxel is ``low`` (3,) and outside of which nothing is pending.
    It is right where ``pending`` (I, J, K) is 1; ``done`` becomes 1 where neither residual was above ``tolerance``. The
    residual is the mean of that of a voxel and of those of the eight points half-way to its neighbours: a field that is
    right at its voxels and read linearly is wrong by all of its curvature between them. A range of the box's axis i.
    """
    _, _, size_i, size_j, size_k = both.shape
    half, sixteenth = np.float32(0.5), np.float32(0.0625)
    fields = both.reshape(2, -1)
    between = np.empty((2, 3, 2, size_j, size_k), np.float32)  # by side, and before and after the plane
    four, row = np.empty((3, size_k), np.float32), np.empty((3, size_k), np.float32)
    between[:], four[:], row[:] = _ZERO, _ZERO, _ZERO
    for i in range(low[0] + start, low[0] + stop):
        for s in range(2):
            own, other = both[s], fields[1 - s]
            if i == low[0] + start and i > 0:
                _residuals_between(own, other, pending, i - 1, four, between[s])
            if i < size_i - 1:
                _residuals_between(own, other, pending, i, four, between[s])
            for j in range(low[1], low[1] + out.shape[3]):
                here, found = pending[i, j], False
                for k in range(size_k):
                    if here[k] == 0:
                        continue
                    found = True
                    x, y, z = own[0, i, j, k], own[1, i, j, k], own[2, i, j, k]
                    to_x, to_y, to_z = np.float32(i) + x, np.float32(j) + y, np.float32(k) + z
                    p, q, r = _vector(other, size_i, size_j, size_k, to_x, to_y, to_z)
                    row[0, k], row[1, k], row[2, k] = p + x, q + y, r + z
                if not found:
                    continue
                if 0 < i < size_i - 1 and 0 < j < size_j - 1:
                    _four_rows(between[s], (i - 1) % 2, i % 2, j - 1, four)
                    for c in range(3):
                        for k in range(1, size_k - 1):
                            row[c, k] = half * row[c, k] + sixteenth * (four[c, k - 1] + four[c, k])
                for k in range(size_k):
                    good = row[0, k] ** 2 + row[1, k] ** 2 + row[2, k] ** 2 <= tolerance * tolerance
                    done[i, j, k] = good if s == 0 else good & done[i, j, k]
                _less_half_derivative(own, i, j, row, low, out[s])


@_kernel
def _less_half_derivative(own, i, j, along, low, out):  # type: ignore[no-untyped-def]
    """u - (r + ∂u/∂x r) / 2 for a row of a displacement u = ``own`` (3, I, J, K) and r = ``along`` (3, K), by central
    differences → ``out`` (3, i, j, k), a box whose first voxel is ``low`` (3,): the derivative of x + u is the inverse
    of that of the other map."""
    _, size_i, size_j, size_k = own.shape
    before_i, after_i = max(i - 1, 0), min(i + 1, size_i - 1)
    before_j, after_j = max(j - 1, 0), min(j + 1, size_j - 1)
    half, quarter, last = np.float32(0.5), np.float32(0.25), size_k - 1
    per_i = half / np.float32(max(after_i - before_i, 1))
    per_j = half / np.float32(max(after_j - before_j, 1))
    first, high = low[2], low[2] + out.shape[3]
    for c in range(3):
        u, to = own[c, i, j], out[c, i - low[0], j - low[1]]
        ahead_i, behind_i = own[c, after_i, j], own[c, before_i, j]
        ahead_j, behind_j = own[c, i, after_j], own[c, i, before_j]
        for k in range(first, high):
            change = along[0, k] * per_i * (ahead_i[k] - behind_i[k]) + along[1, k] * per_j * (ahead_j[k] - behind_j[k])
            to[k - first] = u[k] - half * along[c, k] - change
        for k in range(max(first, 1), min(high, last)):
            to[k - first] -= along[2, k] * (quarter * (u[k + 1] - u[k - 1]))
        if first == 0:
            to[0] -= along[2, 0] * (half * (u[1] - u[0]))
        if high == size_k:
            to[last - first] -= along[2, last] * (half * (u[last] - u[last - 1]))


@_kernel
def accept(out, low, pending, done, both, start, stop):  # type: ignore[no-untyped-def]
    """The result of :func:`newton_half_step` becomes ``both``; what is ``done`` is no longer ``pending``."""
    for i in range(low[0] + start, low[0] + stop):
        for j in range(low[1], low[1] + out.shape[3]):
            for k in range(low[2], low[2] + out.shape[4]):
                if pending[i, j, k]:
                    for s in range(2):
                        for c in range(3):
                            both[s, c, i, j, k] = out[s, c, i - low[0], j - low[1], k - low[2]]
                    pending[i, j, k] = not done[i, j, k]
