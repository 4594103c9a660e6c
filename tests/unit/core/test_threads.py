"""Nobody waits for what another thread still does when an error or a signal ends the work."""

from __future__ import annotations

import threading
import time

import pytest

from uresnet.core.threads import background_threads


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_an_error_waits_for_no_thread_and_begins_nothing_more(error: type[BaseException]) -> None:
    release, begun = threading.Event(), threading.Event()
    start = time.monotonic()

    def blocked() -> None:
        begun.set()
        release.wait(60)

    with pytest.raises(error), background_threads(1) as pool:
        pool.submit(blocked)
        later = pool.submit(int)
        assert begun.wait(60)
        raise error
    assert time.monotonic() - start < 30 and later.cancelled()
    release.set()


def test_the_end_waits_for_all() -> None:
    with background_threads(2) as pool:
        done = [pool.submit(time.sleep, 0.05) for _ in range(4)]
    assert all(future.done() and not future.cancelled() for future in done)
