"""How well the Dice of a label with an expert's is predicted from the network's probabilities, and the calibration.

    python benchmarks/predicted_dice.py DATA OUT.tsv --model FILE [--only PERSON …] [--pairs]

DATA is a folder with ``oasis_malf`` (manual labels; the five people of ``val``) and ``freesurfer_subject``. FILE has to
be weights that have not seen these people. Every image is segmented as it is and degraded (noise, blur, a bias field,
thick slices, large voxels, another gamma, dark and bright exchanged), in one pass and in two, and each structure is
compared with the labels on the grid of its image. A row is added to OUT.tsv as soon as it is known, and a run that was
stopped continues. At the end it prints how the prediction and the true Dice agree, each person of OASIS predicted from
the others and the FreeSurfer subjects from all of them, and the numbers of
``uresnet.quality.predicted_dice.CALIBRATIONS``. Without people of OASIS (``--only sub-0001 sub-0002``), the calibration
that FILE has there already is judged.

``--pairs`` adds, for ten pairs of OASIS, whether the agreement of warped and fixed segmentation says more: the fixed
images are as they are, and degraded.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from scipy import ndimage
from scipy.optimize import least_squares
from scipy.stats import spearmanr

import uresnet
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import (
    ABNORMAL,
    FREESURFER,
    LabelScheme,
    fold_parcels,
    left_of_midline,
    mirrored_id,
    neuromorphometrics_to_freesurfer,
)
from uresnet.io import read_image, read_labels
from uresnet.measures.overlap import dice_per_class, expected_dice
from uresnet.model.checkpoint import Model, load_model
from uresnet.pipeline.steps import native_labels
from uresnet.preprocess import conform, extract_brain
from uresnet.quality.predicted_dice import CALIBRATIONS, Calibration, log_odds
from uresnet.quality.signs import structure_dice
from uresnet.transform import Affine, resample

Values = npt.NDArray[np.float32]
OASIS, FREESURFER_SUBJECT = "OASIS", "FreeSurfer"
VAL = ("1101", "1107", "1113", "1119", "1125")
SUBJECTS = ("sub-0001", "sub-0002")
AS_IT_IS, INVERTED = "as it is", "inverted"
_SHRINK = 0.3
"""Weight of an offset's square beside that of an error of the Dice: a structure has few people."""


@dataclass(frozen=True)
class Case:
    """An image with the labels that it is compared with."""

    world: str
    person: str
    image: Image
    labels: LabelMap


def changed(change: Callable[[Values, Image], npt.NDArray[np.floating]]) -> Callable[[Image], Image]:
    """A change of the values of an image's brain."""

    def apply(image: Image) -> Image:
        values = image.data.numpy().astype(np.float32)
        found = np.where(values > 0, change(values, image), 0).astype(np.float32)
        return replace(image, data=torch.from_numpy(found))

    return apply


def noise(share: float) -> Callable[[Image], Image]:
    """Rician noise, a ``share`` of the brightest."""

    def change(values: Values, _: Image) -> Values:
        draws, sigma = np.random.default_rng(5), share * _brightest(values)
        parts = [sigma * draws.standard_normal(values.shape) for _ in range(2)]
        return np.asarray(np.hypot(values + parts[0], parts[1]))

    return changed(change)


def blurred(sigma_mm: float) -> Callable[[Image], Image]:
    """Blurred within the brain."""

    def change(values: Values, image: Image) -> Values:
        sigma, inside = sigma_mm / image.grid.zooms, (values > 0).astype(np.float32)
        return np.asarray(
            ndimage.gaussian_filter(values, sigma) / np.maximum(ndimage.gaussian_filter(inside, sigma), 1e-3)
        )

    return changed(change)


def with_bias(strength: float) -> Callable[[Image], Image]:
    """Multiplied by a smooth field whose logarithm has the standard deviation ``strength``."""

    def change(values: Values, _: Image) -> Values:
        coarse, sides = np.random.default_rng(5).standard_normal((4, 4, 4)), [n / 4 for n in values.shape]
        field = ndimage.zoom(coarse, sides, order=3, grid_mode=True, mode="nearest")
        return np.asarray(values * np.exp(strength * field / field[values > 0].std()))

    return changed(change)


def voxels(right: int, front: int, up: int) -> Callable[[Image], Image]:
    """Means over so many voxels along each axis of the body, as an image of its own."""

    def apply(image: Image) -> Image:
        along = {"R": right, "L": right, "A": front, "P": front, "S": up, "I": up}
        sides = [along[code] for code in image.grid.axis_codes]
        grid = image.grid.rescaled(sides)
        missing = [n * side - m for n, side, m in zip(grid.shape, sides, image.grid.shape, strict=True)]
        padded = F.pad(image.data.float()[None, None], [n for size in reversed(missing) for n in (0, size)])
        return Image(F.avg_pool3d(padded, sides)[0, 0], grid, image.path)

    return apply


def _brightest(values: Values) -> float:
    return float(np.percentile(values[values > 0], 99))


CHANGES: dict[str, Callable[[Image], Image]] = {
    AS_IT_IS: lambda image: image,
    "noise 5 %": noise(0.05),
    "noise 10 %": noise(0.10),
    "noise 20 %": noise(0.20),
    "blur 1 mm": blurred(1),
    "blur 2 mm": blurred(2),
    "bias field 0.3": with_bias(0.3),
    "bias field 0.6": with_bias(0.6),
    "slices of 3 mm": voxels(1, 1, 3),
    "slices of 5 mm": voxels(1, 1, 5),
    "voxels of 2 mm": voxels(2, 2, 2),
    "voxels of 3 mm": voxels(3, 3, 3),
    "gamma 0.5": changed(lambda values, _: values.max() * np.sqrt(values / values.max())),
    INVERTED: changed(lambda values, _: np.maximum(1.05 * _brightest(values) - values, 1)),
}


def people(data: Path) -> Iterator[Case]:
    """The images and labels of both worlds."""
    for scan in VAL:
        path = data / "oasis_malf" / f"{scan}_labels.nii.gz"
        labels = read_labels(path)
        values = labels.data.numpy()
        ids = neuromorphometrics_to_freesurfer(values, left_of_midline(values, labels.grid.voxel_to_world), str(path))
        manual = LabelMap(torch.from_numpy(ids.astype(np.int16)), labels.grid)
        yield Case(OASIS, scan, read_image(data / "oasis_malf" / f"{scan}_T1.nii.gz"), manual)
    for subject in SUBJECTS:
        folder = data / "freesurfer_subject" / subject / "mri"
        aseg = read_labels(folder / "aseg.mgz")
        ids = fold_parcels(aseg.data.numpy()).astype(np.int16)
        yield Case(
            FREESURFER_SUBJECT, subject, read_image(folder / "norm.mgz"), LabelMap(torch.from_numpy(ids), aseg.grid)
        )


def compare(case: Case, change: str, model: Model) -> Iterator[dict[str, str]]:
    """A row for each structure and number of passes."""
    scheme = model.scheme
    assert scheme is not None
    image = CHANGES[change](case.image)
    truth = case.labels if image.grid is case.image.grid else resample(Affine.identity(), case.labels, image.grid)
    conformed = conform(image, extract_brain(image, "none")[0], model.conform)
    for passes in (1, 2):
        with torch.inference_mode():
            classes, probabilities = model.network(conformed.tensor.to(model.device), passes == 2)
            expected = expected_dice(classes.cpu(), probabilities).tolist()
        labels = native_labels(LabelMap(classes.cpu(), conformed.grid), scheme, image.grid)
        true = dice(labels, truth, scheme)
        for structure, raw, value in zip(scheme.classes, expected, true, strict=True):
            if structure.id in ABNORMAL:
                continue
            about = {"world": case.world, "person": case.person, "image": change, "passes": str(passes)}
            numbers = {"id": str(structure.id), "true": f"{value:.5f}", "expected": f"{raw:.5f}"}
            yield about | numbers


def dice(labels: LabelMap, truth: LabelMap, scheme: LabelScheme) -> list[float]:
    """By class of the scheme."""
    both = [torch.from_numpy(scheme.to_classes(each.data.numpy(), strict=False)) for each in (labels, truth)]
    return list(dice_per_class(both[0], both[1], scheme.number_of_classes).tolist())


@dataclass(frozen=True)
class Table:
    """What was measured, a value for each row; ``structure`` is the id of the left one for both sides."""

    rows: list[dict[str, str]]

    def column(self, name: str) -> npt.NDArray[np.str_]:
        """Of the texts of the table."""
        return np.array([row[name] for row in self.rows])

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """Of the numbers of the table."""
        return np.array([float(row[name]) for row in self.rows])

    @property
    def structures(self) -> npt.NDArray[np.int64]:
        """By row."""
        return np.array([_both_sides(row) for row in self.rows])

    def where(self, chosen: npt.NDArray[np.bool_]) -> Table:
        """Some of the rows."""
        return Table([row for row, wanted in zip(self.rows, chosen, strict=True) if wanted])


def fitted(table: Table) -> Calibration:
    """The slope and the offsets with which the predicted Dice is nearest to the true one."""
    ids, index = np.unique(table.structures, return_inverse=True)
    odds, true = np.array([log_odds(value) for value in table.numbers("expected")]), table.numbers("true")

    def errors(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        slope, middle, offsets = values[0], values[1], values[2:]
        found = 1 / (1 + np.exp(-slope * odds - middle - offsets[index]))
        return np.concatenate([found - true, _SHRINK * offsets])

    slope, middle, *offsets = least_squares(errors, np.r_[1.0, np.zeros(1 + len(ids))]).x.tolist()
    return Calibration(slope, {int(i): middle + offset for i, offset in zip(ids, offsets, strict=True)})


def predicted(calibration: Calibration, table: Table) -> npt.NDArray[np.float64]:
    """By row; not a number for structures without a calibration."""
    pairs = zip(table.structures.tolist(), table.numbers("expected").tolist(), strict=True)
    return np.array([calibration.predict(i, value) for i, value in pairs], dtype=np.float64)


def agreement(what: str, table: Table, found: npt.NDArray[np.float64]) -> str:
    """A line of the summary."""
    true = table.numbers("true")
    if len(true) < 3:
        return f"{what:<34}nothing"
    off = np.abs(found - true)
    return (
        f"{what:<34}{len(true):>6}{np.corrcoef(true, found)[0, 1]:>9.3f}{spearmanr(true, found).statistic:>9.3f}"
        f"{_within(table, found):>9.3f}{off.mean():>9.3f}{np.quantile(off, 0.9):>9.3f}{(found - true).mean():>+9.3f}"
        f"{true.mean():>9.3f}"
    )


def _within(table: Table, found: npt.NDArray[np.float64]) -> float:
    """Pearson's correlation over images, within a structure and number of passes, the mean over these."""
    keys, true, values = table.column("id") + " " + table.column("passes"), table.numbers("true"), []
    for key in np.unique(keys):
        a, b = true[keys == key], found[keys == key]
        if len(a) > 2 and a.std() > 0 and b.std() > 0:
            values.append(float(np.corrcoef(a, b)[0, 1]))
    return float(np.mean(values)) if values else float("nan")


def summary(table: Table, known: Calibration | None) -> Iterator[str]:
    """How the predictions agree with the truth, and the calibration of all people of OASIS; without any of these, the
    ``known`` calibration is judged."""
    yield f"{'':<34}{'n':>6}{'r':>9}{'rho':>9}{'within':>9}{'error':>9}{'90 %':>9}{'bias':>9}{'true':>9}"
    oasis = table.where(table.column("world") == OASIS)
    usable = oasis.where(oasis.column("image") != INVERTED)
    persons = np.unique(oasis.column("person"))
    if len(persons) > 1:
        found = np.full(len(oasis.rows), np.nan)
        for person in persons:
            others = fitted(usable.where(usable.column("person") != person))
            here = oasis.column("person") == person
            found[here] = predicted(others, oasis.where(here))
        yield from _lines("each from the others, ", oasis, found)
    calibration = fitted(usable) if usable.rows else known
    if calibration is None:
        return
    other = table.where(table.column("world") != OASIS)
    if other.rows:
        yield from _lines("FreeSurfer's aseg, ", other, predicted(calibration, other))
    yield ""
    offsets = ", ".join(f"{i}: {offset:.3f}" for i, offset in calibration.offsets.items())
    yield f"Calibration({calibration.slope:.3f}, {{{offsets}}})"
    for i in calibration.offsets:
        yield f"  {i}: {FREESURFER[i].name}"


def _lines(who: str, table: Table, found: npt.NDArray[np.float64]) -> Iterator[str]:
    images = table.column("image")
    degraded = (images != AS_IT_IS) & (images != INVERTED)
    for what, chosen in ((AS_IT_IS, images == AS_IT_IS), ("degraded", degraded)):
        yield agreement(who + what, table.where(chosen), found[chosen])
    for change in CHANGES:
        if (chosen := images == change).any():
            yield agreement(f"  {change}", table.where(chosen), found[chosen])


def pairs_summary(data: Path, model: Model, table: Table) -> Iterator[str]:
    """Whether the Dice of warped and fixed segmentation says more of the fixed one: by the correlation of what the
    prediction leaves over with it, and the error with it among the predictors."""
    cases = {case.person: case for case in people(data) if case.world == OASIS}
    one = table.where((table.column("world") == OASIS) & (table.column("passes") == "1"))
    usable = one.where(one.column("image") != INVERTED)
    rows: list[tuple[str, float, float, float]] = []
    for n, fixed in enumerate(VAL):
        calibration = fitted(usable.where(usable.column("person") != fixed))
        for change in (AS_IT_IS, ("noise 20 %", "blur 2 mm", "bias field 0.6", "slices of 5 mm", "voxels of 3 mm")[n]):
            image = CHANGES[change](cases[fixed].image)
            pair = uresnet.register(cases[VAL[n - 1]].image, image, model=model, brain="none")
            of_pair = structure_dice(pair)
            for row in one.where((one.column("person") == fixed) & (one.column("image") == change)).rows:
                known = of_pair[FREESURFER[int(row["id"])].name]
                dice = calibration.predict(_both_sides(row), float(row["expected"]))
                if known is not None and dice is not None:
                    rows.append((fixed, log_odds(dice), log_odds(known), float(row["true"])))
    people_of, odds, pair_odds, true = (np.array(column) for column in zip(*rows, strict=True))
    plain = 1 / (1 + np.exp(-odds))
    both = np.full(len(true), np.nan)
    for person in VAL:
        train = people_of != person
        design = np.stack([np.ones(len(true)), odds, pair_odds], axis=1)

        weights = least_squares(partial(_off, design[train], true[train]), np.array([0.0, 1.0, 0.0])).x
        both[~train] = true[~train] + _off(design[~train], true[~train], weights)
    rest = np.corrcoef(true - plain, pair_odds)[0, 1]
    yield f"{len(true)} structures of pairs; the agreement of warped and fixed correlates with the error: {rest:.3f}"
    for what, found in (("probabilities alone", plain), ("with the agreement", both)):
        yield f"  {what:<24} r {np.corrcoef(true, found)[0, 1]:.3f}, error {np.abs(found - true).mean():.4f}"


def _off(
    design: npt.NDArray[np.float64], true: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-design @ weights)) - true)


def _both_sides(row: dict[str, str]) -> int:
    return min(int(row["id"]), mirrored_id(int(row["id"])))


def measured(data: Path, output: Path, model: Model, only: Sequence[str]) -> Table:
    """The table, after what is missing in it has been added."""
    columns = ["world", "person", "image", "passes", "id", "true", "expected"]
    rows: list[dict[str, str]] = []
    if output.exists():
        with output.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    known = {(row["person"], row["image"]) for row in rows}
    with output.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, delimiter="\t")
        table.writeheader()
        table.writerows(rows)
        for case in people(data):
            for change in CHANGES:
                if (case.person, change) in known or (only and case.person not in only):
                    continue
                found = list(compare(case, change, model))
                rows += found
                table.writerows(found)
                file.flush()
                print(f"{case.world:<12}{case.person:<10}{change}", flush=True)
    finite = [row for row in rows if np.isfinite(float(row["true"])) and np.isfinite(float(row["expected"]))]
    return Table(finite)


def main() -> None:
    """Measure what is not in the table yet, and sum it up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--model", required=True, help="weights that have not seen these people")
    parser.add_argument("--only", nargs="*", default=[], help="only these people")
    parser.add_argument("--pairs", action="store_true", help="also whether the agreement of a pair says more")
    chosen = parser.parse_args()
    model = load_model(chosen.model)
    table = measured(chosen.data, chosen.output, model, chosen.only)
    print("", *summary(table, CALIBRATIONS.get(model.sha256)), sep="\n", flush=True)
    if chosen.pairs:
        print("", *pairs_summary(chosen.data, model, table), sep="\n", flush=True)


if __name__ == "__main__":
    main()
