"""Which split a scan goes to: by a table, at random, and by the paper, as published and by person."""

from __future__ import annotations

from pathlib import Path

import pytest

from uresnet.errors import UserError
from uresnet.training.data import splits
from uresnet.training.data.sources import Source
from uresnet.training.data.splits import with_head_splits, with_paper_splits, with_random_splits, with_splits_of

LIST = Path(splits.__file__).with_name("oasis3_split.tsv")


def table(folder: Path, *rows: str, name: str = "table.tsv") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


def of(*people: str) -> list[Source]:
    return [Source(f"{p}_{n}", p, "", Path("i"), Path("l")) for n, p in enumerate(people)]


def test_random_splits_keep_people_together_and_are_seeded() -> None:
    people = [f"p{n // 2}" for n in range(80)]  # 40 people, two scans each
    split = with_random_splits(of(*people), seed=0)
    side = {source.subject: source.split for source in split}
    assert all(side[source.subject] == source.split for source in split)
    assert [sum(v == name for v in side.values()) for name in ("train", "val", "test")] == [28, 4, 8]
    assert with_random_splits(of(*reversed(people)), 0)[0].split == side[people[-1]]
    assert {source.subject: source.split for source in with_random_splits(of(*people), 1)} != side


@pytest.mark.parametrize(("count", "sizes"), [(1, [1, 0, 0]), (3, [1, 1, 1]), (5, [3, 1, 1])])
def test_few_people_are_divided_sensibly(count: int, sizes: list[int]) -> None:
    split = with_random_splits(of(*(f"p{n}" for n in range(count))), 0)
    assert [sum(source.split == name for source in split) for name in ("train", "val", "test")] == sizes


@pytest.mark.parametrize(
    ("count", "sizes"), [(1, [1, 0, 0]), (2, [2, 0, 0]), (3, [2, 1, 0]), (5, [4, 1, 0]), (20, [17, 3, 0])]
)
def test_heads_are_trained_on_and_validate(count: int, sizes: list[int]) -> None:
    split = with_head_splits(of(*(f"p{n}" for n in range(count))), 0)
    assert [sum(source.split == name for source in split) for name in ("train", "val", "test")] == sizes


def test_given_splits_stay_and_their_people_follow() -> None:
    sources = of("ann", "bob", "ann")
    given = [Source("x", "ann", "test", Path("i"), Path("l")), *sources]
    split = with_random_splits(given, 0)
    assert [source.split for source in split if source.subject == "ann"] == ["test"] * 3


def test_a_split_table_is_followed(tmp_path: Path) -> None:
    path = table(tmp_path, "id\tsplit", "ann_0\tval", "bob_1\ttrain")
    assert [source.split for source in with_splits_of(of("ann", "bob"), path)] == ["val", "train"]
    by_person = table(tmp_path, "subject\tsplit", "ann\ttest", "bob\ttrain", name="p.tsv")
    assert [source.split for source in with_splits_of(of("ann", "bob", "ann"), by_person)] == ["test", "train", "test"]


def test_a_split_table_that_forgets_somebody_or_divides_a_person(tmp_path: Path) -> None:
    path = table(tmp_path, "id\tsplit", "ann_0\tval", "ann_1\ttrain")
    with pytest.raises(UserError, match="has no row for bob_1"):
        with_splits_of(of("ann", "bob"), path)
    with pytest.raises(UserError, match="person ann is in the splits"):
        with_splits_of(of("ann", "ann"), path)


# -- the paper's split ------------------------------------------------------------------------------------------------


def sessions() -> list[tuple[str, str]]:
    rows = [line.split("\t") for line in LIST.read_text(encoding="utf-8").splitlines()[1:]]
    return [(session, split) for session, split in rows]


def session(name: str) -> Source:
    return Source(name, name.partition("_")[0], "", Path("a"), Path("b"))


def people(sources: list[Source], split: str) -> set[str]:
    return {source.id.partition("_")[0] for source in sources if source.split == split}


def test_the_published_split_has_the_published_sizes_and_leaks_people() -> None:
    found, skipped = with_paper_splits([session(name) for name, _ in sessions()], by_person=False)
    assert [sum(source.split == s for source in found) for s in ("train", "val", "test")] == [520, 67, 156]
    assert not skipped
    assert {source.id: source.split for source in found} == dict(sessions())
    test, train = people(found, "test"), people(found, "train")
    assert (len(test), len(test & train)) == (141, 77)  # what the warning says
    assert (
        len({source.subject for source in found}) == 743
    )  # a session counts as a person: nothing else would be opened


def test_by_person_nobody_is_in_two_splits() -> None:
    found, _ = with_paper_splits([session(name) for name, _ in sessions()], by_person=True)
    assert len(found) == 743
    groups = [people(found, split) for split in ("train", "val", "test")]
    assert all(groups) and sum(map(len, groups)) == len(set.union(*groups))


def test_a_part_of_the_sessions_gets_the_places_of_the_whole() -> None:
    every, _ = with_paper_splits([session(name) for name, _ in sessions()], by_person=True)
    some, _ = with_paper_splits([session(name) for name, _ in sessions()[::7]], by_person=True)
    whole = {source.id: source.split for source in every}
    assert all(whole[source.id] == source.split for source in some)


def test_other_names_of_a_session_and_scans_that_are_none() -> None:
    name, split = sessions()[0]
    person, _, day = name.split("_")
    found, skipped = with_paper_splits([session(f"{person}_Freesurfer53_{day}"), session("bert")], by_person=False)
    assert [source.split for source in found] == [split]
    assert [(source.id, "not one of the paper's OASIS-3 sessions" in source.reason) for source in skipped] == [
        ("bert", True)
    ]


def test_none_of_the_sessions() -> None:
    with pytest.raises(UserError, match="No scan is one of the 743 OASIS-3 sessions"):
        with_paper_splits([session("sub-01"), session("OAS1_0001_MR1")], by_person=False)
