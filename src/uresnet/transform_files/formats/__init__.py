"""Other programs' transform files, one module a program; each format's quirks are undone in its own module.

What they share: NIfTI volumes of vectors (``vectors``), matrices in plain text (``matrices``), and a transform as a
warp followed by an affine (``pair``), which is how most programs want it.
"""
