"""The default model's network (kind "midspace"): one image in, its structures out at full resolution.

Each image is encoded once and on its own, so that a cohort of N images needs N encodings. All convolutions run at half
the resolution or less: eight neighbouring voxels become eight channels, and in the end every half-resolution voxel
gives the classes of its eight voxels. Features are normalised voxel by voxel, so that a crop and the whole brain get
the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uresnet.config import SegmenterConfig
from uresnet.core.ops import classify, is_plain

_SLOPE = 0.1
_CHUNK = 16_384  # half-resolution voxels whose eight times C logits are held at once
_REACH = 2  # half-resolution voxels beyond the last bright one in which a structure may still lie
SMALLEST = 4
"""Every axis of an image is a multiple of this."""

_PARTS = 8  # voxels of a block of 2 × 2 × 2
_MIRRORED_PARTS = [4, 5, 6, 7, 0, 1, 2, 3]  # where the first axis runs the other way


class ChannelNorm(nn.Module):
    """Zero mean and unit variance over the channels of each voxel, then a learned scale and shift."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → the same shape."""
        with torch.autocast(x.device.type, enabled=False):  # its sums are float32 whatever x is
            scale, shift = self.weight.to(x.dtype), self.bias.to(x.dtype)
            return F.layer_norm(x.movedim(1, -1), (x.shape[1],), scale, shift).movedim(-1, 1)


class Convolution(nn.Conv3d):
    """A convolution that is fast for small volumes too.

    For one image with 20,480 values in a slice or fewer PyTorch leaves oneDNN for a loop of its own, which takes up to
    twenty times as long. Training, other devices and other types take PyTorch's way.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → (B, D, i, j, k)."""
        onednn = torch.backends.mkldnn
        if not (is_plain(x, self.weight) and onednn.is_available() and onednn.enabled):  # type: ignore[no-untyped-call]
            return super().forward(x)
        sides: list[list[int]] = [[int(n) for n in side] for side in (self.padding, self.stride, self.dilation)]
        found: Tensor = torch.ops.aten.mkldnn_convolution(x, self.weight, self.bias, *sides, self.groups)
        return found


class ResidualBlock(nn.Module):
    """Two 3×3×3 convolutions, each after a normalisation and LeakyReLU, added to what came in. Starts as identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_1 = ChannelNorm(channels)
        self.convolution_1 = Convolution(channels, channels, 3, padding=1)
        self.norm_2 = ChannelNorm(channels)
        self.convolution_2 = Convolution(channels, channels, 3, padding=1)
        nn.init.zeros_(self.convolution_2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, I, J, K) → the same shape."""
        y: Tensor = self.convolution_1(F.leaky_relu(self.norm_1(x), _SLOPE, inplace=True))
        y = self.convolution_2(F.leaky_relu(self.norm_2(y), _SLOPE, inplace=True))
        return x + y


class Segmenter(nn.Module):
    """A U-shaped network over blocks of 2×2×2 voxels, for ``config.classes`` classes, background first.

    ``mirrored`` gives for every class the one on the other side of the body. Where it is set, images run from side to
    side along their first axis, and a second look at one is a look at its mirror image, in which other errors are made.
    """

    smallest = SMALLEST
    mirrored: tuple[int, ...] | None = None

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.channels
        pairs = list(pairwise(widths))
        self.stem = Convolution(_PARTS, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.down = nn.ModuleList(Convolution(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.up = nn.ModuleList(nn.Conv3d(coarse, fine, 1) for fine, coarse in pairs)
        self.decoder = nn.ModuleList(ResidualBlock(width) for width in widths[:-1])
        self.norm = ChannelNorm(widths[0])
        self.hidden = nn.Conv3d(widths[0] + _PARTS, config.hidden, 1)
        self.head = nn.Conv3d(config.hidden, _PARTS * config.classes, 1)
        self.synthesis = _synthesis_head(config) if config.synthesis else None

    def features(self, image: Tensor) -> Tensor:
        """image (B, 1, I, J, K) in [0, 1] → (B, hidden, I/2, J/2, K/2), the input of the head."""
        if image.shape[1] != 1 or any(n % SMALLEST for n in image.shape[2:]):
            raise ValueError(f"an image is (B, 1, I, J, K), axes multiples of {SMALLEST}: {tuple(image.shape)}")
        blocks = blocks_to_channels(image).contiguous(memory_format=torch.channels_last_3d)
        x, skips = self.stem(blocks), []
        for level, encode in enumerate(self.encoder):
            x = encode(x)
            if level < len(self.down):
                skips.append(x)
                x = self.down[level](x)
                if level == 0:
                    x = _repeated(x, 2 ** (len(self.down) - 1))
        for up, decode, skip in zip(reversed(self.up), reversed(self.decoder), reversed(skips), strict=True):
            i, j, k = skip.shape[2:]
            x = decode(skip + F.interpolate(up(x), scale_factor=2, mode="nearest")[:, :, :i, :j, :k])
        joined = torch.cat([F.leaky_relu(self.norm(x), _SLOPE, inplace=True), blocks], dim=1)
        # A convolution of one voxel is a product of matrices, which is faster by that name.
        hidden = F.linear(joined.movedim(1, -1), self.hidden.weight.flatten(1), self.hidden.bias)
        return F.leaky_relu(hidden, _SLOPE, inplace=True).movedim(-1, 1)

    def logits(self, features: Tensor, parts: list[int] | None = None) -> Tensor:
        """(B, V, P, C): logits of the chosen ``parts`` (0 … 7, all by default) of the V half-resolution voxels."""
        weight = self.head.weight.view(_PARTS, self.config.classes, -1)
        bias = self.head.bias.view(_PARTS, self.config.classes)  # type: ignore[union-attr]
        if parts is not None:
            weight, bias = weight[parts], bias[parts]
        flat = features.movedim(1, -1).reshape(len(features), -1, features.shape[1])
        logits = F.linear(flat, weight.flatten(0, 1), bias.flatten())
        return logits.reshape(*logits.shape[:2], -1, self.config.classes)

    def forward(self, image: Tensor, shifted_pass: bool = False) -> tuple[Tensor, Tensor]:
        """image (1, 1, I, J, K) → most probable class of every voxel, (I, J, K) uint8, and probabilities of the classes
        averaged over blocks of 2×2×2 voxels, (C, I/2, J/2, K/2) float32.

        Only the smallest box that holds all that is not 0 is evaluated, and what lies more than four voxels from
        anything brighter is background. The logits of all classes at full resolution (0.7 GB for a brain) are never
        held at once. ``shifted_pass`` evaluates the image, or its mirror image, a second time, shifted by one voxel
        along every axis, and averages the logits: which voxels form a block is arbitrary, and the errors of different
        blocks differ.
        """
        box = self._box(image)
        part = image[0, 0][box][None, None]
        return self._placed(image, box, self._evaluate(part, [self._seen(part, shifted_pass)]))

    def together(
        self, other: Segmenter, image: Tensor, shown: Tensor, share: float, shifted_pass: bool = False
    ) -> tuple[Tensor, Tensor]:
        """As :meth:`forward`, from the probabilities of this network and of another one (:func:`joined`), whose classes
        are the first of this one's, which is ``shown`` the same brain in another contrast and whose ``share`` is
        between 0 and 1."""
        box = self._box(image)
        part, its_part = image[0, 0][box][None, None], shown[0, 0][box][None, None]
        seen = [self._seen(part, shifted_pass), other._seen(its_part, shifted_pass)]
        return self._placed(image, box, self._evaluate(part, seen, share))

    def _seen(self, image: Tensor, shifted_pass: bool) -> _Seen:
        """One look at an ``image``, or two."""
        features = self.features(image)
        if not shifted_pass:
            return _Seen(self, features)
        second = image if self.mirrored is None else image.flip(2)
        again = self.features(F.pad(second, (1, -1) * 3))
        return _Seen(self, features, again, shifted=True, mirrored=self.mirrored)

    def first_look(self, image: Tensor, of: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """image (1, 1, I, J, K) → the most probable class of the first voxel of every block of 2×2×2, (I/2, J/2, K/2)
        uint8, the probability of any class in ``of``, the same shape, and the features for :meth:`with_t1`. Background
        where a block is black."""
        box = self._box(image)
        part = image[0, 0][box][None, None]
        features = self.features(part)
        filled = F.max_pool3d(part, 2)[0, 0] > 0
        logits = self.logits(_picked(features, filled.flatten().nonzero()[:, 0]), [0])[0, :, 0].float()
        blocks = tuple(slice(side.start // 2, side.stop // 2) for side in box)
        classes = torch.zeros(tuple(n // 2 for n in image.shape[2:]), dtype=torch.uint8, device=image.device)
        probability = torch.zeros(classes.shape, device=image.device)
        classes[blocks][filled] = logits.argmax(dim=-1).to(torch.uint8)
        probability[blocks][filled] = logits.softmax(dim=-1)[:, list(of)].sum(dim=-1)
        return classes, probability, features

    def with_t1(self, image: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The classes and probabilities of :meth:`forward`, and the T1-weighted image predicted for the same brain,
        (1, 1, I, J, K) in [0, 1], 0 where the image is; means of those of the image and of its mirror image where the
        network knows what is ``mirrored``. ``features`` are those of :meth:`first_look`, if it has looked.

        Raises ``ValueError`` for a network without synthesis.
        """
        if self.synthesis is None:
            raise ValueError("this network predicts no T1-weighted image")
        box = self._box(image)
        part = image[0, 0][box][None, None]
        if features is None:
            features = self.features(part)
        predicted, again = self.t1_of(features, part), None
        if self.mirrored is not None:
            other = part.flip(2)
            again = self.features(other)
            predicted = (predicted + self.t1_of(again, other).flip(2)) / 2
        t1 = torch.zeros_like(image)
        t1[0, 0][box] = (predicted.clamp(0, 1) * (part > 0))[0, 0]
        seen = _Seen(self, features, again, mirrored=self.mirrored)
        return (*self._placed(image, box, self._evaluate(part, [seen])), t1)

    def t1_of(self, features: Tensor, image: Tensor) -> Tensor:
        """The T1-weighted image (1, 1, I, J, K) that a network with synthesis predicts from the ``features`` of an
        ``image`` of that shape."""
        assert self.synthesis is not None
        joined = torch.cat([features, blocks_to_channels(image)], dim=1).movedim(1, -1)
        return channels_to_blocks(self.synthesis(joined).movedim(-1, 1))

    def _placed(self, image: Tensor, box: tuple[slice, ...], found: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Classes and probabilities of a ``box``, among background, as large as the image."""
        classes = torch.zeros(image.shape[2:], dtype=torch.uint8, device=image.device)
        probabilities = torch.zeros((self.config.classes, *(n // 2 for n in image.shape[2:])), device=image.device)
        probabilities[0] = 1
        classes[box] = found[0]
        probabilities[(slice(None), *(slice(side.start // 2, side.stop // 2) for side in box))] = found[1]
        return classes, probabilities

    def _box(self, image: Tensor) -> tuple[slice, ...]:
        """Where an image is not 0, from even to even voxels, as large as the finest level needs it."""
        box = []
        for axis, n in enumerate(image.shape[2:]):
            filled = (image[0, 0] > 0).any(dim=tuple(a for a in range(3) if a != axis)).nonzero()
            low, high = (int(filled[0]), int(filled[-1]) + 1) if len(filled) else (0, n)
            size = min(n, -(-(high - low // 2 * 2) // self.smallest) * self.smallest)
            start = min(max(0, (low + high - size) // 4 * 2), n - size)
            box.append(slice(start, start + size))
        return tuple(box)

    def _evaluate(self, image: Tensor, seen: Sequence[_Seen], share: float = 0.0) -> tuple[Tensor, Tensor]:
        """Classes and probabilities from what one or two networks have ``seen``. ``share`` is that of the second."""
        half = seen[0].features.shape[2:]
        evaluated = near_brain(image).flatten().nonzero()[:, 0]
        classes = torch.zeros((half.numel(), _PARTS), dtype=torch.uint8, device=image.device)
        probabilities = torch.zeros((self.config.classes, half.numel()), device=image.device)
        probabilities[0] = 1
        for rows in torch.split(evaluated, _CHUNK):
            logits, *other = [each.logits(rows) for each in seen]
            classes[rows], found = classify(joined(logits, other[0], share) if other else logits)
            probabilities[:, rows] = found.T
        return channels_to_blocks(classes.T.reshape(1, _PARTS, *half))[0, 0], probabilities.view(-1, *half)

    def _shifted_logits(self, features: Tensor, rows: Tensor, logits: Tensor) -> Tensor:
        """Logits (V, 8, C) of the blocks ``rows`` from ``features`` of the image shifted by one voxel along every axis.

        There each voxel of a block lies in a block of its own, in the corner opposite to where it was. Voxels that were
        shifted out of the image keep their ``logits``.
        """
        shape = features.shape[2:]
        block = [rows // (shape[1] * shape[2]), rows // shape[2] % shape[1], rows % shape[2]]
        parts = []
        for part, corner in enumerate(product((0, 1), repeat=3)):
            i, j, k = (index + step for index, step in zip(block, corner, strict=True))
            inside = (i < shape[0]) & (j < shape[1]) & (k < shape[2])
            block_rows = torch.where(inside, (i * shape[1] + j) * shape[2] + k, rows)
            shifted = self.logits(_picked(features, block_rows), [_PARTS - 1 - part])[0, :, 0]
            parts.append(torch.where(inside[:, None], shifted, logits[:, part]))
        return torch.stack(parts, dim=1)


@dataclass(frozen=True, eq=False)
class _Seen:
    """Features of an image, and of a second look at it ``again``: of the image, or of its mirror image whose classes
    are ``mirrored``; ``shifted`` by one voxel along every axis, or not."""

    network: Segmenter
    features: Tensor
    again: Tensor | None = None
    shifted: bool = False
    mirrored: Sequence[int] | None = None

    def logits(self, rows: Tensor) -> Tensor:
        """Logits (V, 8, C) of the blocks ``rows``: means of both looks."""
        logits = self.network.logits(_picked(self.features, rows))[0]
        if self.again is None:
            return logits
        if self.mirrored is None:
            return (logits + self._second(rows, logits)) / 2
        return (logits + self._turned(self._second(self._opposite(rows), self._turned(logits)))) / 2

    def _second(self, rows: Tensor, logits: Tensor) -> Tensor:
        """Those of the second look, of the blocks ``rows`` of what was seen there; ``logits`` where nothing was."""
        assert self.again is not None
        if self.shifted:
            return self.network._shifted_logits(self.again, rows, logits)
        return self.network.logits(_picked(self.again, rows))[0]

    def _opposite(self, rows: Tensor) -> Tensor:
        """The rows of the same blocks in the mirror image."""
        first, *others = self.features.shape[2:]
        of_slice = others[0] * others[1]
        return (first - 1 - rows // of_slice) * of_slice + rows % of_slice

    def _turned(self, logits: Tensor) -> Tensor:
        """Logits of the mirror image as those of the image, or the converse."""
        assert self.mirrored is not None
        return logits[:, _MIRRORED_PARTS][:, :, list(self.mirrored)]


def _synthesis_head(config: SegmenterConfig) -> nn.Sequential:
    """From the features and the eight voxels of a block to eight voxels of another contrast."""
    width = config.synthesis
    return nn.Sequential(
        nn.Linear(config.hidden + _PARTS, width),
        nn.LeakyReLU(_SLOPE),
        nn.Linear(width, width),
        nn.LeakyReLU(_SLOPE),
        nn.Linear(width, _PARTS),
    )


def _repeated(x: Tensor, multiple: int) -> Tensor:
    """Its ends repeated until every axis of (B, C, i, j, k) is a ``multiple``: coarser levels halve it further."""
    missing = [-n % multiple for n in x.shape[2:]]
    return F.pad(x, [n for size in reversed(missing) for n in (0, size)], mode="replicate") if any(missing) else x


def _picked(features: Tensor, rows: Tensor) -> Tensor:
    """The features (1, C, i, j, k) of the voxels ``rows``, as a line of them: (1, C, V, 1, 1)."""
    return features.movedim(1, -1).reshape(-1, features.shape[1])[rows].T[None, :, :, None, None]


def joined(logits: Tensor, other: Tensor, share: float) -> Tensor:
    """Logits (V, P, C) of the mean probabilities of two networks, ``other`` (V, P, D) with fewer classes.

    What the first takes for a class that the other does not know keeps its probability; what is left is shared out as
    both say, a ``share`` of it as the other does.
    """
    known = other.shape[-1]
    probabilities = logits.softmax(dim=-1)
    left = 1 - probabilities[..., known:].sum(dim=-1, keepdim=True)
    own, others = probabilities[..., :known], other.softmax(dim=-1) * left
    probabilities[..., :known] = own + share * (others - own)
    return probabilities.clamp_min(1e-30).log()


def near_brain(image: Tensor) -> Tensor:
    """(1, 1, I, J, K) → the half-resolution voxels in which a structure may lie, (1, 1, I/2, J/2, K/2) bool."""
    near = F.max_pool3d(image, 2)
    for _ in range(_REACH):
        near = F.max_pool3d(near, 3, stride=1, padding=1)
    return near > 0


def blocks_to_channels(x: Tensor) -> Tensor:
    """(B, C, I, J, K) → (B, 8 C, I/2, J/2, K/2): the voxels of each block of 2×2×2, last axis fastest."""
    b, c, i, j, k = x.shape
    split = x.reshape(b, c, i // 2, 2, j // 2, 2, k // 2, 2)
    return split.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, c * _PARTS, i // 2, j // 2, k // 2)


def channels_to_blocks(x: Tensor) -> Tensor:
    """The inverse of :func:`blocks_to_channels`."""
    b, c, i, j, k = x.shape
    split = x.reshape(b, c // _PARTS, 2, 2, 2, i, j, k)
    return split.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, c // _PARTS, 2 * i, 2 * j, 2 * k)
