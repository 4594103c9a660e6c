"""The signs behind the verdict, on good pairs and on deliberately broken ones: the table that justifies the thresholds.

    python benchmarks/verdict.py DATA OUT.tsv --model NAME|FILE [--only CASE …]

DATA is a folder with ``oasis_malf`` and ``lesions``. Every case is made, registered in memory and judged; nothing but
OUT.tsv is written. A broken case that is called good makes the exit code 1.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

import uresnet
from uresnet.checkpoint import Model, load_model
from uresnet.image import Image
from uresnet.report.verdict import IMAGE_RULES, PAIR_RULES

VAL = ("1101", "1107", "1113", "1119", "1125")


def mirrored(image: Image) -> Image:
    """Left and right exchanged, as when a file loses its orientation."""
    return replace(image, data=image.data.flip(_axis(image, "LR")))


def hemispheres_swapped(image: Image) -> Image:
    """Each half of the brain moved to the other side, not mirrored: the midline faces outwards."""
    axis = _axis(image, "LR")
    middle = round(float(ndimage.center_of_mass((image.data > 0).numpy())[axis]))
    reach = min(middle, image.grid.shape[axis] - middle)
    data = torch.zeros_like(image.data)
    low, high = image.data.narrow(axis, middle - reach, reach), image.data.narrow(axis, middle, reach)
    data.narrow(axis, middle - reach, reach).copy_(high)
    data.narrow(axis, middle, reach).copy_(low)
    return replace(image, data=data)


def half_missing(image: Image) -> Image:
    """Only one hemisphere."""
    axis = _axis(image, "LR")
    data = image.data.clone()
    data.narrow(axis, 0, round(float(ndimage.center_of_mass((data > 0).numpy())[axis]))).zero_()
    return replace(image, data=data)


def top_missing(image: Image) -> Image:
    """The upper 45 % of the brain outside the field of view."""
    axis = _axis(image, "IS")
    rows = np.flatnonzero((image.data > 0).numpy().any(axis=tuple(a for a in range(3) if a != axis)))
    start = int(rows[0] + 0.55 * (rows[-1] - rows[0]))
    data = image.data.clone()
    data.narrow(axis, start, image.grid.shape[axis] - start).zero_()
    return replace(image, data=data)


def back_to_front(image: Image) -> Image:
    """Turned by 180 degrees about the vertical."""
    return replace(image, data=image.data.flip((_axis(image, "LR"), _axis(image, "PA"))))


def upside_down(image: Image) -> Image:
    """Turned by 180 degrees about the front-back axis."""
    return replace(image, data=image.data.flip((_axis(image, "LR"), _axis(image, "IS"))))


def inverted(image: Image) -> Image:
    """Bright becomes dark inside the brain, roughly as T2 weighting does."""
    inside = image.data > 0
    return replace(image, data=torch.where(inside, image.data.max() + 1 - image.data, image.data))


def ball(image: Image) -> Image:
    """No brain: a ball with smooth texture, as large as a brain."""
    axes = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in image.grid.shape], indexing="ij")
    inside = sum((a * z) ** 2 for a, z in zip(axes, image.grid.zooms, strict=True)) < 68**2
    texture = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(image.grid.shape), 3)
    return replace(image, data=torch.from_numpy(np.where(inside, 100 + 20 * texture / texture.std(), 0)).clamp(min=0))


def noise(image: Image) -> Image:
    """A brain's outline filled with noise."""
    values = np.random.default_rng(1).uniform(1, 100, image.grid.shape).astype(np.float32)
    return replace(image, data=torch.from_numpy(values) * (image.data > 0))


BREAKS: dict[str, Callable[[Image], Image]] = {
    "hemispheres swapped": hemispheres_swapped,
    "mirrored": mirrored,
    "half missing": half_missing,
    "top missing": top_missing,
    "back to front": back_to_front,
    "upside down": upside_down,
    "inverted contrast": inverted,
    "textured ball": ball,
    "noise in a brain's outline": noise,
}


def cases(data: Path) -> Iterator[tuple[str, str, Callable[[], tuple[Image, Image]]]]:
    """(kind, name, how to make the pair); kind is "good" or "broken"."""

    def oasis(scan: str) -> Image:
        return uresnet.read_image(data / "oasis_malf" / f"{scan}_T1.nii.gz")

    def patient(number: str, contrast: str) -> Image:
        return uresnet.read_image(data / "lesions" / f"patient{number}_{contrast}.nii.gz")

    for n, moving in enumerate(VAL):
        yield "good", f"{moving} to {VAL[(n + 1) % 5]}", lambda m=moving, n=n: (oasis(m), oasis(VAL[(n + 1) % 5]))
    for n, fixed in enumerate(VAL):
        yield "good", f"{VAL[(n + 1) % 5]} to {fixed}", lambda f=fixed, n=n: (oasis(VAL[(n + 1) % 5]), oasis(f))
    yield "good", "patient 07 T1 to 1113", lambda: (patient("07", "T1"), oasis("1113"))
    for name, broken in BREAKS.items():
        yield "broken", f"1113 {name}, to 1107", lambda b=broken: (b(oasis("1113")), oasis("1107"))
    yield "broken", "patient 07 FLAIR to 1113", lambda: (patient("07", "FLAIR"), oasis("1113"))
    yield "broken", "patient 19 FLAIR to patient 07 FLAIR", lambda: (patient("19", "FLAIR"), patient("07", "FLAIR"))
    yield "broken", "1107 to 1113 mirrored", lambda: (oasis("1107"), mirrored(oasis("1113")))
    yield "broken", "1107 to 1113 half missing", lambda: (oasis("1107"), half_missing(oasis("1113")))


def row(kind: str, name: str, pair: tuple[Image, Image], model: Model) -> dict[str, object]:
    """Register, judge, and flatten the signs."""
    try:
        result = uresnet.register(*pair, model=model, brain="none")
    except uresnet.UserError as error:
        return {"kind": kind, "case": name, "verdict": "refused", "why": str(error)}
    quality = result.record["quality"]
    signs = quality["signs"]
    found: dict[str, object] = {"kind": kind, "case": name, "verdict": quality["verdict"]}
    found |= {rule.sign: signs[rule.sign] for rule in PAIR_RULES}
    found |= {f"{who}_{rule.sign}": signs[who][rule.sign] for who in ("moving", "fixed") for rule in IMAGE_RULES}
    return found | {"why": " | ".join(quality["reasons"])}


def _axis(image: Image, ends: str) -> int:
    """The array axis that runs nearest to a direction, e.g. "LR"."""
    return next(axis for axis, code in enumerate(image.grid.axis_codes) if code in ends)


def main() -> int:
    """Run the cases and write the table as it grows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--only", nargs="*", default=[""], help="only cases whose name holds one of these")
    chosen = parser.parse_args()
    model = load_model(chosen.model)
    columns = ["kind", "case", "verdict", *(r.sign for r in PAIR_RULES)]
    columns += [f"{who}_{rule.sign}" for who in ("moving", "fixed") for rule in IMAGE_RULES]
    wrong = 0
    with chosen.output.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [*columns, "why"], delimiter="\t", restval="")
        table.writeheader()
        for kind, name, make in cases(chosen.data):
            if not any(part in name for part in chosen.only):
                continue
            line = row(kind, name, make(), model)
            table.writerow(line)
            file.flush()
            wrong += kind == "broken" and line["verdict"] == "good"
            print(f"{kind:<7}{name:<42}{line['verdict']:<9}{line['why']}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
