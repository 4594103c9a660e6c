"""Image files to images on grids, and back."""

from uresnet.io.dicom import is_dicom, read_dicom
from uresnet.io.volumes import (
    NIBABEL_SUFFIXES,
    SIMPLEITK_SUFFIXES,
    WRITABLE_SUFFIXES,
    Series,
    read_grid,
    read_image,
    read_labels,
    read_series,
    write_colour_table,
    write_image,
    write_itksnap_labels,
    write_label_table,
    write_labels,
    write_series,
    write_slicer_colours,
)

__all__ = [
    "NIBABEL_SUFFIXES",
    "SIMPLEITK_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "Series",
    "is_dicom",
    "read_dicom",
    "read_grid",
    "read_image",
    "read_labels",
    "read_series",
    "write_colour_table",
    "write_image",
    "write_itksnap_labels",
    "write_label_table",
    "write_labels",
    "write_series",
    "write_slicer_colours",
]
