"""Image files to images on grids, and back."""

from uresnet.io.label_tables import write_colour_table, write_itksnap_labels, write_label_table, write_slicer_colours
from uresnet.io.volumes import (
    WRITABLE_SUFFIXES,
    Series,
    read_grid,
    read_image,
    read_labels,
    read_series,
    write_image,
    write_labels,
    write_series,
)

__all__ = [
    "WRITABLE_SUFFIXES",
    "Series",
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
