"""Which images are registered to which: new pairs in every epoch of training, always the same for validation."""

from __future__ import annotations

import numpy as np

Pair = tuple[int, int]


def random_pairs(images: int, count: int, seed: int, epoch: int) -> list[Pair]:
    """``count`` ordered pairs (moving, fixed) of different images out of ``images``.

    Every image is moving about equally often; its fixed image is drawn at random. The same ``seed`` and ``epoch``
    always give the same pairs, so that a resumed training continues as if it had not stopped.
    """
    if images < 2:
        raise ValueError("a pair needs two images")
    rng = np.random.default_rng([seed, epoch])
    rounds = -(-count // images)
    moving = np.concatenate([rng.permutation(images) for _ in range(rounds)])[:count]
    step = rng.integers(1, images, size=count)
    return [(int(first), int((first + n) % images)) for first, n in zip(moving, step, strict=True)]


def ring_pairs(images: int) -> list[Pair]:
    """Every image with the next one in a ring, then all of these the other way round: 2·images fixed pairs."""
    forward = [(i, (i + 1) % images) for i in range(images)]
    return forward + [(fixed, moving) for moving, fixed in forward]
