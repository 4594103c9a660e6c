"""Steps are told to whoever watches, and to nobody else."""

from __future__ import annotations

from uresnet.core.steps import expect_steps, step_done, watched_steps


def test_steps_are_counted_for_the_watcher() -> None:
    told: list[tuple[int, int]] = []
    expect_steps(2)
    step_done()
    with watched_steps(lambda done, total: told.append((done, total))):
        expect_steps(3)
        for _ in range(4):  # a step more than were expected is not told
            step_done()
    expect_steps(1)
    step_done()
    assert told == [(1, 3), (2, 3), (3, 3)]
