"""What a mass in the moving brain costs elsewhere: the same pairs registered as they are and with a mass painted in.

    python benchmarks/painted_mass.py OASIS_MALF OUT [--pairs 1101-1107 ...] [--radius 26] [--push 0] [--threads 2]

The mass has a core, a rim and oedema (``training/examples/abnormal.py``), its middle at a random voxel of the white
matter; the pair's number is the seed. ``--push`` moves its surroundings outwards by that share of its radius, with
their labels. Both registrations are made by ``uresnet register``; SimpleITK warps the manual labels by the exported
transforms. Dice is the mean over the fifteen structures of the paper's Table 1, over the voxels of the fixed image
onto which neither registration brings the mass. OUT/painted_mass.md is the table: both Dice, and how much of the mass
was found.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK as sitk
import torch

from accuracy import METHODS, NEUROMORPHOMETRICS, SCHEME, VAL, merged, register, stamp, warped
from uresnet.core.coordinates import identity_coordinates
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import neuromorphometrics_to_freesurfer
from uresnet.core.sampling import sample
from uresnet.io import read_image, read_labels, write_image, write_labels
from uresnet.measures.overlap import dice_per_class
from uresnet.training.examples import abnormal
from uresnet.training.examples.contrasts import Tissues
from uresnet.training.examples.draws import fraction

MASSES = (25, 57)
COLUMNS = ("pair", "as it is", "with a mass", "lost", "painted, ml", "found, ml", "verdict")


def painted(image: Image, labels: LabelMap, radius: float, push: float, seed: int) -> tuple[Image, LabelMap, LabelMap]:
    """The image, its labels and the mask of the mass that was painted in; voxels of 1 mm."""
    generator = torch.Generator().manual_seed(seed)
    values, ids = image.data[None, None], labels.data[None, None]
    freesurfer = torch.from_numpy(neuromorphometrics_to_freesurfer(labels.data.numpy(), np.array(True)))[None, None]
    white = abnormal.one_of(freesurfer, abnormal.WHITE_MATTER)[0, 0].nonzero()
    centre = white[int(torch.randint(len(white), (1,), generator=generator))].float().view(1, 3, 1, 1, 1)
    mass = abnormal.Mass(centre, radius, push)
    before = mass.before(identity_coordinates(values.shape[2:]))
    values = sample(values, before)
    ids, freesurfer = (sample(x.float(), before, mode="nearest").to(x.dtype) for x in (ids, freesurfer))
    greys = [float(values[abnormal.one_of(freesurfer, kind)].median()) for kind in ((2, 41), (3, 42), (4, 43))]
    tissues, grain = Tissues(*greys), 0.08 * greys[0]
    parts = abnormal.mass_shape(mass, freesurfer, values > 0, generator)
    kinds: tuple[tuple[torch.Tensor, abnormal.Kind], ...] = (
        (parts.oedema, "lesion"),
        (parts.whole, "core"),
        (parts.rim, "rim"),
    )
    for share, kind in kinds:
        value = abnormal.brightness(kind, "T1", tissues, fraction(generator), generator)
        values = abnormal.blended(values, share, value, grain, generator).clamp_min(0)
    there = LabelMap((parts.whole[0, 0] > 0.5).to(torch.uint8), image.grid)
    return replace(image, data=values[0, 0]), replace(labels, data=ids[0, 0]), there


def measured(data: Path, moving: str, fixed: str, seed: int, given: argparse.Namespace) -> tuple[str, ...]:
    """A row of the table."""
    method = METHODS["default"]
    paths = {scan: data / f"{scan}_T1.nii.gz" for scan in (moving, fixed)}
    like = data / f"{fixed}_labels.nii.gz"
    truth = merged(sitk.GetArrayFromImage(sitk.ReadImage(str(like))).astype(np.int32), NEUROMORPHOMETRICS)
    with TemporaryDirectory() as name:
        folder = Path(name)
        image, labels = read_image(paths[moving]), read_labels(data / f"{moving}_labels.nii.gz")
        sick, moved, mass = painted(image, labels, given.radius, given.push, seed)
        write_image(sick, folder / "sick.nii.gz")
        write_labels(moved, folder / "moved.nii.gz")
        write_labels(mass, folder / "mass.nii.gz")
        cases = {"plain": (paths[moving], Path(labels.path)), "sick": (folder / "sick.nii.gz", folder / "moved.nii.gz")}
        found, hidden = [], torch.zeros(truth.shape, dtype=torch.bool)
        for case, (start, map_) in cases.items():
            (folder / case).mkdir()
            register(method, start, paths[fixed], folder / case, given.threads)
            found.append(merged(warped(method, folder / case, map_, like), NEUROMORPHOMETRICS))
            hidden |= torch.from_numpy(warped(method, folder / case, folder / "mass.nii.gz", like)) > 0
        rows = [line.split("\t") for line in (folder / "sick/result/volumes.tsv").read_text("utf-8").splitlines()]
        column = rows[0].index("moving_mm3")
        ml = sum(float(row[column]) for row in rows[1:] if row[0] in map(str, MASSES) and row[column] != "n/a") / 1000
        verdict = (folder / "sick/result/run.json").read_text("utf-8").partition('"verdict": "')[2].partition('"')[0]
    plain, sick_dice = (
        float(dice_per_class(classes[~hidden], truth[~hidden], SCHEME.number_of_classes).nanmean()) for classes in found
    )
    volume = float(mass.data.sum()) * image.grid.voxel_volume / 1000
    numbers = (f"{plain:.4f}", f"{sick_dice:.4f}", f"{plain - sick_dice:+.4f}", f"{volume:.0f}", f"{ml:.0f}")
    return (f"{moving} → {fixed}", *numbers, verdict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Paint, register, judge, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    ring = [f"{scan}-{VAL[(n + 1) % len(VAL)]}" for n, scan in enumerate(VAL)]
    parser.add_argument("--pairs", nargs="+", default=ring, help="MOVING-FIXED …")
    parser.add_argument("--radius", type=float, default=26, help="of the mass, mm")
    parser.add_argument(
        "--push", type=float, default=0, help="by which its surroundings are moved, share of the radius"
    )
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(arguments)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for seed, pair in enumerate(given.pairs):
        moving, _, fixed = pair.partition("-")
        row = measured(given.data, moving, fixed, seed, given)
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    title = f"# A mass of {given.radius:g} mm radius in the moving brain, push {given.push:g}"
    given.output.mkdir(parents=True, exist_ok=True)
    (given.output / "painted_mass.md").write_text("\n".join([title, "", *lines, "", stamp()]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
