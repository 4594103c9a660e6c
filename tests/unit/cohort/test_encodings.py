"""What the network says of an image is kept to the bit, asked for once, and bounded on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from uresnet.cohort.encodings import Encodings, KeptNetwork
from uresnet.config import SegmenterConfig
from uresnet.model.segmenter import Segmenter


@pytest.fixture(scope="module")
def network() -> Segmenter:
    torch.manual_seed(3)
    return Segmenter(SegmenterConfig(channels=(8, 8), blocks=(1, 1), hidden=8, classes=5)).eval().requires_grad_(False)


def image(seed: int) -> torch.Tensor:
    """A bright block in the dark."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros((1, 1, 24, 20, 28))
    out[0, 0, 4:18, 6:16, 3:20] = torch.rand((14, 10, 17), generator=generator)
    return out


def same(a: tuple[torch.Tensor, ...], b: tuple[torch.Tensor, ...]) -> bool:
    return all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))


def test_many_pairs_need_an_encoding_for_each_image(network: Segmenter, tmp_path: Path) -> None:
    folder, images = tmp_path / "encodings", [image(n) for n in range(4)]
    workers = [KeptNetwork(network, "model", Encodings(folder, 10**9)) for _ in range(2)]
    with torch.inference_mode():
        expected = [network(each) for each in images]
        for number, (a, b) in enumerate((a, b) for a in range(4) for b in range(4) if a != b):
            for n in (a, b):
                assert same(workers[number % 2](images[n]), expected[n])
        assert sum(worker.asked for worker in workers) == 4
        later = KeptNetwork(network, "model", Encodings(folder, 10**9))
        assert same(later(images[2]), expected[2]) and later.asked == 0
        others = [KeptNetwork(network, "another", Encodings(folder, 10**9)), later]
        others[0](images[2])
        assert same(others[1](images[2], True), network(images[2], True))
    assert [other.asked for other in others] == [1, 1]  # other weights, another pass: another encoding


def test_what_two_networks_see_together_is_kept_for_both(network: Segmenter, tmp_path: Path) -> None:
    expected = network.together(network, image(0), image(1), 0.5)
    for shown, share, asked in ((1, 0.5, 1), (1, 0.5, 0), (2, 0.5, 1), (1, 0.4, 1)):
        first, second = (KeptNetwork(network, name, Encodings(tmp_path, 10**9)) for name in "ab")
        assert same(first.together(second, image(0), image(shown), share), expected) is ((shown, share) == (1, 0.5))
        assert (first.asked, second.asked) == (asked, 0)


def test_damaged_and_missing_files_are_made_again(network: Segmenter, tmp_path: Path) -> None:
    with torch.inference_mode():
        expected = network(image(1))
        KeptNetwork(network, "m", Encodings(tmp_path, 10**9))(image(1))
        (file,) = tmp_path.glob("*.npz")
        whole = file.read_bytes()
        for content in (b"", whole[: len(whole) // 2], whole[:-30] + bytes(30)):
            file.write_bytes(content)
            kept = KeptNetwork(network, "m", Encodings(tmp_path, 10**9))
            assert same(kept(image(1)), expected) and kept.asked == 1
        alone = KeptNetwork(network, "m", Encodings(None, 0))
        assert same(alone(image(1)), expected) and same(alone(image(1)), expected) and alone.asked == 1


def test_the_oldest_go_first(tmp_path: Path) -> None:
    store = Encodings(tmp_path, 10**9)
    classes, probabilities = torch.ones((8, 8, 8), dtype=torch.uint8), torch.rand((3, 4, 4, 4))
    for n, key in enumerate("abc"):
        store.write(key, classes, probabilities)
        os.utime(tmp_path / f"{key}.npz", (n, n))
    assert store.read("a") is not None  # used now: no longer the oldest
    size = (tmp_path / "a.npz").stat().st_size
    Encodings(tmp_path, 3 * size).write("d", classes, probabilities)
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == ["a", "c", "d"]
