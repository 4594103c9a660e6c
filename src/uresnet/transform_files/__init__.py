"""Transform files of ITK, ANTs, FSL, FreeSurfer, greedy and others, and what the commands do with them."""

from uresnet.transform_files.apply import (
    Applied,
    apply_to_points,
    apply_transform,
    jacobian_of,
    read_chain,
)
from uresnet.transform_files.convert import convert_transform
from uresnet.transform_files.files import (
    FORMATS,
    FileKind,
    check_holds,
    export_files,
    parse_formats,
    read_transform,
    write_transform,
)
from uresnet.transform_files.formats.itk import write_itk_affine, write_itk_composite
from uresnet.transform_files.formats.nifti import write_warp
from uresnet.transform_files.formats.pair import TransformPair
from uresnet.transform_files.points import PointTable, map_points, read_points, write_points

__all__ = [
    "FORMATS",
    "Applied",
    "FileKind",
    "PointTable",
    "TransformPair",
    "apply_to_points",
    "apply_transform",
    "check_holds",
    "convert_transform",
    "export_files",
    "jacobian_of",
    "map_points",
    "parse_formats",
    "read_chain",
    "read_points",
    "read_transform",
    "write_itk_affine",
    "write_itk_composite",
    "write_points",
    "write_transform",
    "write_warp",
]
