"""How well strokes and tumours are found that were painted into healthy brains, in three contrasts.

    python benchmarks/painted_lesions.py SUBJECTS STROKE_MASKS OUT [--model NAME|FILE] [--number 12]

SUBJECTS are FreeSurfer's (``mri/norm.mgz``, ``mri/aseg.mgz``); STROKE_MASKS is a folder of masks of real strokes, whose
shapes are used, turned and scaled at random. Each kind of tissue (``stroke``; ``mass``, with core, rim and oedema;
``infiltrating``, without) is painted into each person NUMBER times, in turn into the T1-weighted image and into this
image remapped to T2 and FLAIR (``training/examples``); the number is the seed. ``uresnet.segment`` then says what is
abnormal (ids 25, 57 and 77). OUT/painted_lesions.tsv has a line for each image, OUT/painted_lesions.md the means.
Brightness is invented, and nothing but the tissue itself changes: patients' scans are harder.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import uresnet
from uresnet.core.image import Image
from uresnet.core.labels import ABNORMAL
from uresnet.io import read_image, read_labels
from uresnet.measures.overlap import dice_per_class
from uresnet.model.checkpoint import load_model
from uresnet.preprocess import conform
from uresnet.training.data.label_maps import read_shapes
from uresnet.training.examples import abnormal
from uresnet.training.examples.contrasts import Family, draw_tissues, mean_tissues, remapped
from uresnet.training.examples.draws import fraction
from uresnet.training.examples.intensities import blurred
from uresnet.transform import Affine, resample

CONTRASTS: tuple[Family, ...] = ("T1", "T2", "FLAIR")
KINDS = ("stroke", "mass", "infiltrating")
RADII = (9.0, 18.0)  # mm, of masses
EDGE = 0.4  # mm, of the blur between abnormal tissue and what surrounds it
GRAIN = 0.08  # of the brightness of abnormal tissue
MISSED = 0.1  # Dice below which it was missed
USUAL = {2: 0.85, 3: 0.6, 4: 0.2}  # of T1-weighted tissues that a person has too few voxels of


@dataclass(frozen=True)
class Person:
    """A T1-weighted image and FreeSurfer ids on its grid, (1, 1, I, J, K), voxels of 1 mm."""

    name: str
    image: Image
    t1: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Found:
    """One painted image: millilitres that were painted and found, and the Dice of both."""

    person: str
    number: int
    kind: str
    contrast: str
    painted: float
    found: float
    dice: float


def read_person(labels: Path) -> Person:
    """Of ``mri/aseg.mgz`` and the image beside it."""
    image, truth = read_image(labels.with_name("norm.mgz")), read_labels(labels)
    seen = conform(image, spec=load_model("default").conform)
    ids = resample(Affine.identity(), truth, seen.grid, "nearest").data.to(torch.uint8)[None, None]
    return Person(labels.parts[-3], Image(seen.tensor[0, 0], seen.grid), seen.tensor, ids)


def shares(
    kind: str, labels: Tensor, brain: Tensor, masks: Sequence[Tensor], generator: torch.Generator
) -> list[tuple[Tensor, abnormal.Kind]]:
    """What is painted, in this order: the share of every voxel, (1, 1, I, J, K), and what it is."""
    if kind == "stroke":
        number = int(torch.randint(len(masks), (1,), generator=generator))
        return [(abnormal.stroke(labels, brain, masks[number], generator), "cavity")]
    mass = abnormal.draw_mass(labels, RADII, generator)
    assert mass is not None
    mass = replace(mass, push=0.0)
    if kind == "infiltrating":
        return [(abnormal.infiltration(mass, labels, brain, generator), "infiltration")]
    parts = abnormal.mass_shape(mass, labels, brain, generator)
    return [(parts.oedema, "lesion"), (parts.whole, "core"), (parts.rim, "rim")]


def painted(person: Person, kind: str, contrast: Family, masks: Sequence[Tensor], seed: int) -> tuple[Image, Tensor]:
    """The image in a ``contrast`` with abnormal tissue, and where this is, (I, J, K) bool."""
    generator = torch.Generator().manual_seed(seed)
    inside = person.t1 > 0
    tissues, image = mean_tissues(person.t1, person.labels, _usual()), person.t1
    if contrast != "T1":
        wanted = draw_tissues(contrast, generator)
        image, tissues = remapped(image, tissues, wanted, generator), wanted
    amount = fraction(generator)
    whole = torch.zeros_like(inside)
    for share, what in shares(kind, person.labels, inside, masks, generator):
        value = abnormal.brightness(what, contrast, tissues, amount, generator)
        image = abnormal.blended(image, blurred(share, EDGE), value, GRAIN, generator)
        whole |= share > 0.5
    return replace(person.image, data=(image.clamp_min(1e-3) * inside)[0, 0]), (whole & inside)[0, 0]


def measured(person: Person, masks: Sequence[Tensor], number: int, kind: str, model: str | None) -> Found:
    """Paint, look, compare."""
    contrast = CONTRASTS[number % len(CONTRASTS)]
    image, whole = painted(person, kind, contrast, masks, number)
    seen = uresnet.segment(image, model=model).labels.data
    found = torch.isin(seen, torch.tensor(ABNORMAL, dtype=seen.dtype))
    dice = float(dice_per_class(found.byte(), whole.byte(), 2)[0])
    return Found(person.name, number, kind, contrast, float(whole.sum()) / 1000, float(found.sum()) / 1000, dice)


def table(results: Sequence[Found]) -> str:
    """Means by kind and contrast; missed are those with a Dice below 0.1."""
    lines = ["| | contrast | images | painted, ml | found, ml | Dice | missed |", "|---|---|---|---|---|---|---|"]
    for kind in KINDS:
        for contrast in CONTRASTS:
            of = [found for found in results if (found.kind, found.contrast) == (kind, contrast)]
            if of:
                means = (mean(found.painted for found in of), mean(found.found for found in of))
                dice, missed = mean(found.dice for found in of), sum(found.dice < MISSED for found in of)
                cells = (kind, contrast, str(len(of)), *(f"{ml:.1f}" for ml in means), f"{dice:.2f}", str(missed))
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a line for each image, and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("subjects", "stroke_masks", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--model")
    parser.add_argument("--number", type=int, default=12)
    given = parser.parse_args(arguments)
    masks, results = read_shapes(given.stroke_masks), list[Found]()
    lines = ["\t".join(field.name for field in fields(Found))]
    for labels in sorted(given.subjects.glob("*/mri/aseg.mgz")):
        person = read_person(labels)
        for kind in KINDS:
            for number in range(given.number):
                found = measured(person, masks, number, kind, given.model)
                results.append(found)
                values = astuple(found)
                lines.append("\t".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in values))
                print(lines[-1], flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "painted_lesions.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (given.out / "painted_lesions.md").write_text(table(results), encoding="utf-8")
    print(table(results))


def _usual() -> Tensor:
    greys = torch.zeros(256)
    greys[list(USUAL)] = torch.tensor(list(USUAL.values()))
    return greys


if __name__ == "__main__":
    main()
