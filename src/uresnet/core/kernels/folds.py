"""The kernel that finds where a displacement folds."""

from __future__ import annotations

import numpy as np

from uresnet.core.kernels.compiling import compiler

_kernel = compiler({"contract", "reassoc", "nsz"})


@_kernel
def find_folds(u, out, start, stop):  # type: ignore[no-untyped-def]
    """Where det(I + ∂u/∂x) by central differences is not positive, for ``u`` (3, I, J, K), voxels → ``out`` (I, J, K)
    bool, the faces left as they are. A range of axis i."""
    _, size_i, size_j, size_k = u.shape
    half, one = np.float32(0.5), np.float32(1)
    for i in range(max(start, 1), min(stop, size_i - 1)):
        for j in range(1, size_j - 1):
            for k in range(1, size_k - 1):
                a = one + half * (u[0, i + 1, j, k] - u[0, i - 1, j, k])
                b = half * (u[0, i, j + 1, k] - u[0, i, j - 1, k])
                c = half * (u[0, i, j, k + 1] - u[0, i, j, k - 1])
                d = half * (u[1, i + 1, j, k] - u[1, i - 1, j, k])
                e = one + half * (u[1, i, j + 1, k] - u[1, i, j - 1, k])
                f = half * (u[1, i, j, k + 1] - u[1, i, j, k - 1])
                g = half * (u[2, i + 1, j, k] - u[2, i - 1, j, k])
                h = half * (u[2, i, j + 1, k] - u[2, i, j - 1, k])
                m = one + half * (u[2, i, j, k + 1] - u[2, i, j, k - 1])
                determinant = a * (e * m - f * h) - b * (d * m - f * g) + c * (d * h - e * g)
                out[i, j, k] = not determinant > 0
