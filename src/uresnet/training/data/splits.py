"""Which scans are trained on, which validate and which test: by a table, by the paper, or at random."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from uresnet.errors import UserError, quoted
from uresnet.training.data.sources import SPLITS, Skipped, Source, check_splits
from uresnet.training.data.tables import read_table

SHARES = (0.7, 0.1, 0.2)
"""Shares of the people in train, val and test, about those of the paper (520, 67 and 156 of 743 sessions)."""

HEAD_SHARES = (0.85, 0.15, 0.0)
"""The same of heads, which validate what is learned; no command tests on them."""

_SESSION = re.compile(r"^(OAS\d+)_.*?(d\d+)")

PAPER, PAPER_BY_PERSON = "paper", "paper-by-person"
"""Splits that the package holds: the paper's 743 OASIS-3 sessions, divided as its authors did, and divided by person.

The list (``oasis3_split.tsv``) is that of the repository TheoEst/coupling_registration_segmentation.
"""

PAPER_SPLIT_WARNING = (
    "77 of the 141 test people of the paper's split are also in its training set; use it to compare with the paper, "
    "and --split paper-by-person for an independent test."
)


def with_splits_of(sources: Sequence[Source], path: Path) -> list[Source]:
    """The sources with the splits of a table that has the columns id (or subject) and split.

    Raises :class:`UserError` for a scan that the table does not name.
    """
    rows = read_table(path, ("split",))
    row_of = {row.get("id") or row.get("subject", ""): row for row in rows}
    divided = []
    for source in sources:
        row = row_of.get(source.id) or row_of.get(source.subject)
        if row is None:
            raise UserError(f"{path} has no row for {quoted(source.id)}; add one with its id and split.")
        divided.append(replace(source, split=row["split"], subject=row.get("subject") or source.subject))
    check_splits(divided, path)
    return divided


def with_paper_splits(sources: Sequence[Source], by_person: bool) -> tuple[list[Source], list[Skipped]]:
    """The paper's OASIS-3 sessions among the sources, in the paper's split, and all other scans as skipped.

    With ``by_person``, the sessions are divided anew so that no person is in two splits; a session gets the same split
    whichever part of the 743 is there.

    The paper divided sessions: 77 of its 141 test people are also trained on. Its split therefore counts each session
    as a person. Sessions are identified by person and day, ``OAS30001_…_d0129``. Raises :class:`UserError` when none
    of the paper's sessions is there.
    """
    listed = _paper_sessions()
    if by_person:
        everyone = [Source(f"{person}_{day}", person, "", Path(), Path()) for person, day in listed]
        divided = with_random_splits(everyone, seed=0)
        listed = {session: source.split for session, source in zip(listed, divided, strict=True)}
    kept, skipped = [], []
    for source in sources:
        match = _SESSION.match(source.id)
        split = listed.get((match[1], match[2])) if match else None
        if split is None:
            skipped.append(Skipped(source.id, "it is not one of the paper's OASIS-3 sessions."))
        else:
            kept.append(replace(source, split=split, subject=source.subject if by_person else source.id))
    if not kept:
        raise UserError(
            f"No scan is one of the {len(listed)} OASIS-3 sessions of the paper (OAS3…_MR_d…); give a folder that "
            "holds them, or leave out --split."
        )
    return kept, skipped


def paper_split_name(name: str) -> str:
    """The name of data in the paper's split; it says that the test set is not independent."""
    return f"{name or 'OASIS-3'}, the paper's split of sessions: people of the test set are also trained on"


def with_head_splits(sources: Sequence[Source], seed: int) -> list[Source]:
    """The sources, heads, with a random split: at least one validates where two are left to train on."""
    return with_random_splits(sources, seed, HEAD_SHARES if len(sources) > 2 else (1.0, 0.0, 0.0))


def _paper_sessions() -> dict[tuple[str, str], str]:
    """(person, day) → split."""
    sessions = {}
    for row in read_table(Path(__file__).with_name("oasis3_split.tsv"), ("session", "split")):
        match = _SESSION.match(row["session"])
        assert match is not None
        sessions[match[1], match[2]] = row["split"]
    return sessions


def with_random_splits(sources: Sequence[Source], seed: int, shares: Sequence[float] = SHARES) -> list[Source]:
    """The sources with a random split for every person that has none, the same for the same people and ``seed``.

    With at least as many people as splits, every split whose share is not 0 gets a person. The split train gets all
    who remain.
    """
    taken = {source.subject: source.split for source in sources if source.split}
    people = sorted({source.subject for source in sources} - set(taken))
    order = [people[n] for n in np.random.default_rng(seed).permutation(len(people))]
    enough = len(people) >= sum(share > 0 for share in shares)
    sizes = [max(int(share > 0 and enough), round(share * len(people))) for share in shares[1:]]
    for name, size in zip(SPLITS[1:], sizes, strict=True):
        taken |= dict.fromkeys(order[:size], name)
        order = order[size:]
    taken |= dict.fromkeys(order, SPLITS[0])
    return [source if source.split else replace(source, split=taken[source.subject]) for source in sources]
