"""The signs behind the verdict, on good pairs and on deliberately broken ones: the table that justifies the thresholds.

    python benchmarks/verdict.py DATA OUT.tsv [--model NAME|FILE] [--device cuda] [--only CASE …]

DATA is a folder with ``oasis_malf``, ``lesions`` and ``freesurfer_subject``; Colin 27 and the ICBM 152 template are
fetched as for the demo. Every case is registered in memory and judged. A row is added to OUT.tsv as soon as it is
known, nothing else is written, and a run that was stopped continues. At the end it prints the range of every sign over
good and over broken pairs beside its bounds, and which signs detected which broken pair. The exit code is 1 if a broken
pair is called good.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

import uresnet
from uresnet.core.choices import BrainMethod
from uresnet.core.image import Image
from uresnet.datasets.demo import COLIN27, ICBM152, fetch_brain
from uresnet.model.checkpoint import Model, load_model
from uresnet.quality.verdict import Finding, Verdict, judge_record
from uresnet.results.json_values import to_json_value
from uresnet.results.record import Level, RunRecord

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


@dataclass(frozen=True)
class Case:
    """A pair that should be called good, or must not be ("broken"), and how its images are made."""

    kind: str
    name: str
    moving: Callable[[], Image]
    fixed: Callable[[], Image]
    brain: BrainMethod = "none"


def cases(data: Path) -> Iterator[Case]:
    """All of them, good ones first."""

    def oasis(scan: str) -> Image:
        return uresnet.read_image(data / "oasis_malf" / f"{scan}_T1.nii.gz")

    def changed(change: Callable[[Image], Image], scan: str) -> Image:
        return change(oasis(scan))

    def flair(number: str) -> Image:
        return uresnet.read_image(data / "lesions" / f"patient{number}_FLAIR.nii.gz")

    def aomic() -> Image:
        return uresnet.read_image(data / "freesurfer_subject" / "sub-0001" / "mri" / "norm.mgz")

    def colin() -> Image:
        return uresnet.read_image(fetch_brain(COLIN27))

    def icbm() -> Image:
        return uresnet.read_image(fetch_brain(ICBM152))

    for n, first in enumerate(VAL):
        second = VAL[(n + 1) % 5]
        for moving, fixed in ((first, second), (second, first)):
            yield Case("good", f"{moving} to {fixed}", partial(oasis, moving), partial(oasis, fixed))
    yield Case("good", "another scanner (AOMIC) to 1113", aomic, partial(oasis, "1113"))
    yield Case("good", "the demo: Colin 27 to ICBM 152", colin, icbm, "auto")
    for name, change in BREAKS.items():
        yield Case("broken", f"1113 {name}, to 1107", partial(changed, change, "1113"), partial(oasis, "1107"))
    yield Case("broken", "patient 07 FLAIR to 1113", partial(flair, "07"), partial(oasis, "1113"))
    yield Case("broken", "patient 19 FLAIR to 07 FLAIR", partial(flair, "19"), partial(flair, "07"))
    yield Case("broken", "1107 to 1113 mirrored", partial(oasis, "1107"), partial(changed, mirrored, "1113"))
    yield Case("broken", "1107 to 1113 half missing", partial(oasis, "1107"), partial(changed, half_missing, "1113"))
    yield Case("broken", "Colin 27 with its skull on, to 1113", colin, partial(oasis, "1113"))


def register_and_judge(case: Case, model: Model, device: str) -> dict[str, str]:
    """Register and judge; the record goes into the table."""
    found = {"kind": case.kind, "case": case.name}
    start = time.perf_counter()
    try:
        result = uresnet.register(case.moving(), case.fixed(), model=model, brain=case.brain, device=device)
    except uresnet.UserError as error:
        return found | {"verdict": "refused", "why": str(error), "caught by": "an error before any result"}
    verdict = judge_record(result.record)
    assert verdict is not None
    bad = [finding for finding in verdict.findings if finding.level is not Level.good]
    caught_by = [f"{sign.subject} {sign.rule.sign}{'!' * (sign.level is Level.failed)}" for sign in bad]
    return found | {
        "verdict": verdict.level.value,
        "why": " | ".join(verdict.reasons),
        "caught by": ", ".join(caught_by),
        "seconds": f"{time.perf_counter() - start:.1f}",
        "record": json.dumps(to_json_value(result.record)),
    }


def summary(rows: list[dict[str, str]]) -> Iterator[str]:
    """The range of every sign over good and over broken pairs, and the verdicts that are wrong."""
    judged = [(row, verdict) for row in rows if (verdict := _verdict(row)) is not None]
    yield f"{'sign':<26}{'good is':<36}{'over good pairs':<22}over broken pairs"
    ranges: dict[tuple[bool, str], dict[str, list[Finding]]] = {}
    for row, verdict in judged:
        for finding in verdict.findings:
            of_sign = ranges.setdefault((finding.subject == "pair", finding.rule.sign), {"good": [], "broken": []})
            of_sign[row["kind"]].append(finding)
    for (of_pair, sign), findings in ranges.items():
        wanted = next(finding.wanted for kind in findings.values() for finding in kind)
        good, broken = _range(findings["good"]), _range(findings["broken"])
        yield f"{('pair ' if of_pair else 'image ') + sign:<26}{wanted:<36}{good:<22}{broken}"
    yield ""
    for row, verdict in judged:
        if row["kind"] == "broken":
            yield f"{row['case']:<42}{verdict.level:<9}{row['caught by']}"
    for row, verdict in judged:
        if (row["kind"] == "good") is not (verdict.level is Level.good):
            yield f"WRONG: {row['kind']} pair {row['case']} is called {verdict.level}: {row['why']}"


def _verdict(row: dict[str, str]) -> Verdict | None:
    """By the present bounds, which may have changed since the pair was registered."""
    return judge_record(RunRecord.from_json(row["record"])) if row.get("record") else None


def _range(findings: list[Finding]) -> str:
    values = [sign.value for sign in findings if sign.value is not None and math.isfinite(sign.value)]
    return f"{min(values):.3g} to {max(values):.3g}" if values else "–"


def _axis(image: Image, ends: str) -> int:
    """The array axis that runs nearest to a direction, e.g. "LR"."""
    return next(axis for axis, code in enumerate(image.grid.axis_codes) if code in ends)


def main() -> int:
    """Run the cases, write the table as it grows, and sum it up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", help="a packaged model's name or a file; the default one without")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="*", default=[""], help="only cases whose name contains one of these")
    chosen = parser.parse_args()
    columns = ["kind", "case", "verdict", "caught by", "why", "seconds", "record"]
    rows: list[dict[str, str]] = []
    if chosen.output.exists():
        with chosen.output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    model = load_model(chosen.model)
    with chosen.output.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, delimiter="\t", restval="")
        table.writeheader()
        table.writerows(rows)
        for case in cases(chosen.data):
            is_known = any(row["case"] == case.name for row in rows)
            if is_known or not any(part in case.name for part in chosen.only):
                continue
            rows.append(register_and_judge(case, model, chosen.device))
            table.writerow(rows[-1])
            file.flush()
            print(f"{case.kind:<7}{case.name:<42}{rows[-1]['verdict']:<9}{rows[-1]['caught by']}", flush=True)
    print("", *summary(rows), sep="\n")
    called = [(row["kind"], verdict.level) for row in rows if (verdict := _verdict(row)) is not None]
    return int(("broken", Level.good) in called)


if __name__ == "__main__":
    sys.exit(main())
