"""Loops over voxels that Numba compiles, for what PyTorch's operators are several times slower at on a CPU.

They are called through :mod:`uresnet.core.ops`, which holds the same operations with PyTorch's operators for a GPU and
for gradients. Every kernel is compiled once on a machine: Numba keeps the result beside these files or in the user's
cache.
"""
