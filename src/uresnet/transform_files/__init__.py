"""Transform files of ITK, ANTs, FSL, FreeSurfer, greedy and others, and what the commands do with them."""

from uresnet.transform_files.files import (
    FORMATS,
    FileKind,
    TransformPair,
    export_files,
    is_affine,
    parse_formats,
    read_transform,
    write_itk_affine,
    write_itk_composite,
    write_transform,
    write_warp,
)

__all__ = [
    "FORMATS",
    "FileKind",
    "TransformPair",
    "export_files",
    "is_affine",
    "parse_formats",
    "read_transform",
    "write_itk_affine",
    "write_itk_composite",
    "write_transform",
    "write_warp",
]
