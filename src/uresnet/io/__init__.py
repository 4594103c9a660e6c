"""Image files to images on grids, and back."""

from uresnet.io.label_tables import write_colour_table, write_itksnap_labels, write_label_table, write_slicer_colours
from uresnet.io.series import Series, check_space, read_series, write_series
from uresnet.io.volumes import (
    WRITABLE_SUFFIXES,
    nifti_bytes,
    read_grid,
    read_image,
    read_labels,
    warn_about_cleaned,
    write_image,
    write_labels,
)

__all__ = [
    "WRITABLE_SUFFIXES",
    "Series",
    "check_space",
    "nifti_bytes",
    "read_grid",
    "read_image",
    "read_labels",
    "read_series",
    "warn_about_cleaned",
    "write_colour_table",
    "write_image",
    "write_itksnap_labels",
    "write_label_table",
    "write_labels",
    "write_series",
    "write_slicer_colours",
]
