"""What can be chosen about a training: losses, augmentation, blocks, stages and the optimisation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from uresnet.config.checks import (
    Count,
    CountOrNone,
    NotNegative,
    Positive,
    Real,
    Share,
    Side,
    Within,
    check_numbers,
    require,
)
from uresnet.config.model import ModelConfig, SegmenterConfig
from uresnet.core.labels import label_scheme

Knots = Annotated[float, Within(1, 64)]
Thickness = Annotated[float, Within(1, 32)]
Seed = Annotated[int, Within(0, 2**63 - 1)]


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

    w1: NotNegative = 1.0
    w2: NotNegative = 1.0
    mse: NotNegative = 1.0
    lcc: NotNegative = 1.0
    lcc_window: Side = 9
    alpha: NotNegative = 0.1
    beta: NotNegative = 1e-5
    gamma: NotNegative = 1.0
    delta: NotNegative = 1.0
    warped_labels: NotNegative = 0.0
    warped_label_scheme: str = "table1"
    downsampling: Side = 1
    roughness: NotNegative = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, "losses")
        label_scheme(self.warped_label_scheme)
        require(self.lcc_window % 2 == 1, "losses.lcc_window must be odd")


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training images. A magnitude of 0, the default, leaves that change out.

    ``rotation`` degrees, ``scaling`` and ``shear`` fractions, ``translation`` voxels: largest values, drawn for each
    image. ``elastic`` voxels: standard deviation of a smooth displacement with knots every ``elastic_spacing`` voxels.
    ``ventricles``: probability that an image's ventricles grow by ``ventricle_growth`` (from, to) mm. ``flip``:
    probability that a pair is mirrored left–right (labels change sides). ``gamma``: largest |log2| of the exponent;
    ``brightness``: largest |log2| of a factor; ``bias``: standard deviation of the log of a smooth field;
    ``noise``: largest standard deviation of white noise. Intensities are those of conformed images, in [0, 1].
    """

    rotation: NotNegative = 0.0
    scaling: NotNegative = 0.0
    shear: NotNegative = 0.0
    translation: NotNegative = 0.0
    elastic: NotNegative = 0.0
    elastic_spacing: Side = 24
    ventricles: Share = 0.0
    ventricle_growth: tuple[Real, Real] = (-2.0, 12.0)
    flip: Share = 0.0
    gamma: NotNegative = 0.0
    brightness: NotNegative = 0.0
    bias: NotNegative = 0.0
    noise: NotNegative = 0.0

    def __post_init__(self) -> None:
        check_numbers(self, "augment")
        require(_is_range(self.ventricle_growth), "augment.ventricle_growth must be two numbers, from and to")

    @property
    def moves(self) -> bool:
        """Whether images are resampled."""
        return any((self.rotation, self.scaling, self.shear, self.translation, self.elastic, self.ventricles))


@dataclass(frozen=True)
class AbnormalConfig:
    """Abnormal tissue painted into the scans of pairs (:mod:`uresnet.training.examples.painted_scans`).

    ``moving`` and ``fixed``: the probabilities that such tissue is painted into that scan of a pair. The share ``mass``
    of it is a mass of ``mass_radius`` (from, to) mm, most of which push their surroundings away; the rest is lesions of
    the white matter, whose portion of it is between the two numbers of ``lesion_portion``.
    """

    moving: Share = 0.7
    fixed: Share = 0.3
    mass: Share = 0.7
    mass_radius: tuple[Positive, Positive] = (8.0, 26.0)
    lesion_portion: tuple[Share, Share] = (0.01, 0.12)

    def __post_init__(self) -> None:
        check_numbers(self, "abnormal")
        for name in ("mass_radius", "lesion_portion"):
            require(_is_range(getattr(self, name)), f"abnormal.{name} must be two numbers, from and to")
        require(self.lesion_portion[0] > 0, "abnormal.lesion_portion must be above 0; abnormal.mass: 1 for masses only")


@dataclass(frozen=True)
class BlockConfig:
    """The blocks that a segmenter is trained on (:mod:`uresnet.training.examples.blocks`).

    ``shape`` voxels of a block. The loss is computed on ``parts`` of the eight voxels of every 2×2×2, and on the share
    ``background`` of the voxels outside the brain. ``label_maps`` is a folder of label maps; the share ``synthetic`` of
    the blocks is an image made from one of them, in which the grey value of every structure is drawn with a standard
    deviation of ``grey_variation`` about that of the scans.

    ``rotation`` degrees (``rare_rotation`` with probability ``rare``), ``scaling`` log, ``shear``, ``translation``
    voxels: largest values. ``elastic``: probability of a smooth displacement with ``knots`` (from, to) a side,
    whose standard deviation is up to ``elastic_strength`` times the knots' distance. ``ventricles``: probability that
    they grow by ``ventricle_growth`` (from, to) mm. ``flip``: probability of mirroring (labels change sides). ``gamma``
    and ``brightness``: largest |log2|; ``bias``: largest standard deviation of the log of a smooth field; ``noise``:
    largest standard deviation; ``blur`` and ``thick_slices``: probabilities. Probabilities are of one block.
    """

    shape: tuple[Side, Side, Side] = (96, 112, 96)
    parts: int = 2
    background: Share = 0.1
    label_maps: str = ""
    synthetic: Share = 0.22
    grey_variation: NotNegative = 0.05
    rotation: NotNegative = 14.0
    rare_rotation: NotNegative = 35.0
    rare: Share = 0.15
    scaling: NotNegative = 0.26
    shear: NotNegative = 0.06
    translation: NotNegative = 8.0
    elastic: Share = 0.85
    knots: tuple[Knots, Knots] = (3.0, 8.0)
    elastic_strength: NotNegative = 0.2
    ventricles: Share = 0.5
    ventricle_growth: tuple[Real, Real] = (-2.0, 12.0)
    flip: Share = 0.5
    gamma: NotNegative = 0.7
    brightness: NotNegative = 0.2
    bias: NotNegative = 0.2
    noise: NotNegative = 0.05
    blur: Share = 0.3
    thick_slices: Share = 0.15

    def __post_init__(self) -> None:
        check_numbers(self, "blocks")
        require(
            len(self.shape) == 3 and all(n >= 16 and n % 16 == 0 for n in self.shape),
            "blocks.shape must be three multiples of 16",
        )
        require(1 <= self.parts <= 8, "blocks.parts must be 1 to 8")
        are_ranges = _is_range(self.knots) and _is_range(self.ventricle_growth)
        require(are_ranges, "blocks.knots and blocks.ventricle_growth are two numbers each, from and to")


@dataclass(frozen=True)
class ContrastConfig:
    """Blocks of any contrast and resolution, with abnormal tissue (:mod:`uresnet.training.examples.any_contrast`).

    Of the blocks of scans the share ``natural`` keeps its contrast, ``remapped`` gets that of a curve through its
    intensities, and the rest is painted from the labels, as blocks of label maps are. With probability ``families`` the
    new contrast is one with the order of tissues of T1, T2, FLAIR or PD, else every structure may have any grey value.
    The share ``others`` of all blocks shows a scan of another contrast as it is, where the data hold any with its T1.

    Probabilities in one block: ``lesions`` of the white matter, whose portion of it is between the two numbers of
    ``lesion_portion``; a ``mass`` of ``mass_radius`` (from, to) mm, with neither core nor rim in the share
    ``infiltrating`` of them; a ``stroke`` with the shape of one of the masks in the folder ``stroke_masks``; ``slices``
    of ``thickness`` (from, to) mm; ``coarse``, all sides of the voxels up to three times as long; ``uneven``, a brain
    that is not stripped exactly; ``cut``, a field of view that ends early by up to ``cut_share``. ``bias`` and
    ``noise`` are largest values as in ``blocks``.

    In the loss, ``abnormal_weight`` is the weight of classes of abnormal tissue, where the others have 1. ``t1`` weighs
    the mean distance of the predicted T1 from the true one, ``t1_edges`` that of their differences between neighbours.
    """

    natural: Share = 0.4
    remapped: Share = 0.4
    families: Share = 0.7
    others: Share = 0.4
    lesions: Share = 0.35
    lesion_portion: tuple[Share, Share] = (0.0005, 0.12)
    mass: Share = 0.18
    mass_radius: tuple[Positive, Positive] = (5.0, 26.0)
    infiltrating: Share = 0.4
    stroke: Share = 0.1
    stroke_masks: str = ""
    slices: Share = 0.35
    thickness: tuple[Thickness, Thickness] = (1.5, 7.0)
    coarse: Share = 0.15
    uneven: Share = 0.5
    cut: Share = 0.1
    cut_share: Share = 0.25
    bias: NotNegative = 0.35
    noise: NotNegative = 0.05
    abnormal_weight: Positive = 2.0
    t1: NotNegative = 1.0
    t1_edges: NotNegative = 1.0

    def __post_init__(self) -> None:
        check_numbers(self, "contrasts")
        for name in ("lesion_portion", "mass_radius", "thickness"):
            require(_is_range(getattr(self, name)), f"contrasts.{name} must be two numbers, from and to")
        require(self.lesion_portion[0] > 0, "contrasts.lesion_portion must be above 0; contrasts.lesions: 0 for none")
        require(self.natural + self.remapped <= 1, "contrasts.natural and contrasts.remapped are more than 1 together")
        require(self.cut_share < 1, "contrasts.cut_share must be below 1")


@dataclass(frozen=True)
class HeadConfig:
    """Heads of any contrast made from label maps (:mod:`uresnet.training.examples.heads`). ``find`` is what the network
    learns to find: the "brain" in the whole head, or the "structures" of a brain without its head.

    With probability ``families`` the brain has the order of tissues of T1, T2, FLAIR or PD, in the share ``t1`` of them
    that of T1, else every structure may have any grey value; with ``dark_bone`` what looks like bone is dark.
    Probabilities in one block: ``abnormal`` tissue; a head that is ``stripped`` or ``defaced`` already; ``slices`` of
    ``thickness`` (from, to) mm; ``cut``, a field of view that ends early by up to ``cut_share``. ``bias`` and ``noise``
    are largest values as in ``blocks``, of which the shape and its changes are used, and ``flip``.
    """

    find: Literal["brain", "structures"] = "brain"
    families: Share = 0.7
    t1: Share = 0.25
    dark_bone: Share = 0.5
    abnormal: Share = 0.25
    stripped: Share = 0.2
    defaced: Share = 0.2
    slices: Share = 0.35
    thickness: tuple[Thickness, Thickness] = (2.0, 6.0)
    cut: Share = 0.35
    cut_share: Share = 0.25
    bias: NotNegative = 0.4
    noise: NotNegative = 0.05

    def __post_init__(self) -> None:
        check_numbers(self, "heads")
        require(_is_range(self.thickness), "heads.thickness must be two numbers, from and to")
        require(self.cut_share < 1, "heads.cut_share must be below 1")


@dataclass(frozen=True)
class Stage:
    """A part of the training: the ``fraction`` of it spent at images averaged over blocks of ``downsampling`` voxels.

    ``loss_downsampling``, when given, replaces ``losses.downsampling`` in this part.
    """

    downsampling: Side = 1
    fraction: Share = 1.0
    loss_downsampling: Side | None = None

    def __post_init__(self) -> None:
        check_numbers(self, "training.stages")


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation. Training ends after ``epochs``, or after ``max_minutes`` if that is given.

    An epoch is ``pairs_per_epoch`` random ordered pairs (0: as many as there are images). The learning rate starts at
    ``learning_rate`` and is halved ``halvings`` times at equal distances over the training, or follows half a cosine.
    ``affine_rate`` multiplies it for the affine head, ``deformable_rate`` for the last layer of the deformable one: the
    map is a cumulative sum, so a small step of that layer's weights moves the far side of the brain by voxels.
    ``warmup_steps`` raises the rate linearly; ``clip_norm`` bounds the gradient's norm (0: no). ``optimiser`` is the
    paper's Adam, SOAP (:mod:`uresnet.training.optimisers.soap`), which takes far fewer updates, or for the segmenter
    Muon (:mod:`uresnet.training.optimisers.muon`). With ``averaging`` above 0, a running mean of the weights is
    validated and kept; ``averaging`` is the share of the mean that remains at an update. ``precision`` is that of the
    network's convolutions (float32 on processors that lack bfloat16); losses and sampling grids are always float32.
    ``channels_last`` is the order of the weights in memory; null takes the faster one on the device. An update uses
    ``batch_size`` · ``accumulate`` pairs, times the number of processes. ``splits`` are those that are trained on.
    ``start`` names a model, packaged or a file, whose weights the training begins with.
    """

    epochs: Count = 100
    max_minutes: Positive | None = None
    pairs_per_epoch: CountOrNone = 0
    batch_size: Count = 1
    accumulate: Count = 1
    splits: tuple[str, ...] = ("train",)
    start: str = ""
    optimiser: Literal["adam", "soap", "muon"] = "adam"
    learning_rate: Positive = 1e-3
    averaging: Share = 0.0
    affine_rate: NotNegative = 1.0
    deformable_rate: NotNegative = 1.0
    schedule: Literal["halving", "cosine"] = "halving"
    halvings: CountOrNone = 5
    warmup_steps: CountOrNone = 0
    clip_norm: NotNegative = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool | None = None
    stages: tuple[Stage, ...] = (Stage(),)
    validate_every_minutes: NotNegative = 10.0
    checkpoint_every_minutes: NotNegative = 5.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_numbers(self, "training")
        require(0 <= self.averaging < 1, "training.averaging must be at least 0 and below 1")
        require(len(self.splits) >= 1, "training.splits must name at least one split")
        require(
            abs(sum(stage.fraction for stage in self.stages) - 1) < 1e-6,
            "training.stages: the fractions must add up to 1",
        )


@dataclass(frozen=True)
class Config:
    """Everything a training needs to know besides where the data are and where to write.

    With ``segmenter``, the segmenter of a midspace model is trained on ``blocks``, with ``contrasts`` for images of any
    contrast, or, with ``heads``, the network that finds the brain in a head; otherwise ``model``, a network that takes
    a pair, with ``losses`` and ``augment``. ``abnormal`` tissue may be painted into the scans of pairs.
    """

    data: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    abnormal: AbnormalConfig | None = None
    segmenter: SegmenterConfig | None = None
    blocks: BlockConfig = field(default_factory=BlockConfig)
    contrasts: ContrastConfig | None = None
    heads: HeadConfig | None = None
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def __post_init__(self) -> None:
        for_pairs = (self.model, self.losses, self.augment)
        require(
            self.segmenter is None or for_pairs == (ModelConfig(), LossConfig(), AugmentConfig()),
            "model, losses and augment are for networks that take a pair; with segmenter, use blocks",
        )
        require(self.segmenter is None or self.abnormal is None, "abnormal is for pairs; with segmenter, use contrasts")
        require(self.segmenter is not None or self.contrasts is None, "contrasts need a segmenter")
        require(self.segmenter is not None or self.heads is None, "heads need a segmenter")
        require(self.contrasts is None or self.heads is None, "choose contrasts or heads, not both")
        from_folder = self.heads is not None and self.blocks.label_maps
        require(not from_folder, "with heads, the label maps are the data: prepare them with uresnet prepare heads")
        coarse = self.heads is not None and self.heads.find == "structures"
        require(
            self.segmenter is None or (self.segmenter.downsampling == 2) == coarse,
            "segmenter.downsampling is 2 with heads.find: structures, and 1 otherwise",
        )
        # Settings that a training would silently ignore are errors.
        chosen = self.training.optimiser
        require(
            chosen != ("soap" if self.segmenter else "muon"),
            f"training.optimiser {chosen} is not for this network: soap is for pairs, muon for the segmenter",
        )
        require(
            self.segmenter is None or self.training.stages == (Stage(),),
            "training.stages are for networks that take a pair; the segmenter has none",
        )
        predicts_t1 = self.segmenter is not None and self.segmenter.synthesis > 0
        require(not predicts_t1 or self.contrasts is not None, "segmenter.synthesis is learned with contrasts only")


def _is_range(pair: tuple[float, ...]) -> bool:
    return len(pair) == 2 and pair[0] <= pair[1]
