"""A few damaged files through every reader; ``make fuzz`` tries thousands, and files that kill or hang a process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.mutations import mutated
from fuzz.readers import Reader, readers
from fuzz.seeds import write_seeds
from fuzz.trials import Outcome, Trials
from uresnet.errors import UserError

FILES = 10
READERS = readers()


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    write_seeds(folder)
    yield folder


@pytest.mark.parametrize("reader", READERS.values(), ids=list(READERS))
def test_a_damaged_file_gives_a_result_or_a_sentence(reader: Reader, seeds: Path, tmp_path: Path) -> None:
    outcomes: list[Outcome] = []
    Trials(reader, seeds, tmp_path).run(1, FILES, lambda outcome: outcomes.append(outcome) if outcome else None)
    assert len(outcomes) == FILES
    assert [outcome for outcome in outcomes if outcome.failed] == []


def test_there_are_500_files() -> None:
    assert FILES * len(READERS) >= 500


def read_with(read: object, tmp_path: Path) -> Outcome:
    """What a reader of a text that says "right" ends in, the file being damaged."""
    (tmp_path / "seeds" / "x").mkdir(parents=True)
    (tmp_path / "seeds" / "x" / "a.txt").write_text("right", encoding="utf-8")
    trials = Trials(Reader("x", "x", "a.txt", read, checksum=True), tmp_path / "seeds", tmp_path / "work")  # type: ignore[arg-type]
    trials.target.write_text("wrong", encoding="utf-8")
    return trials.read()


def test_what_no_reader_may_do_is_seen(tmp_path: Path) -> None:
    def ending(name: str, error: BaseException | None = None, memory: int = 0) -> str:
        def read(path: Path) -> bytes:
            if path.read_text(encoding="utf-8") == "right":
                return b"right"
            held = bytearray(b"1") * memory
            if error is not None:
                raise error
            return bytes(held[:1])

        return read_with(read, tmp_path / name).kind

    assert ending("a", UserError("Short.")) == "refused"
    assert ending("b", UserError("x" * 5000)) == "message"
    assert ending("c", UserError("a\x1b[2Jb")) == "message"
    assert ending("d", KeyError("x")) == "exception"
    assert ending("e", MemoryError()) == "memory"
    assert ending("f") == "read"
    if sys.platform == "linux":
        assert ending("g", memory=600 << 20) == "memory"


def test_the_same_seed_makes_the_same_files(seeds: Path, tmp_path: Path) -> None:
    def files(folder: str) -> list[bytes]:
        trials, found = Trials(READERS["points .csv"], seeds, tmp_path / folder), []
        trials.run(7, 20, lambda outcome: found.append(trials.target.read_bytes()))
        return found

    first = files("a")
    assert first == files("b") and len(set(first)) > 10


def test_damage_stays_small() -> None:
    grow = [lambda content: content * 10] * 4
    assert len(mutated(b"x" * 500_000, grow)) == 1 << 22
