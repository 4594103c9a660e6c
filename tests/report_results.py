"""A made-up pair for tests of the report: egg-shaped heads with known tissues, in memory or as an output folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import SCHEMES, LabelScheme, mirrored_id
from uresnet.io import write_image, write_label_table, write_labels
from uresnet.measures.volumes import structure_volumes, volumes_table
from uresnet.quality.signs import image_signs, measure_signs
from uresnet.quality.verdict import judge, judge_image
from uresnet.results.record import InputRecord, Measures, ModelRecord, RunRecord
from uresnet.results.registration import RegisteredPair, volumes_by_image
from uresnet.results.segmentation import SegmentedImage
from uresnet.transform import Affine, Composite, DisplacementField, jacobian_determinant, resample
from uresnet.transform_files import write_itk_composite

SCHEME = SCHEMES["tissue3"]
SIDED = SCHEMES["freesurfer28"]
RADII = np.array([40.0, 52.0, 36.0])
MARK = np.array([-22.0, 20.0, 12.0])
"""A bright ball, left, front and top of the middle: where it appears says which way a picture hangs."""

FIXED = Grid.centred((44, 40, 30), (2.2, 3.0, 3.0), "LAS", (70.0, -120.0, 300.0))
MOVING = Grid.centred((40, 30, 42), (2.5, 3.0, 3.0), "PIR", (-5.0, 10.0, 0.0))


def head(grid: Grid, stretch: float = 1.0) -> tuple[Image, LabelMap, LabelMap]:
    """(image, brain, segmentation) of an egg in the middle of a grid: white inside, grey shell, dark ventricle."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    where = grid.points_to_world(index) - grid.centre_world
    depth = np.linalg.norm(where / (RADII * stretch), axis=-1)
    labels = np.select([depth < 0.25, depth < 0.7, depth < 1.0], [4, 2, 3], 0)
    values = np.select([labels == 4, labels == 2, labels == 3], [30.0, 100.0, 70.0], 0.0)
    values[np.linalg.norm(where - MARK, axis=-1) < 7] = 160.0
    tensor = torch.from_numpy(labels.astype(np.int16))
    image = Image(torch.from_numpy(values), grid, path="somewhere/head.nii.gz")
    return image, LabelMap((tensor > 0).byte(), grid), LabelMap(tensor, grid)


def sided(labels: LabelMap) -> LabelMap:
    """All structures of ``SIDED`` in the place of three: those of a side in slabs from the back to the front, on the
    side where they belong, those of the middle between them."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in labels.grid.shape], indexing="ij"), axis=-1)
    where = labels.grid.points_to_world(index) - labels.grid.centre_world
    lefts = [i for i in SIDED.ids if mirrored_id(i) > i]
    middles = [i for i in SIDED.ids if mirrored_id(i) == i]
    slab = np.clip((where[..., 1] / (2 * RADII[1]) + 0.5) * 0.999, 0, 0.999)
    left = np.array(lefts)[(slab * len(lefts)).astype(int)]
    middle = np.array(middles)[(slab * len(middles)).astype(int)]
    right = np.vectorize(mirrored_id)(left)
    values = np.where(np.abs(where[..., 0]) < 6, middle, np.where(where[..., 0] < 0, left, right))
    return LabelMap(torch.from_numpy(np.where(labels.data.numpy() > 0, values, 0).astype(np.int16)), labels.grid)


def made_up_results(
    fixed_grid: Grid = FIXED, moving_grid: Grid = MOVING, moving_path: str = "", scheme: LabelScheme = SCHEME
) -> RegisteredPair:
    """A pair whose transform is nearly right: a shift between the middles and a wave of 3 mm. ``scheme`` is ``SCHEME``
    or ``SIDED``."""
    moving, moving_brain, moving_labels = head(moving_grid, 1.05)
    fixed, fixed_brain, fixed_labels = head(fixed_grid)
    if scheme is SIDED:
        moving_labels, fixed_labels = sided(moving_labels), sided(fixed_labels)
    index = torch.arange(fixed_grid.shape[0]).float()
    wave = 3 * torch.sin(2 * np.pi * index / fixed_grid.shape[0])[None, :, None, None].expand(3, *fixed_grid.shape)
    shift = np.eye(4)
    shift[:3, 3] = moving_grid.centre_world - fixed_grid.centre_world
    transform = Composite([DisplacementField(wave.contiguous(), fixed_grid), Affine(shift)])
    return RegisteredPair(
        moving=moving,
        fixed=fixed,
        warped=resample(transform, moving, fixed_grid),
        jacobian=Image(jacobian_determinant(transform, fixed_grid), fixed_grid),
        transform=transform,
        moving_segmentation=moving_labels,
        fixed_segmentation=fixed_labels,
        warped_segmentation=resample(transform, moving_labels, fixed_grid),
        scheme=scheme,
        volumes=volumes_by_image(scheme, moving=moving_labels, fixed=fixed_labels),
        record=record(moving, fixed, moving_path, scheme),
        moving_brain=moving_brain,
        fixed_brain=fixed_brain,
    )


def rounded(grid: Grid) -> tuple[float, float, float]:
    """The voxels' size as a record has it."""
    x, y, z = (round(float(zoom), 3) for zoom in grid.zooms)
    return x, y, z


def record(moving: Image, fixed: Image, moving_path: str = "", scheme: LabelScheme = SCHEME) -> RunRecord:
    """A record of registering the two images, without a verdict."""
    paths = {"moving": moving_path or "somewhere/moving.nii.gz", "fixed": "somewhere/fixed.nii.gz"}
    inputs = {
        name: InputRecord(
            path=paths[name],
            shape=image.grid.shape,
            voxel_mm=rounded(image.grid),
            axes="".join(image.grid.axis_codes),
            brain="no skull found, image used as it is",
            brain_mm3=300000.0,
            conformed_shape=(160, 192, 160),
            notes=("voxels copied without interpolation",),
        )
        for name, image in (("moving", moving), ("fixed", fixed))
    }
    return RunRecord(
        finished="2026-01-02T03:04:05+00:00",
        versions={"uresnet": "0.1.0", "torch": "2"},
        model=ModelRecord(name="made-up", kind="uresnet", sha256="0" * 64, scheme=scheme.name),
        device="cpu",
        threads=1,
        inputs=inputs,
        seconds={"read": 0.1, "total": 0.1},
        warnings=(f"{paths['moving']} was too thin; it was resampled.",),
        transform="joint",
        refined=False,
        measures=Measures(
            folding_fraction=0.0,
            sd_log_jacobian=0.1,
            inverse_mean_mm=0.01,
            inverse_max_mm=0.1,
            overlap_before=0.2,
            overlap_after=0.96,
        ),
    )


def judged(pair: RegisteredPair, **signs: Any) -> RegisteredPair:
    """The pair with its verdict in the record, as if its signs had been the given ones where they are given."""
    found = replace(measure_signs(pair), **signs)
    quality = judge(found, pair.record.model).quality(found)
    return replace(pair, record=replace(pair.record, quality=quality))


def made_up_segmentation(pair: RegisteredPair, path: str = "somewhere/fixed.nii.gz") -> SegmentedImage:
    """The fixed image segmented alone, with its verdict."""
    assert pair.fixed is not None and pair.fixed_brain is not None and pair.scheme is not None
    assert pair.fixed_segmentation is not None
    signs = image_signs(pair.fixed, pair.fixed_brain, pair.fixed_segmentation, pair.scheme)
    alone = replace(
        pair.record,
        inputs={"image": replace(pair.record.inputs["fixed"], path=path)},
        transform=None,
        refined=None,
        measures=None,
        quality=judge_image(signs, pair.record.model).quality(signs),
    )
    return SegmentedImage(
        image=pair.fixed,
        labels=pair.fixed_segmentation,
        scheme=pair.scheme,
        volumes=structure_volumes(pair.fixed_segmentation, pair.scheme),
        record=alone,
    )


def write_folder(pair: RegisteredPair, folder: Path) -> Path:
    """The pair as an output folder, the two images beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    assert pair.moving is not None and pair.fixed is not None
    inputs = dict(pair.record.inputs)
    for name, image in (("moving", pair.moving), ("fixed", pair.fixed)):
        path = folder.parent / f"{name}.nii.gz"
        write_image(image, path)
        inputs[name] = replace(inputs[name], path=str(path))
    write_image(pair.warped, folder / "warped.nii.gz")
    write_image(pair.jacobian, folder / "jacobian.nii.gz")
    write_itk_composite(pair.transform, folder / "transform.h5")
    write_itk_composite(pair.transform.inverse(), folder / "inverse_transform.h5")
    for name in ("moving", "fixed", "warped"):
        write_labels(getattr(pair, f"{name}_segmentation"), folder / f"{name}_dseg.nii.gz")
    assert pair.scheme is not None
    write_label_table(pair.scheme, folder / "dseg.tsv")
    (folder / "volumes.tsv").write_text(volumes_table(pair.scheme, pair.volumes), encoding="utf-8")
    (folder / "run.json").write_text(replace(pair.record, inputs=inputs).to_json(), encoding="utf-8")
    return folder
