"""What a registration and a segmentation write for other programs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch

from brains import brain_on, write_nifti
from grids import turned
from uresnet.core.grid import Grid
from uresnet.io import read_labels
from uresnet.pipeline.register import register
from uresnet.pipeline.segment import segment
from uresnet.transform_files import FORMATS, FileKind, read_chain, read_transform

WALK_THROUGHS = Path(__file__).resolve().parents[3] / "docs" / "slicer-itksnap.md"
MOVING = Grid.centred((44, 50, 40), (4.2, 4.4, 4.6), "LPS", (3.0, -7.0, 12.0))
FIXED = turned(Grid.centred((50, 44, 46), (4.0, 4.8, 3.8), "LAS", (5.0, 20.0, -30.0)), (-6.0, 9.0, 14.0))


ROUNDED_MM = 0.01
"""Displacements in files are rounded to 1/128 mm: off by half of that along each axis, and by 0.002 in exports."""


def test_a_registration_in_every_format(tmp_path: Path, tiny_model: Path) -> None:
    moving = write_nifti(brain_on(MOVING), MOVING, tmp_path / "moving.nii.gz")
    fixed = write_nifti(brain_on(FIXED, (6.0, 18.0, -28.0)), FIXED, tmp_path / "fixed.nii.gz")
    result = register(moving, fixed, model=tiny_model, brain="none")
    out = tmp_path / "out"
    result.save(out, formats=tuple(FORMATS))
    voxels = read_labels(out / "fixed_dseg.nii.gz").mask.nonzero()[::200]
    points = torch.from_numpy(FIXED.points_to_world(voxels.numpy()))
    expected = result.transform.apply(points)
    there = FileKind(None, FIXED, MOVING)
    for name, kind in (
        ("transform.h5", None),
        ("nifti_warp.nii.gz", None),
        ("freesurfer_warp.mgz", None),
        ("fsl_warp.nii.gz", there),
        ("learn2reg_disp.nii.gz", FileKind("learn2reg", FIXED, MOVING)),
    ):
        torch.testing.assert_close(read_transform(out / name, kind).apply(points), expected, atol=ROUNDED_MM, rtol=0)
    for kind, *chain in (
        (FileKind("ants"), "ants_1Warp.nii.gz", "ants_0GenericAffine.mat"),
        (FileKind("greedy"), "greedy_warp.nii.gz", "greedy_affine.mat"),
    ):
        found = read_chain([out / name for name in chain], kind).apply(points)
        torch.testing.assert_close(found, expected, atol=ROUNDED_MM, rtol=0)
    assert {path.name for path in out.iterdir()} >= {
        "fsl_flirt.mat",
        "freesurfer_affine.lta",
        "ants_1InverseWarp.nii.gz",
    }
    named = set(re.findall(r"out/([\w.]+\.\w+)", WALK_THROUGHS.read_text(encoding="utf-8")))
    assert len(named) > 6 and named <= {path.name for path in out.iterdir()}  # what people are told to open is there
    last = (out / "volumes.tsv").read_text(encoding="utf-8").splitlines()[-1].split("\t")
    mask = [
        np.count_nonzero(brain_on(grid, at)) * grid.voxel_volume
        for grid, at in ((MOVING, (0, 0, 0)), (FIXED, (6, 18, -28)))
    ]
    assert last[:2] == ["n/a", "Brain-Mask"] and np.allclose([float(v) for v in last[2:4]], mask, rtol=0.02)


def test_a_segmentation_has_its_tables_beside_it(tmp_path: Path, tiny_model: Path) -> None:
    image = write_nifti(brain_on(MOVING), MOVING, tmp_path / "image.nii.gz")
    (tmp_path / "out").mkdir()
    segment(image, model=tiny_model, brain="none").save(tmp_path / "out" / "sub-01_dseg.nii.gz", report=False)
    tables = {"sub-01_dseg.tsv", "sub-01_dseg_volumes.tsv", "sub-01_dseg_itksnap.txt"}
    tables |= {"sub-01_dseg_freeview.txt", "sub-01_dseg_slicer.ctbl", "sub-01_dseg_run.json"}
    tables.add("sub-01_dseg_volumes.json")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"sub-01_dseg.nii.gz", *tables}
    rows = [
        line.split("\t")
        for line in (tmp_path / "out" / "sub-01_dseg_volumes.tsv").read_text(encoding="utf-8").splitlines()
    ]
    assert (
        rows[0] == ["index", "name", "image_mm3", "image_predicted_dice"]
        and rows[-1][1] == "Brain-Mask"
        and float(rows[-1][2]) > 1e6
    )
