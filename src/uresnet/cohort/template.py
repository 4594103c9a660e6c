"""An unbiased mean brain: iterated registration of all images to their mean.

Every iteration registers each image to the present mean through the mid-space, T_i: mean world → image world. The mean
of these maps, M = (T_1 + … + T_N) / N, says how far the present mean is from being one; the new mean is drawn through
T_i ∘ M⁻¹, whose mean over all images is the identity (Guimond, Meunier, Thirion 2000). So no image, not even the one
that the first affines were found to, decides where the mean lies or what shape it has. A first round with affines alone
takes their log-Euclidean mean (Arsigny et al. 2006).

Each round is a cohort with a folder of its own: what is done already is not done again, and a stopped command goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from uresnet.cohort.jobs import Job, Options, Outcome, Scan
from uresnet.cohort.results import sizes_of
from uresnet.core.choices import Freedom, OutputName
from uresnet.core.files import write_text, written_whole
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import SCHEMES, LabelScheme
from uresnet.core.reading import parse_json, read_text
from uresnet.errors import UserError, quoted
from uresnet.io import read_image, read_labels, write_image, write_label_table, write_labels
from uresnet.report.pages.template import Round, template_page
from uresnet.report.slices import dark_level, foreground_box
from uresnet.results.json_values import json_text
from uresnet.results.record import read_record
from uresnet.transform import (
    Affine,
    Composite,
    DisplacementField,
    Transform,
    displacement_on,
    invert_displacement,
    matrix_exponential,
    matrix_logarithm,
    resample,
)
from uresnet.transform_files import read_transform, write_itk_composite

ROUNDS, KEPT = "rounds", "encodings"
MEAN, MEAN_LABELS, TRANSFORMS, PAGE = "template.nii.gz", "template_dseg.nii.gz", "transforms", "template.html"
AFFINE_MEAN, MEAN_TABLE, CONVERGENCE = "affine_mean.nii.gz", "template_dseg.tsv", "convergence.tsv"
_MARGIN_MM = 12.0
_BRIGHTNESS = 100.0  # of the middle of every brain
_EMPTY = 1.0  # a voxel that is no brighter has nothing in it
_OUTPUTS: tuple[OutputName, ...] = ("transform", "inverse", "segmentations", "tables")

RunCohort = Callable[[Sequence[Job], Options], Sequence[Outcome]]
"""Does the jobs of one round."""


@dataclass(frozen=True, kw_only=True)
class TemplateOptions:
    """``iterations`` of deformation after the affine round; voxels of ``spacing`` mm; ``sharpening`` is the share of
    the detail finer than 1 mm that is added to the mean in each round, 0 for none."""

    iterations: int = 4
    spacing: float = 1.0
    sharpening: float = 0.5


@dataclass(frozen=True)
class Member:
    """An image in the mean, and the ``folder`` of its registration to the present one."""

    id: str
    image: str
    folder: Path

    @property
    def transform(self) -> Composite:
        """From the present mean to the image; read anew, because those of all images would fill the memory."""
        return read_transform(self.folder / "transform.h5")


class Building:
    """A mean of ``scans`` (id, image) that is being built in the folder ``out``, round by round: ``jobs`` are those of
    the next round, and ``take`` draws the mean of what came of them. Little is kept in memory meanwhile."""

    def __init__(self, scans: Sequence[tuple[str, Scan]], out: Path, options: TemplateOptions) -> None:
        self.scans, self.out, self.options = dict(scans), out, options
        self.rounds: list[Round] = []
        self._target = scans[0][1]

    @property
    def jobs(self) -> list[Job]:
        """Each image to the present mean; in the first round, to the first image."""
        return [Job(name, scan, self._target) for name, scan in self.scans.items()]

    def take(self, place: Path, outcomes: Sequence[Outcome]) -> None:
        """Draw the mean of the images that were registered in the folder ``place``, unless just that is there already.
        Raises :class:`UserError` when they are fewer than two."""
        number, drawn = len(self.rounds), self.out / ROUNDS / f"mean_{len(self.rounds):02d}.nii.gz"
        done = _done(self.scans, outcomes)
        noted, key = drawn.with_name(f"mean_{number:02d}.json"), _key_of(done, self.options)
        written = [str(drawn.relative_to(self.out)), *([AFFINE_MEAN] if number == 0 else [])]
        written += _last_files([outcome.id for outcome in done]) if number == self.options.iterations else []
        known = _noted(noted, key, sizes_of(self.out, written))
        if known is None:
            drawn.parent.mkdir(parents=True, exist_ok=True)
            noted.unlink(missing_ok=True)
            known = self._drawn(number, place, [outcome.id for outcome in done], drawn)
            note = {"key": key, "round": asdict(known), "sizes": sizes_of(self.out, written)}
            write_text(json_text(note), noted)
        self.rounds.append(known)
        self._target = Scan(str(drawn.absolute()))

    def _drawn(self, number: int, place: Path, names: Sequence[str], drawn: Path) -> Round:
        members = [Member(name, self.scans[name].image, place / name) for name in names]
        before = read_image(self._target.image).grid
        mean = _affine_mean(members, before) if number == 0 else _mean(members, before)
        back = mean.inverse()
        grid = _grid_around(members, back, self.options.spacing) if number == 0 else before
        picture, spread = _mean_image(members, back, grid)
        labels, scheme = _mean_labels(members, back, grid)
        moved, left = _lengths(mean, labels), _left_over(members, back, grid, labels)
        found = Round(number, len(members), moved, left, sharpness(picture, labels), spread)
        if number == 0:
            write_image(picture, self.out / AFFINE_MEAN)
        if number > 0 and self.options.sharpening:
            picture = _sharpened(picture, self.options.sharpening, self.options.spacing)
        if number == self.options.iterations:
            _write(self.out, members, (mean, back), picture, labels, scheme)
            rounds = [*self.rounds, found]
            write_text(_table(rounds), self.out / CONVERGENCE)
            pictures = read_image(self.out / AFFINE_MEAN), picture
            write_text(template_page(self.out.name, rounds, pictures, labels, scheme), self.out / PAGE)
        write_image(picture, drawn)
        return found


def build_template(
    scans: Sequence[tuple[str, Scan]], out: Path, base: Options, options: TemplateOptions, do: RunCohort
) -> list[Round]:
    """Build the mean of ``scans`` (id, image) in the folder ``out``, and return what each round changed.

    Writes ``template.nii.gz``, ``template_dseg.nii.gz`` (the structure that most images have at a voxel) with its
    table, ``affine_mean.nii.gz`` for comparison, ``transforms/ID_to_template.h5`` and its inverse for each image,
    ``convergence.tsv`` and ``template.html``. An image that cannot be registered is left out and listed among the
    outcomes of ``do``. Raises :class:`UserError` when fewer than two images are left.
    """
    building = Building(scans, out, options)
    for number in range(options.iterations + 1):
        chosen = round_options(base, out, number)
        building.take(chosen.folder, do(building.jobs, chosen))
    return building.rounds


def round_options(base: Options, out: Path, number: int) -> Options:
    """Those of the cohort that is the round ``number`` of a mean in the folder ``out``."""
    rounds = out / ROUNDS
    freedom: Freedom = "affine" if number == 0 else base.transform
    return replace(base, folder=rounds / f"{number:02d}", transform=freedom, outputs=_OUTPUTS, encodings=rounds / KEPT)


def to_mean(name: str) -> str:
    """The file of the transform that resamples an image onto the mean."""
    return f"{name}_to_template.h5"


def from_mean(name: str) -> str:
    """The file of the one that resamples the mean onto an image."""
    return f"template_to_{name}.h5"


def sharpness(image: Image, labels: LabelMap) -> float:
    """The mean length of the gradient, per mm, as a share of the mean intensity, where there are structures."""
    inside = labels.mask.numpy()
    parts = np.gradient(image.data.numpy().astype(np.float64), *image.grid.zooms)
    length = np.sqrt(sum(part**2 for part in parts))
    return float(length[inside].mean() / image.data.numpy()[inside].mean())


# -- the mean of maps --------------------------------------------------------------------------------------------------


def _done(scans: Mapping[str, Scan], outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those that are done, in the order of ``scans``: sums of floats depend on it, and hashes on them."""
    ended = {outcome.id: outcome for outcome in outcomes if outcome.state == "done"}
    done = [ended[name] for name in scans if name in ended]
    if len(done) < 2:
        reasons = next((outcome.error for outcome in outcomes if outcome.error), "")
        raise UserError(f"Fewer than two images could be registered, which make no mean: {quoted(reasons, 200)}")
    return done


def _key_of(done: Sequence[Outcome], options: TemplateOptions) -> str:
    """The hash of what a mean depends on."""
    text = repr([(outcome.id, outcome.key) for outcome in done]) + repr(options)
    return hashlib.sha256(text.encode()).hexdigest()


def _noted(path: Path, key: str, sizes: Mapping[str, int] | None) -> Round | None:
    """What was written of a round, if it is the one with this ``key``, and its files still have these ``sizes``."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        value = parse_json(read_text(path))
        whole = sizes is not None and value["sizes"] == sizes
        return Round(**value["round"]) if whole and value["key"] == key else None
    return None


def _affine_mean(members: Sequence[Member], grid: Grid) -> Composite:
    """exp of the mean of the logarithms of the affines, about the middle of the grid."""
    logs = []
    to_middle = np.eye(4)
    to_middle[:3, 3] = -grid.centre_world
    from_middle = np.linalg.inv(to_middle)
    for member in members:
        matrix = np.eye(4)
        for part in member.transform.parts:
            assert isinstance(part, Affine)
            matrix = part.matrix @ matrix
        logs.append(matrix_logarithm(to_middle @ matrix @ from_middle))
    return Composite([Affine(from_middle @ matrix_exponential(np.mean(logs, axis=0)) @ to_middle)])


def _mean(members: Sequence[Member], grid: Grid) -> Composite:
    """The mean of the maps, with its inverse."""
    total = torch.zeros((3, *grid.shape))
    for member in members:
        total += displacement_on(member.transform, grid).displacement
    field = DisplacementField(total / len(members), grid)
    return Composite([replace(field, inverse_field=invert_displacement(field))])


def _corrected(member: Member, back: Composite) -> Composite:
    """T_i ∘ M⁻¹: new mean → image."""
    return Composite([anywhere(part) for part in (*back.parts, *member.transform.parts)])


def anywhere(part: Transform) -> Transform:
    """Without the tags of the grids between which it was found: another map comes before or after it."""
    assert isinstance(part, Affine | DisplacementField)
    return replace(part, domain=None, codomain=None)


def _lengths(mean: Composite, labels: LabelMap) -> float:
    """The mean length, mm, by which a map moves the voxels that have a structure."""
    moved = displacement_on(mean, labels.grid).displacement
    return float(moved.norm(dim=0)[labels.mask].double().mean())


def _left_over(members: Sequence[Member], back: Composite, grid: Grid, labels: LabelMap) -> float:
    """The same of the mean of all T_i ∘ M⁻¹, which would be the identity if all were computed exactly."""
    total = torch.zeros((3, *grid.shape))
    for member in members:
        total += displacement_on(_corrected(member, back), grid).displacement
    return float((total / len(members)).norm(dim=0)[labels.mask].double().mean())


# -- the mean of images ------------------------------------------------------------------------------------------------


def _grid_around(members: Sequence[Member], back: Composite, spacing: float) -> Grid:
    """A grid for the new mean: the mean, over all images, of the boxes of their foregrounds in it, and a margin."""
    boxes = []
    for member in members:
        ends = foreground_box(read_image(member.image))
        corners = torch.tensor(list(product(*zip(*ends, strict=True))), dtype=torch.float64)
        there = _corrected(member, back).inverse().apply(corners)
        boxes.append(torch.stack([there.amin(dim=0), there.amax(dim=0)]))
    low, high = torch.stack(boxes).mean(dim=0).numpy()
    shape = np.ceil((high - low + 2 * _MARGIN_MM) / spacing).astype(int).tolist()
    return Grid.centred(shape, (spacing,) * 3, ("R", "A", "S"), (low + high) / 2)


def _mean_image(members: Sequence[Member], back: Composite, grid: Grid) -> tuple[Image, float]:
    """The mean of all images, each with its brain at one brightness, and their mean standard deviation in it. It is 0
    where most images are: what is left of a few stripped brains would make a rim around all."""
    total, squares = torch.zeros(grid.shape), torch.zeros(grid.shape)
    filled = torch.zeros(grid.shape, dtype=torch.int32)
    for member in members:
        image = read_image(member.image)
        brain = read_labels(member.folder / "moving_dseg.nii.gz").mask
        lit = image.data > dark_level(image)
        middle = float(image.data[brain & lit if bool((brain & lit).any()) else lit].median())
        scaled = replace(image, data=image.data * (_BRIGHTNESS / middle), invalid=None)
        values = resample(_corrected(member, back), scaled, grid).data
        total += values
        squares += values**2
        filled += values > _EMPTY
    mean = torch.where(2 * filled >= len(members), total / len(members), 0)
    variance = (squares / len(members) - mean**2).clamp(min=0)
    lit = mean > 0.2 * _BRIGHTNESS
    return Image(mean, grid), float(variance.sqrt()[lit].double().mean())


def _mean_labels(members: Sequence[Member], back: Composite, grid: Grid) -> tuple[LabelMap, LabelScheme]:
    """At each voxel what most images have there."""
    scheme = SCHEMES[read_record(members[0].folder).model.scheme]
    votes = torch.zeros(
        (scheme.number_of_classes, *grid.shape), dtype=torch.uint8 if len(members) < 256 else torch.int16
    )
    for member in members:
        labels = read_labels(member.folder / "moving_dseg.nii.gz")
        there = resample(_corrected(member, back), labels, grid).data.numpy()
        classes = torch.from_numpy(scheme.to_classes(there).astype(np.int64))
        votes.scatter_add_(0, classes[None], torch.ones((1, *grid.shape), dtype=votes.dtype))
    ids = scheme.to_ids(_most(votes).numpy())
    return LabelMap(torch.from_numpy(ids), grid), scheme


def _most(votes: Tensor) -> Tensor:
    return votes.argmax(dim=0)


def _sharpened(image: Image, amount: float, spacing: float) -> Image:
    """With a share of what a Gaussian of 1 mm would take away added."""
    values = image.data.numpy()
    detail = values - ndimage.gaussian_filter(values, 1.0 / spacing)
    return replace(image, data=torch.from_numpy(np.clip(values + amount * detail, 0, None)))


# -- files -------------------------------------------------------------------------------------------------------------


def _write(
    out: Path,
    members: Sequence[Member],
    maps: tuple[Composite, Composite],
    picture: Image,
    labels: LabelMap,
    scheme: LabelScheme,
) -> None:
    mean, back = maps
    write_image(picture, out / MEAN)
    write_labels(labels, out / MEAN_LABELS, scheme=scheme)
    write_label_table(scheme, out / MEAN_TABLE)
    (out / TRANSFORMS).mkdir(exist_ok=True)
    for member in members:
        inverse = read_transform(member.folder / "inverse_transform.h5")
        parts = [anywhere(part) for part in (*inverse.parts, *mean.parts)]
        for name, transform in (
            (to_mean(member.id), _corrected(member, back)),
            (from_mean(member.id), Composite(parts)),
        ):
            with written_whole(out / TRANSFORMS / name) as beside:
                write_itk_composite(transform, beside)


def _last_files(names: Sequence[str]) -> list[str]:
    """What the last round writes, for the images of these ``names``."""
    transforms = [f"{TRANSFORMS}/{file}" for name in names for file in (to_mean(name), from_mean(name))]
    return [PAGE, MEAN, MEAN_LABELS, MEAN_TABLE, CONVERGENCE, *transforms]


def _table(rounds: Sequence[Round]) -> str:
    rows = [("round", "images", "mean_moved_mm", "mean_left_mm", "sharpness_per_mm", "spread_percent")]
    for r in rounds:
        rows.append(
            (
                str(r.number),
                str(r.images),
                f"{r.moved_mm:.4f}",
                f"{r.left_mm:.5f}",
                f"{r.sharpness:.5f}",
                f"{r.spread:.3f}",
            )
        )
    return "".join("\t".join(row) + "\n" for row in rows)
