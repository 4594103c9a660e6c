"""Which images are registered to which."""

from __future__ import annotations

from collections import Counter

import pytest

from uresnet.training.data.pairs import random_pairs, ring_pairs


@pytest.mark.parametrize(("images", "count"), [(2, 7), (5, 5), (9, 40)])
def test_every_image_moves_about_equally_often_and_never_to_itself(images: int, count: int) -> None:
    pairs = random_pairs(images, count, seed=1, epoch=2)
    assert len(pairs) == count
    assert all(m != f and 0 <= m < images and 0 <= f < images for m, f in pairs)
    moving = Counter(m for m, _ in pairs)
    assert max(moving.values()) - min(moving.get(n, 0) for n in range(images)) <= 1


def test_pairs_are_new_in_every_epoch_and_the_same_when_asked_again() -> None:
    assert random_pairs(9, 9, 0, 3) == random_pairs(9, 9, 0, 3)
    assert random_pairs(9, 9, 0, 3) != random_pairs(9, 9, 0, 4)
    assert random_pairs(9, 9, 0, 3) != random_pairs(9, 9, 1, 3)


def test_partners_are_spread() -> None:
    fixed = Counter(f for epoch in range(50) for _, f in random_pairs(5, 5, 0, epoch))
    assert min(fixed.values()) > 25  # 50 each on average


def test_a_single_image_has_no_pair() -> None:
    with pytest.raises(ValueError, match="two images"):
        random_pairs(1, 3, 0, 0)


def test_validation_pairs_are_a_ring_both_ways() -> None:
    assert ring_pairs(3) == [(0, 1), (1, 2), (2, 0), (1, 0), (2, 1), (0, 2)]
