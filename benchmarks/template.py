"""Registration through a mean brain beside direct registration: A → template → B and A → B, by manual labels.

    python benchmarks/template.py OASIS_MALF TEMPLATE OUT [--pairs 1101-1107 ...] [--threads 2]

TEMPLATE is an output folder of ``uresnet template`` whose images are ``SCAN_T1.nii.gz`` of OASIS_MALF (manual labels
beside). Direct registrations are made by ``uresnet register``, and judged as in ``accuracy.py``: SimpleITK warps the
moving labels by the exported transforms, nearest-neighbour; Dice is the mean over the fifteen structures of the paper's
Table 1. OUT/template.md is the table, with the rounds of the template above it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accuracy import METHODS, PAIRS, judge, register, stamp

DIRECT = METHODS["default"]


def through(moving: str, fixed: str) -> tuple[str, ...]:
    """The files of a template that lead from a point of ``fixed`` to ``moving``, in the order in which they apply."""
    return f"transforms/template_to_{fixed}_T1.h5", f"transforms/{moving}_T1_to_template.h5"


def main(arguments: Sequence[str] | None = None) -> int:
    """Register, judge, write. 2 if it cannot begin."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("template", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--pairs", nargs="+", default=[f"{m}-{f}" for m, f in PAIRS], help="MOVING-FIXED …")
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    pairs = [pair.partition("-")[::2] for pair in chosen.pairs]
    needed = [chosen.template / "convergence.tsv"]
    needed += [chosen.template / file for pair in pairs for file in through(*pair)]
    needed += [chosen.data / f"{scan}_{end}.nii.gz" for pair in pairs for scan in pair for end in ("T1", "labels")]
    absent = [f"{file} does not exist." for file in dict.fromkeys(needed) if not file.exists()]
    if absent:
        print(*absent, sep="\n", file=sys.stderr)
        return 2
    rows = []
    for moving, fixed in pairs:
        with tempfile.TemporaryDirectory() as folder:
            images = [chosen.data / f"{scan}_T1.nii.gz" for scan in (moving, fixed)]
            register(DIRECT, images[0], images[1], Path(folder), chosen.threads)
            direct = judge(DIRECT, Path(folder), chosen.data, moving, fixed)
        chain = replace(DIRECT, files=through(moving, fixed))
        by_template = judge(chain, chosen.template, chosen.data, moving, fixed)
        rows.append((f"{moving} → {fixed}", direct["dice"], by_template["dice"], by_template["folds"]))
        print(*rows[-1], flush=True)
    means = [sum(column) / len(rows) for column in list(zip(*rows, strict=True))[1:]]
    lines = ["| | direct | through the template | difference | folds |", "|---|---|---|---|---|"]
    for name, one, other, folds in [*rows, ("mean", *means)]:
        lines.append(f"| {name} | {one:.4f} | {other:.4f} | {other - one:+.4f} | {folds:.1e} |")
    rounds = (chosen.template / "convergence.tsv").read_text(encoding="utf-8")
    text = "\n".join(["# Through a template", "", "```", rounds.rstrip(), "```", "", *lines, "", stamp()])
    chosen.output.mkdir(parents=True, exist_ok=True)
    (chosen.output / "template.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
