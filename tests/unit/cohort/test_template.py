"""A mean brain: the mean of all maps is the identity, whichever image comes first, and a stopped build goes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from brains import FIELDS_OF_VIEW, brain_on, write_nifti
from cohorts import Here, options_for
from uresnet.cohort.jobs import Job, Options, Outcome
from uresnet.cohort.run import plan, run
from uresnet.cohort.table import scan_of
from uresnet.cohort.template import Member, TemplateOptions, _mean_image, build_template
from uresnet.core.grid import Grid
from uresnet.core.reading import read_rows
from uresnet.io import read_image, read_labels
from uresnet.transform import Affine, Composite, displacement_on
from uresnet.transform_files import read_transform, write_itk_composite

SHIFTS = ((-9.0, 3.0, -4.0), (9.0, 3.0, 64.0))
GRID = Grid.centred((8, 8, 8), (10.0, 10.0, 10.0), ("R", "A", "S"), (0.0, 3.0, 30.0))  # about the mean of the shifts


def test_the_mean_of_shifted_brains(tmp_path: Path, still_model: Path) -> None:
    """The model shifts centre of mass to centre of mass, to a voxel of 4 mm."""
    view, images = FIELDS_OF_VIEW["RAS"], []
    for n, shift in enumerate(SHIFTS):
        around = Grid.centred(view.shape, view.zooms, "RAS", view.centre_world + shift)
        images.append(write_nifti(brain_on(around, shift), around, tmp_path / f"s{n}.nii.gz"))
    scans = [(image.name.split(".")[0], scan_of(image)) for image in images]
    out, base, seen = tmp_path / "mean", options_for(tmp_path, still_model), list[str]()
    (out / "rounds").mkdir(parents=True)

    def do(jobs: Sequence[Job], options: Options) -> Sequence[Outcome]:
        engine = Here(options)
        outcomes = run(plan(jobs, options), options, engine)
        seen.extend(engine.seen)
        return outcomes if len(seen) % 4 else outcomes[::-1]  # they end in any order

    settings = TemplateOptions(iterations=1, spacing=4.0, sharpening=0.0)
    rounds = build_template(scans, out, base, settings, do)
    assert len(seen) == 4 and [r.images for r in rounds] == [2, 2]
    build_template(scans, out, base, settings, do)
    assert len(seen) == 4  # everything was there
    lost = [out / "affine_mean.nii.gz", out / "transforms" / f"template_to_{scans[1][0]}.h5"]
    whole = [path.read_bytes() for path in lost]
    lost[0].unlink()
    lost[1].write_bytes(whole[1][:100])
    build_template(scans, out, base, settings, do)
    assert len(seen) == 4 and [path.stat().st_size for path in lost] == [len(content) for content in whole]

    _, rows = read_rows(out / "convergence.tsv")
    assert [float(row["mean_left_mm"]) < 0.05 for row in rows] == [True, True]
    names = [name for name, _ in scans]
    maps = {name: read_transform(out / "transforms" / f"{name}_to_template.h5") for name in names}
    mean = torch.stack([displacement_on(forward, GRID).displacement for forward in maps.values()]).mean(dim=0)
    assert float(mean.norm(dim=0).max()) < 0.05
    for name, shift in zip(names, SHIFTS, strict=True):  # so the mean brain lies at the mean of the places
        point = torch.tensor([[10.0, -20.0, 15.0]], dtype=torch.float64)
        moved = maps[name].apply(point)
        assert np.abs((moved - point)[0].numpy() - (np.array(shift) - np.mean(SHIFTS, axis=0))).max() < 4.5
        back = read_transform(out / "transforms" / f"template_to_{name}.h5")
        assert torch.allclose(back.apply(moved), point, atol=0.2)
    picture, labels = read_image(out / "template.nii.gz"), read_labels(out / "template_dseg.nii.gz")
    assert picture.grid.same_as(labels.grid) and float(picture.data.max()) > 50
    bright = (picture.data > 20).nonzero()  # whole, though far from where the first image lies
    assert bool((bright.amin(dim=0) > 0).all()) and bool(
        (bright.amax(dim=0) < torch.tensor(picture.data.shape) - 1).all()
    )
    assert "Mean brain mean" in (out / "template.html").read_text(encoding="utf-8")


def test_the_mean_is_empty_where_most_images_are(tmp_path: Path) -> None:
    grid, still = FIELDS_OF_VIEW["LPS"], Composite([Affine.identity()])
    sizes, members = (3, 5, 7), []
    for size in sizes:
        cube = np.zeros(grid.shape, np.float32)
        cube[20 - size : 20 + size, 20 - size : 20 + size, 20 - size : 20 + size] = 50 * size
        folder = tmp_path / f"{size}"
        folder.mkdir()
        write_nifti(cube, grid, folder / "image.nii.gz")
        write_nifti((cube > 0).astype(np.uint8), grid, folder / "moving_dseg.nii.gz")
        write_itk_composite(still, folder / "transform.h5")
        members.append(Member(f"{size}", str(folder / "image.nii.gz"), folder))
    mean = _mean_image(members, still, grid)[0].data.numpy()
    inside = np.all([(i >= 15) & (i < 25) for i in np.indices(grid.shape)], axis=0)  # in two of three
    np.testing.assert_array_equal(mean > 0, inside)
    np.testing.assert_allclose(mean[20, 20, 20], 100, rtol=1e-5)
    np.testing.assert_allclose(mean[16, 16, 16], 200 / 3, rtol=1e-5)
