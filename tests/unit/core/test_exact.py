"""The one switch for the reference: where it is asked, and that it ends."""

from __future__ import annotations

import threading

import pytest
import torch

from uresnet.core.exact import computed_exactly, exact_device, is_exact
from uresnet.core.ops import is_plain
from uresnet.core.threads import Pool, background_threads
from uresnet.errors import UserError


def test_it_holds_in_the_block_and_in_what_the_block_submits() -> None:
    x = torch.zeros(2)
    assert is_plain(x) and not is_exact()
    with background_threads(1) as pool, Pool(1) as other:
        assert not pool.submit(is_exact).result()
        with pytest.raises(ValueError), computed_exactly():
            assert is_exact() and not is_plain(x)
            assert pool.submit(is_exact).result() and list(other.map(lambda _: is_exact(), range(2))) == [True, True]
            with computed_exactly(False):
                assert not is_exact()
            raise ValueError
        assert not is_exact() and not pool.submit(is_exact).result() and is_plain(x)


def test_another_thread_is_left_alone() -> None:
    seen: list[bool] = []
    with computed_exactly():
        other = threading.Thread(target=lambda: seen.append(is_exact()))
        other.start()
        other.join()
    assert seen == [False]


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_the_reference_is_computed_on_the_cpu(device: str) -> None:
    assert exact_device(device) == "cpu"


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "mps"])
def test_and_nowhere_else(device: str) -> None:
    with pytest.raises(UserError, match=f"on the CPU, not on {device}"):
        exact_device(device)
