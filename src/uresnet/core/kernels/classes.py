"""The kernels that turn logits into classes and probabilities, and compare the two."""

from __future__ import annotations

import numpy as np

from uresnet.core.kernels.compiling import compiler

_kernel = compiler({"contract", "reassoc", "nsz"})
_ZERO, _ONE = np.float32(0), np.float32(1)


@_kernel
def classify(logits, classes, probabilities, start, stop):  # type: ignore[no-untyped-def]
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
def common(classes, probabilities, count, shared, start, stop):  # type: ignore[no-untyped-def]
    """How many voxels of ``classes`` (2 I, 2 J, 2 K) uint8 have each class → ``count`` (I, C), and the smaller of their
    number and of eight times the probability (C, I, J, K), over blocks of 2×2×2 voxels → ``shared`` (I, C). A range of
    axis i."""
    size, _, size_j, size_k = probabilities.shape
    here, voxels = np.empty(8, np.int64), np.zeros(size, np.int64)
    for i in range(start, stop):
        for j in range(size_j):
            for k in range(size_k):
                for n in range(8):
                    here[n] = classes[2 * i + (n >> 2), 2 * j + (n >> 1 & 1), 2 * k + (n & 1)]
                    voxels[here[n]] += 1
                for c in here:
                    if voxels[c]:
                        count[i, c] += voxels[c]
                        shared[i, c] += min(np.float32(voxels[c]), np.float32(8) * probabilities[c, i, j, k])
                        voxels[c] = 0
