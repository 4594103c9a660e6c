"""What was freed goes back to the system."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

from uresnet.core.limits import freed_memory_kept, return_freed_memory


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_freed_memory_is_kept_for_a_while_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uresnet.core.limits._kept", [])  # a command that ran in this process keeps it
    return_freed_memory()
    before = resident_bytes()
    with freed_memory_kept():
        arrays = [np.ones(2_000_000) for _ in range(10)]
        assert resident_bytes() > before + 140_000_000
        del arrays
        assert resident_bytes() > before + 140_000_000
    assert resident_bytes() < before + 50_000_000
    large = np.ones(20_000_000)
    del large  # large blocks are returned at once again
    assert resident_bytes() < before + 50_000_000
