"""The paper's table and the CSV files, from scores whose means are worked out by hand."""

from __future__ import annotations

import csv
import io
import math

from uresnet.core.labels import label_scheme
from uresnet.evaluation.scores import PairScores, StructureScore
from uresnet.evaluation.table import pairs_csv, structures_csv, table1

NAMES = [structure.abbreviation for structure in label_scheme("table1").classes]


def scores(model: str, moving: str, dice: float, **more: object) -> PairScores:
    """Every structure has ``dice`` but the brain stem, which neither image has."""
    structures = [StructureScore("table1", name, dice, 4.0, 1.0) for name in NAMES[1:]]
    structures.append(StructureScore("table1", NAMES[0], math.nan))
    structures.append(StructureScore("freesurfer28", "Left-Putamen", dice / 2))
    values: dict = {
        "segmentation": {"CeblWM": 0.9},
        "folding_fraction": 0.01,
        "sd_log_jacobian": 0.5,
        "inverse_mm": 0.1,
        "inverse_max_mm": 2.0,
        "consistency_mm": None,
        "seconds": 3.0,
        "peak_bytes": 2**30,
    } | more
    return PairScores(model, moving, "f", tuple(structures), **values)


SCORES = [
    scores("Rigid", "a", 0.5, segmentation={}),
    scores("Rigid", "b", 0.6, segmentation={}, consistency_mm=0.25),
    scores("U-ReSNet (x|y)", "a", 0.7),
]


def cells(text: str, row: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


def test_the_table_is_mean_and_deviation_of_pairs() -> None:
    text = table1(SCORES, "somewhere")
    assert "# Table 1: somewhere" in text and "U-ReSNet (x\\|y)" in text
    assert cells(text, "Pu") == ["0.550 ± 0.071", "0.700"]  # 0.1 / √2; a single pair has no deviation
    assert cells(text, "BS") == ["–", "–"]
    assert cells(text, "**mean of 15**") == ["0.550 ± 0.071", "0.700"]  # what nobody has is left out, not counted as 0
    assert cells(text, "mean of 28, sided") == ["0.275 ± 0.035", "0.350"]
    assert cells(text, "folds, % of the brain") == ["1.000 ± 0.000", "1.000"]
    assert cells(text, "inverse consistency error, mm") == ["0.25", "–"]
    assert cells(text, "peak memory, MiB") == ["1024 ± 0", "1024"]
    assert "voxels that it sees" not in text
    text = table1(SCORES, "somewhere", {"Rigid": 1.0, "U-ReSNet (x|y)": 8.0})
    assert cells(text, "voxels that it sees, mm") == ["1", "8"]
    segmentation = text.split("## Segmentation")[1]
    assert cells(segmentation, "CeblWM") == ["–", "0.900"]


def test_csv_holds_every_pair_and_leaves_unknown_cells_empty() -> None:
    rows = list(csv.DictReader(io.StringIO(pairs_csv(SCORES))))
    assert [(r["model"], r["moving"], float(r["dice_15"])) for r in rows][:2] == [
        ("Rigid", "a", 0.5),
        ("Rigid", "b", 0.6),
    ]
    assert rows[0]["segmentation_CeblWM"] == "" and rows[2]["segmentation_CeblWM"] == "0.9"
    assert rows[0]["consistency_mm"] == "" and rows[1]["consistency_mm"] == "0.25"
    assert rows[0]["peak_mib"] == "1024"
    structures = list(csv.DictReader(io.StringIO(structures_csv(SCORES))))
    assert len(structures) == 3 * 16
    stem = next(r for r in structures if r["structure"] == "BS")
    assert (stem["dice"], stem["hd95_mm"]) == ("", "")
