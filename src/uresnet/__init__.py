"""uresnet: registration and segmentation of 3D brain MRI with one small network."""

__version__ = "0.1.0"
