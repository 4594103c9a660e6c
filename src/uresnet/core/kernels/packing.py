"""A kernel that brings values into the order and the bytes of a file."""

from __future__ import annotations

import numpy as np

from uresnet.core.kernels.compiling import compiler

_kernel = compiler(set())
_TILE = 8  # rows and columns: what is read and written together stays in the cache


@_kernel
def shuffled_vectors(vectors, signs, quantum, out, start, stop):  # type: ignore[no-untyped-def]
    """Slices ``start`` to ``stop`` along the last axis of ``vectors`` (3, I, J, K) → ``out`` (4, N) uint8: the first
    bytes of all values, then the second ones, …

    Values are float32, the component fastest, then i, j, k; each component is multiplied by one of ``signs`` (3,), and
    rounded to multiples of ``quantum`` unless that is 0. N is 3 · I · J · slices.
    """
    _, size_i, size_j, _ = vectors.shape
    count = stop - start
    value = np.empty(count, np.float32)
    bits = value.view(np.uint32)
    for tile_j in range(0, size_j, _TILE):
        for tile_i in range(0, size_i, _TILE):
            for j in range(tile_j, min(tile_j + _TILE, size_j)):
                for i in range(tile_i, min(tile_i + _TILE, size_i)):
                    for c in range(3):
                        row = vectors[c, i, j]
                        for k in range(count):
                            value[k] = row[start + k] * signs[c]
                            if quantum > 0:
                                value[k] = np.float32(np.rint(value[k] / quantum)) * quantum
                        for k in range(count):
                            at = ((k * size_j + j) * size_i + i) * 3 + c
                            out[0, at] = bits[k] & 255
                            out[1, at] = (bits[k] >> 8) & 255
                            out[2, at] = (bits[k] >> 16) & 255
                            out[3, at] = bits[k] >> 24
