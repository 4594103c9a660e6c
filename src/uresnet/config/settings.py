"""Configuration: what can be chosen about a network, its losses and its training, as dataclasses read from YAML.

No torch here: the command line reads configurations before it loads anything heavy. Every key is checked; a key that
does not exist is an error that names the ones that do.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from uresnet.core.labels import label_scheme
from uresnet.errors import UserError


@dataclass(frozen=True)
class ModelConfig:
    """The U-ReSNet network. The defaults are the published joint network (39,183 weights).

    ``scheme`` names the label scheme of the segmentation; ``segmentation=False`` leaves out its decoder and head
    (registration only, 24,631 weights). ``channels`` are the widths of the encoder's levels, each level at half the
    resolution of the one before.

    The affine head's twelve numbers are multiplied by ``affine_linear_scale`` (matrix) and ``affine_translation_scale``
    (voxels). The paper's are 1 and 1: then a unit step of the optimiser turns or scales the brain by tens of voxels and
    shifts it by one. A translation scale near half the grid makes both act alike.
    ``deformable=False`` and ``affine=False`` leave that component at the identity.
    ``convention`` names how gradients and affine become a map: a value of
    :class:`uresnet.transform.deformation.GridConvention`.

    ``network`` "christodoulidis" is the baseline of 2018, whose widths are its own: of the keys above it takes those of
    the affine, the slope and the convention, and it does not segment.
    """

    channels: tuple[int, ...] = (4, 8, 16)
    scheme: str = "tissue3"
    segmentation: bool = True
    affine: bool = True
    deformable: bool = True
    negative_slope: float = 0.3
    affine_linear_scale: float = 1.0
    affine_translation_scale: float = 1.0
    convention: Literal["identity_at_one", "published_2019"] = "identity_at_one"
    network: Literal["uresnet", "christodoulidis"] = "uresnet"

    def __post_init__(self) -> None:
        label_scheme(self.scheme)
        _require(len(self.channels) >= 2, "model.channels needs at least two levels")
        _require(all(c >= 2 and c % 2 == 0 for c in self.channels), "model.channels must be even numbers")
        _require(self.affine or self.deformable, "model.affine and model.deformable cannot both be off")
        alone = self.network == "christodoulidis" and self.segmentation
        _require(not alone, "model.network christodoulidis does not segment: set model.segmentation to false")


@dataclass(frozen=True)
class SegmenterConfig:
    """The flagship's network: ``channels`` from half the resolution down, a level at half of the one before, with
    ``blocks`` residual blocks each on the way down; ``hidden`` features answer for ``classes`` classes, background
    included."""

    channels: tuple[int, ...] = (24, 48, 80, 96)
    blocks: tuple[int, ...] = (1, 1, 2, 2)
    hidden: int = 64
    classes: int = 33

    def __post_init__(self) -> None:
        _require(len(self.channels) == len(self.blocks), "model.channels and model.blocks must be of one length")


@dataclass(frozen=True)
class LossConfig:
    """Weights of the paper's loss, L = w1 (L_recon + L_reg) + w2 L_seg (Eq. 4–7).

    ``mse`` and ``lcc`` weigh the two terms of L_recon (Eq. 4; the paper's are 1). ``alpha`` weighs the L1 distance of
    the affine's twelve numbers from the identity, ``beta`` the mean over voxels and axes of the spatial gradients'
    distance from 1 (Eq. 5). ``gamma`` weighs the Dice loss of the moving segmentation, ``delta`` that of the warped
    predicted one against the fixed labels (Eq. 6); Dice losses are means over structures.

    ``warped_labels`` weighs, beside them, the Dice loss of the moving image's true labels warped against the fixed
    ones, over the scheme ``warped_label_scheme`` (the published registration-only variant does this with its three
    structures). ``downsampling`` computes every term that compares warped with fixed on means over blocks of so many
    voxels, an eighth of the cost for 2; the segmentation of the moving image is judged at full resolution.
    ``roughness`` weighs the mean square of the change of the spatial gradients between neighbours.
    """

    w1: float = 1.0
    w2: float = 1.0
    mse: float = 1.0
    lcc: float = 1.0
    lcc_window: int = 9
    alpha: float = 0.1
    beta: float = 1e-5
    gamma: float = 1.0
    delta: float = 1.0
    warped_labels: float = 0.0
    warped_label_scheme: str = "table1"
    downsampling: int = 1
    roughness: float = 0.0

    def __post_init__(self) -> None:
        label_scheme(self.warped_label_scheme)
        _require(self.lcc_window % 2 == 1, "losses.lcc_window must be odd")
        _require(self.downsampling >= 1, "losses.downsampling must be at least 1")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images; every magnitude 0 leaves that change out, and the defaults leave all out.

    ``rotation`` degrees, ``scaling`` and ``shear`` fractions, ``translation`` voxels: largest values, each image on its
    own. ``elastic`` voxels: standard deviation of a smooth displacement with knots every ``elastic_spacing`` voxels.
    ``ventricles``: probability that an image's grow by ``ventricle_growth`` (from, to) mm. ``flip``: probability that a
    pair is mirrored left–right (labels change sides). ``gamma``: largest |log2| of the
    exponent; ``brightness``: largest |log2| of a factor; ``bias``: standard deviation of the log of a smooth field;
    ``noise``: largest standard deviation of white noise. Intensities are those of conformed images, in [0, 1].
    """

    rotation: float = 0.0
    scaling: float = 0.0
    shear: float = 0.0
    translation: float = 0.0
    elastic: float = 0.0
    elastic_spacing: int = 24
    ventricles: float = 0.0
    ventricle_growth: tuple[float, ...] = (-2.0, 12.0)
    flip: float = 0.0
    gamma: float = 0.0
    brightness: float = 0.0
    bias: float = 0.0
    noise: float = 0.0

    @property
    def moves(self) -> bool:
        """Whether images are resampled."""
        return any((self.rotation, self.scaling, self.shear, self.translation, self.elastic, self.ventricles))


@dataclass(frozen=True)
class BlockConfig:
    """What the flagship's segmenter is shown (:mod:`uresnet.training.examples.blocks`); probabilities are of one block.

    ``shape`` voxels of a block. Of the eight voxels of every 2×2×2, ``parts`` are judged a step; ``background`` is the
    share of the voxels outside the brain that are. ``label_maps`` is a folder of label maps from which a share of
    ``synthetic`` of the blocks is painted, every structure's grey value being drawn with a standard deviation of
    ``grey_variation`` about that of the scans.

    ``rotation`` degrees (``rare_rotation`` with probability ``rare``), ``scaling`` log, ``shear``, ``translation``
    voxels: largest values. ``elastic``: probability of a smooth bending with ``knots`` (from, to) a side, whose
    standard deviation is up to ``elastic_strength`` times the knots' distance. ``ventricles``: probability that they
    grow by ``ventricle_growth`` (from, to) mm. ``flip``: probability of mirroring (labels change sides). ``gamma`` and
    ``brightness``: largest |log2|; ``bias``: largest standard deviation of the log of a smooth field; ``noise``:
    largest standard deviation; ``blur`` and ``thick_slices``: probabilities.
    """

    shape: tuple[int, ...] = (96, 112, 96)
    parts: int = 2
    background: float = 0.1
    label_maps: str = ""
    synthetic: float = 0.22
    grey_variation: float = 0.05
    rotation: float = 14.0
    rare_rotation: float = 35.0
    rare: float = 0.15
    scaling: float = 0.26
    shear: float = 0.06
    translation: float = 8.0
    elastic: float = 0.85
    knots: tuple[float, ...] = (3.0, 8.0)
    elastic_strength: float = 0.2
    ventricles: float = 0.5
    ventricle_growth: tuple[float, ...] = (-2.0, 12.0)
    flip: float = 0.5
    gamma: float = 0.7
    brightness: float = 0.2
    bias: float = 0.2
    noise: float = 0.05
    blur: float = 0.3
    thick_slices: float = 0.15

    def __post_init__(self) -> None:
        _require(
            len(self.shape) == 3 and all(n >= 16 and n % 16 == 0 for n in self.shape),
            "blocks.shape must be three multiples of 16",
        )
        _require(1 <= self.parts <= 8, "blocks.parts must be 1 to 8")
        ranges = len(self.knots) == 2 and len(self.ventricle_growth) == 2
        _require(ranges, "blocks.knots and blocks.ventricle_growth are two numbers each, from and to")


@dataclass(frozen=True)
class Stage:
    """A part of the training: the ``fraction`` of it spent at images averaged over blocks of ``downsampling`` voxels.

    ``loss_downsampling``, when given, takes the place of ``losses.downsampling`` in this part.
    """

    downsampling: int = 1
    fraction: float = 1.0
    loss_downsampling: int | None = None


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation. Training ends after ``epochs``, or after ``max_minutes`` when that is given.

    An epoch is ``pairs_per_epoch`` random ordered pairs (0: as many as there are images). The learning rate starts at
    ``learning_rate`` and is halved ``halvings`` times at equal distances over the training, or follows half a cosine.
    ``affine_rate`` multiplies it for the affine head, ``deformable_rate`` for the last layer of the deformable one: the
    map is a cumulative sum, so a small step of that layer's weights moves the far side of the brain by voxels.
    ``warmup_steps`` raises the rate linearly; ``clip_norm`` bounds the gradient's norm (0: no). ``optimiser`` is the
    paper's Adam, SOAP (:mod:`uresnet.training.optimisers.soap`), which takes far fewer updates, or for the segmenter
    Muon (:mod:`uresnet.training.optimisers.muon`). ``averaging``, when not 0, has a running mean of the weights
    validated and kept: the share of it that stays at an update. ``precision`` concerns the network's convolutions (float32 on processors that
    lack bfloat16); losses and sampling grids are always float32. ``channels_last`` is the order of the weights in
    memory; none chooses what is faster on the device. An update sees ``batch_size`` · ``accumulate`` pairs,
    times the number of processes. ``splits`` are those that are trained on. ``start`` names a model, packaged or a
    file, whose weights the training begins with.
    """

    epochs: int = 100
    max_minutes: float | None = None
    pairs_per_epoch: int = 0
    batch_size: int = 1
    accumulate: int = 1
    splits: tuple[str, ...] = ("train",)
    start: str = ""
    optimiser: Literal["adam", "soap", "muon"] = "adam"
    learning_rate: float = 1e-3
    averaging: float = 0.0
    affine_rate: float = 1.0
    deformable_rate: float = 1.0
    schedule: Literal["halving", "cosine"] = "halving"
    halvings: int = 5
    warmup_steps: int = 0
    clip_norm: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool | None = None
    stages: tuple[Stage, ...] = (Stage(),)
    validate_every_minutes: float = 10.0
    checkpoint_every_minutes: float = 5.0
    seed: int = 0

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "training.epochs must be at least 1")
        _require(0 <= self.averaging < 1, "training.averaging must be at least 0 and below 1")
        _require(self.batch_size >= 1 and self.accumulate >= 1, "training.batch_size and accumulate must be at least 1")
        _require(
            abs(sum(s.fraction for s in self.stages) - 1) < 1e-6, "training.stages: the fractions must add up to 1"
        )


@dataclass(frozen=True)
class Config:
    """Everything a training needs to know besides where the data are and where to write.

    With ``segmenter``, the flagship's network is trained, on ``blocks``; otherwise ``model``, a network that takes a
    pair, with ``losses`` and ``augment``.
    """

    data: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    segmenter: SegmenterConfig | None = None
    blocks: BlockConfig = field(default_factory=BlockConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        pair = (self.model, self.losses, self.augment) == (ModelConfig(), LossConfig(), AugmentConfig())
        _require(
            self.segmenter is None or pair,
            "model, losses and augment are those of networks that take a pair; with segmenter, use blocks",
        )
        # What a training would leave unused without a word.
        chosen = self.training.optimiser
        _require(
            chosen != ("soap" if self.segmenter else "muon"),
            f"training.optimiser {chosen} is not for this network: soap is for pairs, muon for the segmenter",
        )
        _require(
            self.segmenter is None or self.training.stages == (Stage(),),
            "training.stages are those of networks that take a pair; the segmenter has none",
        )


def load_config(path: Path | str) -> Config:
    """Read a YAML file. Raises :class:`UserError` for a file or a value that does not fit, naming the key."""
    path = Path(path)
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}.") from error
    return config_from_dict({} if tree is None else tree, str(path))


def config_from_dict(tree: Any, where: str = "the configuration") -> Config:
    """Build a :class:`Config` from nested dictionaries, as YAML and JSON give them."""
    return _build(Config, tree, where, "")


def model_config_from_dict(tree: Any, where: str = "the configuration") -> ModelConfig:
    """Build a :class:`ModelConfig` alone, as checkpoints hold it."""
    return _build(ModelConfig, tree, where, "model")


def segmenter_config_from_dict(tree: Any, where: str = "the configuration") -> SegmenterConfig:
    """Build a :class:`SegmenterConfig`, as model files hold it."""
    return _build(SegmenterConfig, tree, where, "model")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain dictionaries and lists, for YAML or JSON."""
    return {f.name: _plain(getattr(config, f.name)) for f in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


class _BadValue(Exception):
    """Raised while a dataclass checks itself; becomes a UserError that also names the file."""


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise _BadValue(sentence)


def _build(kind: type, tree: Any, where: str, key: str) -> Any:
    if not isinstance(tree, dict):
        raise UserError(f"{where}: {key or 'the file'} must be a mapping of names to values.")
    hints = typing.get_type_hints(kind)
    unknown = [name for name in tree if name not in hints]
    if unknown:
        raise UserError(f"{where}: unknown key '{_join(key, unknown[0])}'; known are {', '.join(hints)}.")
    values = {name: _convert(hints[name], value, where, _join(key, name)) for name, value in tree.items()}
    try:
        return kind(**values)
    except _BadValue as error:
        raise UserError(f"{where}: {error}.") from error


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    """One value to the type that the dataclass declares; nothing is guessed but int → float."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where, key)
    if origin is types.UnionType:
        if value is None:
            return None
        return _convert(next(a for a in arguments if a is not type(None)), value, where, key)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], v, where, f"{key}[{i}]") for i, v in enumerate(value))
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except ValueError:
            pass
    if hint in (int, bool, str) and type(value) is hint:
        return value
    wanted = f"one of {', '.join(map(str, arguments))}" if origin is Literal else _type_name(hint)
    raise UserError(f"{where}: {key} must be {wanted}, not {value!r}.")


def _type_name(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return names.get(hint, "a list")


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
