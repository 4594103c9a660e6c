"""Loops over voxels that PyTorch's operators for the CPU take several times as long for, compiled by Numba.

What they compute has its home elsewhere: reading in :mod:`uresnet.core.sampling`, composing in
:mod:`uresnet.transform.deformation`, forces and inverses in :mod:`uresnet.solver.symmetric`, the choice of classes in
:mod:`uresnet.model.segmenter`. Arrays are C-contiguous float32, channels first unless it says otherwise, spatial axes
(I, J, K) as everywhere; positions are voxel indices. There are no gradients. Each kernel does a range of its work, so
that :func:`in_parallel` can share it among threads, and is compiled once a machine (Numba keeps it beside this file or
in the user's cache).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numba
import numpy as np
import torch

_ZERO, _ONE = np.float32(0), np.float32(1)
_PIECES = 4  # so that no thread waits long for the last
_WORTHWHILE = 20_000  # voxels: below, threads take longer to start than to work


def _kernel(function: Callable[..., Any], exact: bool = False) -> Callable[..., Any]:
    """Compiled when first called. Sums may be rearranged and multiplied in one step, unless they have to be ``exact``;
    NaN stays NaN."""
    how: dict[str, Any] = {"nogil": True, "fastmath": set() if exact else {"contract", "reassoc", "nsz"}}
    try:
        return numba.njit(cache=True, **how)(function)
    except RuntimeError:  # neither this folder nor the user's cache can be written: compiled in every run
        return numba.njit(**how)(function)


def is_plain(*tensors: torch.Tensor) -> bool:
    """Whether these are for the kernels: float32, in the CPU's memory, no gradients wanted."""
    return all(
        one.device.type == "cpu" and one.dtype == torch.float32 and not (one.requires_grad and torch.is_grad_enabled())
        for one in tensors
    )


def in_parallel(kernel: Callable[..., Any], count: int, *arguments: Any, each: int = 1, pieces: int = _PIECES) -> None:
    """``kernel(*arguments, start, stop)`` over ranges that cover ``count``, ``pieces`` for each of as many threads as
    PyTorch would use; ``each`` is how many voxels one of ``count`` stands for."""
    threads = torch.get_num_threads()
    if threads == 1 or count * each < _WORTHWHILE:
        kernel(*arguments, 0, count)
        return
    edges = np.linspace(0, count, min(count, pieces * threads) + 1).astype(int).tolist()
    waiting = [_pool(threads, os.getpid()).submit(kernel, *arguments, *edge) for edge in pairwise(edges)]
    for done in waiting:
        done.result()


_exact_kernel = partial(_kernel, exact=True)


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads do not survive a fork: every process has its own."""
    return ThreadPoolExecutor(threads, thread_name_prefix="uresnet")


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
    """The mean of eight values by the weights along the axes; ``at`` is where the first lies in memory."""
    one = np.uint64(1)  # an index without a sign need not be looked at for being negative
    b, c = at + step_j, at + step_i
    d = c + step_j
    near = (flat[at] * k0 + flat[at + one] * k1) * j0 + (flat[b] * k0 + flat[b + one] * k1) * j1
    far = (flat[c] * k0 + flat[c + one] * k1) * j0 + (flat[d] * k0 + flat[d + one] * k1) * j1
    return near * i0 + far * i1


@_kernel
def _vector(flat, size_i, size_j, size_k, x, y, z):  # type: ignore[no-untyped-def]
    """A field (3, I, J, K), made flat, at one position, clamped."""
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
    """Where the first of the eight rows around a position of a lattice of ``size`` begins in memory, rows being
    ``step`` long; and the weights of all eight, last axis fastest."""
    i, i0, i1 = _clamped(x, size[0])
    j, j0, j1 = _clamped(y, size[1])
    k, k0, k1 = _clamped(z, size[2])
    at = ((i * np.uint64(size[1]) + j) * np.uint64(size[2]) + k) * step
    a, b, c, d = i0 * j0, i0 * j1, i1 * j0, i1 * j1
    return at, a * k0, a * k1, b * k0, b * k1, c * k0, c * k1, d * k0, d * k1


@_kernel
def affine_positions(matrix, first_slice, out, start, stop):  # type: ignore[no-untyped-def]
    """Where ``matrix`` (3, 4), float64, sends the voxels → ``out`` (3, I, J, K), of which the first slice is number
    ``first_slice``. A range of axis i."""
    _, _, size_j, size_k = out.shape
    for c in range(3):
        for i in range(start, stop):
            along_i = matrix[c, 0] * (i + first_slice) + matrix[c, 3]
            for j in range(size_j):
                for k in range(size_k):
                    out[c, i, j, k] = np.float32((matrix[c, 1] * j + matrix[c, 2] * k) + along_i)


@_kernel
def read(volume, where, border, out, start, stop):  # type: ignore[no-untyped-def]
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
    """The value of ``labels`` (I, J, K), whole numbers, two voxels or more an axis, with the largest trilinear weight
    at ``where`` (3, N), clamped, the smallest of equals → ``out`` (N,)."""
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
    """Rows of ``table`` (V, C), of a lattice of ``size``, trilinearly at ``where`` (3, N), clamped → ``out`` (N, C)."""
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
    one, other, size_one, size_other, at_one, at_other, inside, weights, force, image_one, image_other, start, stop
):
    """Half the sum over features f of ``weights`` (F,) · (a − b) · ∇(a + b) → ``force`` (3, I, J, K), where a and b are
    rows of the tables ``one`` and ``other`` (V, F + 1), of lattices of ``size_one`` and ``size_other``, at ``at_one``
    and ``at_other`` (3, I, J, K), clamped; their last features → ``image_one`` and ``image_other`` (I, J, K). Not
    ``inside`` (I, J, K) all features are 0. The force is 0 on the faces. A range of axis i."""
    _, size_i, size_j, size_k = at_one.shape
    features = len(weights)
    step = np.uint64(features + 1)
    flat_a, flat_b = one.reshape(-1), other.reshape(-1)
    step_ja, step_jb = step * np.uint64(size_one[2]), step * np.uint64(size_other[2])
    step_ia, step_ib = step_ja * np.uint64(size_one[1]), step_jb * np.uint64(size_other[1])
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
                x, y, z = at_one[0, plane, j, k], at_one[1, plane, j, k], at_one[2, plane, j, k]
                a, a0, a1, a2, a3, a4, a5, a6, a7 = _eight_rows(x, y, z, size_one, step)
                x, y, z = at_other[0, plane, j, k], at_other[1, plane, j, k], at_other[2, plane, j, k]
                b, b0, b1, b2, b3, b4, b5, b6, b7 = _eight_rows(x, y, z, size_other, step)
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
                    image_one[plane, j, k] = half * (both[features] + apart[features])
                    image_other[plane, j, k] = half * (both[features] - apart[features])
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
def decide(logits, classes, probabilities, start, stop):  # type: ignore[no-untyped-def]
    """Of ``logits`` (V, P, C): the largest, the first of equals → ``classes`` (V, P) uint8, and their softmax averaged
    over P → ``probabilities`` (V, C), to 1e-6."""
    parts, count = logits.shape[1:]
    exponents = np.empty(count, np.int32)
    powers = exponents.view(np.float32)  # 2^n: its exponent's bits
    values = np.empty(count, np.float32)
    for v in range(start, stop):
        probabilities[v] = _ZERO
        for p in range(parts):
            row = logits[v, p]
            top = row[0]
            for c in range(1, count):
                top = max(top, row[c])
            for c in range(count - 1, -1, -1):
                if row[c] == top:
                    classes[v, p] = c
            for c in range(count):
                # exp(x) = 2^n exp(y), |y| < 0.35: a series that a processor computes for eight values at once.
                x = max((row[c] - top) * np.float32(1.442695), np.float32(-126))
                n = np.rint(x)
                y = (x - n) * np.float32(0.6931472)
                exponents[c] = (np.int32(n) + np.int32(127)) << np.int32(23)
                y2 = y * (np.float32(1 / 6) + y * (np.float32(1 / 24) + y * np.float32(1 / 120)))
                values[c] = _ONE + y * (_ONE + y * (np.float32(0.5) + y2))
            total = _ZERO
            for c in range(count):
                values[c] *= powers[c]
                total += values[c]
            share = _ONE / (total * np.float32(parts))
            for c in range(count):
                probabilities[v, c] += values[c] * share


@_kernel
def follow(by, field, own, share, inside, out, start, stop):  # type: ignore[no-untyped-def]
    """``own`` · u(x) + ``share`` · d(x + u(x)) → ``out``, for u = ``by`` and d = ``field``, (3, I, J, K), voxels; where
    not ``inside`` (I, J, K) with d(x) instead. A range of axis i."""
    _, size_i, size_j, size_k = by.shape
    flat = field.reshape(-1)
    for i in range(start, stop):
        for j in range(size_j):
            for k in range(size_k):
                x, y, z = by[0, i, j, k], by[1, i, j, k], by[2, i, j, k]
                if inside[i, j, k]:
                    to_x, to_y, to_z = np.float32(i) + x, np.float32(j) + y, np.float32(k) + z
                    p, q, r = _vector(flat, size_i, size_j, size_k, to_x, to_y, to_z)
                else:
                    p, q, r = field[0, i, j, k], field[1, i, j, k], field[2, i, j, k]
                out[0, i, j, k] = own * x + share * p
                out[1, i, j, k] = own * y + share * q
                out[2, i, j, k] = own * z + share * r


@_kernel
def _four_rows(before, after, j, out):  # type: ignore[no-untyped-def]
    """Sums of rows ``j`` and ``j`` + 1 of two planes (C, J, K) → ``out`` (C, K)."""
    for c in range(out.shape[0]):
        a, b, d, e, total = before[c, j], before[c, j + 1], after[c, j], after[c, j + 1], out[c]
        for k in range(out.shape[1]):
            total[k] = (a[k] + b[k]) + (d[k] + e[k])


@_kernel
def _missed_between(own, other, left, i, four, out):  # type: ignore[no-untyped-def]
    """What remains of a step along ``own`` (3, I, J, K) and back along ``other``, which is as large and flat, from the
    middles between voxel planes ``i`` and ``i`` + 1 that have a voxel that is ``left`` beside them → ``out`` (3, J, K),
    by way of ``four`` (3, K)."""
    _, size_i, size_j, size_k = own.shape
    half, eighth = np.float32(0.5), np.float32(0.125)
    for j in range(size_j - 1):
        _four_rows(own[:, i], own[:, i + 1], j, four)
        a, b, c, d = left[i, j], left[i, j + 1], left[i + 1, j], left[i + 1, j + 1]
        for k in range(size_k - 1):
            if (a[k] | b[k] | c[k] | d[k] | a[k + 1] | b[k + 1] | c[k + 1] | d[k + 1]) == 0:
                continue
            x = eighth * (four[0, k] + four[0, k + 1])
            y = eighth * (four[1, k] + four[1, k + 1])
            z = eighth * (four[2, k] + four[2, k + 1])
            to_x, to_y, to_z = np.float32(i) + half + x, np.float32(j) + half + y, np.float32(k) + half + z
            p, q, r = _vector(other, size_i, size_j, size_k, to_x, to_y, to_z)
            out[0, j, k], out[1, j, k], out[2, j, k] = x + p, y + q, z + r


@_kernel
def half_corrected(both, left, enough, out, done, start, stop):  # type: ignore[no-untyped-def]
    """What two displacements ``both`` (2, 3, I, J, K), voxels, become when each takes half of Newton's step towards
    undoing the other → ``out``, where ``left`` (I, J, K) is 1; ``done`` becomes 1 where neither was off by more than
    ``enough``. What is undone is the mean of what a voxel and the eight points between it and its neighbours miss: a
    field that is right at its voxels and read linearly is off by all of its bends between them. A range of axis i."""
    _, _, size_i, size_j, size_k = both.shape
    half, sixteenth = np.float32(0.5), np.float32(0.0625)
    fields = both.reshape(2, -1)
    between = np.zeros((2, 2, 3, size_j, size_k), np.float32)  # by side, and before and after the plane
    four = np.zeros((3, size_k), np.float32)
    for i in range(start, stop):
        for s in range(2):
            own, undone, same, other = both[s], out[s], fields[s], fields[1 - s]
            if i == start and i > 0:
                _missed_between(own, other, left, i - 1, four, between[s, (i - 1) % 2])
            if i < size_i - 1:
                _missed_between(own, other, left, i, four, between[s, i % 2])
            before, after = between[s, (i - 1) % 2], between[s, i % 2]
            for j in range(size_j):
                inner = 0 < i < size_i - 1 and 0 < j < size_j - 1
                if inner:
                    _four_rows(before, after, j - 1, four)
                for k in range(size_k):
                    if left[i, j, k] == 0:
                        continue
                    x, y, z = own[0, i, j, k], own[1, i, j, k], own[2, i, j, k]
                    to_x, to_y, to_z = np.float32(i) + x, np.float32(j) + y, np.float32(k) + z
                    p, q, r = _vector(other, size_i, size_j, size_k, to_x, to_y, to_z)
                    p, q, r = p + x, q + y, r + z
                    if inner and 0 < k < size_k - 1:
                        p = half * p + sixteenth * (four[0, k - 1] + four[0, k])
                        q = half * q + sixteenth * (four[1, k - 1] + four[1, k])
                        r = half * r + sixteenth * (four[2, k - 1] + four[2, k])
                    good = p * p + q * q + r * r <= enough * enough
                    done[i, j, k] = good if s == 0 else good & done[i, j, k]
                    # φ(x + r) − φ(x) is the derivative of φ along r, and that the inverse of the other's derivative.
                    to_x, to_y, to_z = np.float32(i) + p, np.float32(j) + q, np.float32(k) + r
                    to_x, to_y, to_z = _vector(same, size_i, size_j, size_k, to_x, to_y, to_z)
                    undone[0, i, j, k] = x - (p + to_x - x) * half
                    undone[1, i, j, k] = y - (q + to_y - y) * half
                    undone[2, i, j, k] = z - (r + to_z - z) * half


@_kernel
def adopt(out, left, done, both, start, stop):  # type: ignore[no-untyped-def]
    """What :func:`half_corrected` found becomes ``both``; what is ``done`` is no longer ``left``."""
    for i in range(start, stop):
        for j in range(left.shape[1]):
            for k in range(left.shape[2]):
                if left[i, j, k]:
                    for s in range(2):
                        for c in range(3):
                            both[s, c, i, j, k] = out[s, c, i, j, k]
                    left[i, j, k] = not done[i, j, k]


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
            one, weight = source[a, min(max(first[p] + t, 0), last)], weights[p, t]
            if t == 0:
                for b in range(width):
                    total[b] = weight * one[b]
            else:
                for b in range(width):
                    total[b] += weight * one[b]


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
def averaged(x, weights, out, start, stop):  # type: ignore[no-untyped-def]
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
                padded[:reach], padded[reach + size_k :] = source[0], source[size_k - 1]
                padded[reach : reach + size_k] = source
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


@_exact_kernel
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


@_exact_kernel
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


@_exact_kernel
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
