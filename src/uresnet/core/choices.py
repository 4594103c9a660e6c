"""The words that a caller chooses from, on the command line and in Python.

They stand apart from the modules that act on them, so that ``uresnet --help`` lists them without loading torch.
"""

from __future__ import annotations

from typing import Literal

Freedom = Literal["joint", "affine", "rigid", "deformable"]
"""What a registration may change: an affine and a deformation together, or one part of them alone."""

BrainMethod = Literal["auto", "none"]
"""How the brain is found: "auto" strips a skull where there is one, "none" takes every voxel above zero."""

Interpolation = Literal["linear", "nearest", "label", "cubic"]
"""How a value between voxels is computed; "label" gives the label with the largest share of the voxel."""

FormatName = Literal["itk", "ants", "fsl", "freesurfer", "greedy", "nifti", "learn2reg"]
"""The programs whose transform files are read and written."""

LabelConvention = Literal["freesurfer", "neuromorphometrics"]
"""What the numbers in a label map mean."""
