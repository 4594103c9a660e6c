"""The paper's split of OASIS-3, as published and by person."""

from __future__ import annotations

from pathlib import Path

import pytest

from uresnet.errors import UserError
from uresnet.training.data.sources import Source, with_paper_splits

LIST = Path(__file__).resolve().parents[4] / "src/uresnet/training/data/oasis3_split.tsv"


def sessions() -> list[tuple[str, str]]:
    rows = [line.split("\t") for line in LIST.read_text(encoding="utf-8").splitlines()[1:]]
    return [(session, split) for session, split in rows]


def source(name: str) -> Source:
    return Source(name, name.partition("_")[0], "", Path("a"), Path("b"))


def people(sources: list[Source], split: str) -> set[str]:
    return {one.id.partition("_")[0] for one in sources if one.split == split}


def test_the_published_split_has_the_published_sizes_and_leaks_people() -> None:
    found, skipped = with_paper_splits([source(name) for name, _ in sessions()], by_person=False)
    assert [sum(one.split == s for one in found) for s in ("train", "val", "test")] == [520, 67, 156]
    assert not skipped
    assert {one.id: one.split for one in found} == dict(sessions())
    test, train = people(found, "test"), people(found, "train")
    assert (len(test), len(test & train)) == (141, 77)  # what the warning says
    assert len({one.subject for one in found}) == 743  # a session counts as a person: nothing else would be opened


def test_by_person_nobody_is_in_two_splits() -> None:
    found, _ = with_paper_splits([source(name) for name, _ in sessions()], by_person=True)
    assert len(found) == 743
    groups = [people(found, split) for split in ("train", "val", "test")]
    assert all(groups) and sum(map(len, groups)) == len(set.union(*groups))


def test_a_part_of_the_sessions_gets_the_places_of_the_whole() -> None:
    every, _ = with_paper_splits([source(name) for name, _ in sessions()], by_person=True)
    some, _ = with_paper_splits([source(name) for name, _ in sessions()[::7]], by_person=True)
    whole = {one.id: one.split for one in every}
    assert all(whole[one.id] == one.split for one in some)


def test_other_names_of_a_session_and_scans_that_are_none() -> None:
    name, split = sessions()[0]
    person, _, day = name.split("_")
    found, skipped = with_paper_splits([source(f"{person}_Freesurfer53_{day}"), source("bert")], by_person=False)
    assert [one.split for one in found] == [split]
    assert [(one.id, "none of the paper's sessions" in one.reason) for one in skipped] == [("bert", True)]


def test_none_of_the_sessions() -> None:
    with pytest.raises(UserError, match="No scan is one of the 743 OASIS-3 sessions"):
        with_paper_splits([source("sub-01"), source("OAS1_0001_MR1")], by_person=False)
