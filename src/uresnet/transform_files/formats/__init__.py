"""Other programs' transform files, one module a program: each program's convention is known in its module alone.

``itk``, ``ants``, ``greedy``, ``fsl``, ``freesurfer``, ``nifti``, ``learn2reg``: the names of the formats on the
command line. They share volumes of vectors in NIfTI (``nifti``), matrices in plain text (``matrices``), and a transform
taken apart into a warp and an affine (``pair``).
"""
