"""What was freed goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

STEPS = """
from pathlib import Path
import numpy as np
from uresnet.core import limits
from uresnet.core.limits import freed_memory_kept, keep_freed_memory, return_freed_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

return_freed_memory()
before = resident()
with freed_memory_kept():
    arrays = [np.ones(2_000_000) for _ in range(10)]
    assert resident() > before + 140_000_000
    del arrays
    with freed_memory_kept():  # the end of an inner block returns nothing, unless there is much
        return_freed_memory()
    assert resident() > before + 140_000_000
assert resident() < before + 50_000_000
large = np.ones(20_000_000)
del large  # large blocks are returned at once again
assert resident() < before + 50_000_000
keep_freed_memory()
large = np.ones(20_000_000)
del large
return_freed_memory()
assert resident() > before + 140_000_000
return_freed_memory(also_kept=True)
assert resident() < before + 50_000_000
large = np.ones(20_000_000)
del large
limits._MOST_KEPT_BYTES = 150_000_000  # there is more than may be kept
with freed_memory_kept():
    assert resident() > before + 140_000_000
assert resident() < before + 50_000_000
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps what was freed")
def test_freed_memory_is_kept_for_a_while_only() -> None:
    """In a process of its own: a command that ran in this one may keep its memory."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
