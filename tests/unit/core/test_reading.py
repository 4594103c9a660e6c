"""Small files of text and JSON: what is too long, too deep or no Unicode is refused before it does harm."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from uresnet.core.reading import is_file, parse_json, read_numbered_rows, read_text
from uresnet.errors import UserError, quoted


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("12345", encoding="utf-8")
    assert read_text(tmp_path / "a.txt", most=5) == "12345"
    with pytest.raises(UserError, match=r"a\.txt has more than 4 bytes"):
        read_text(tmp_path / "a.txt", most=4)
    with pytest.raises(UserError, match="has more than 1,000 bytes"):
        read_text(Path("/dev/zero"), most=1000)  # without an end


@pytest.mark.parametrize("text", ["[" * 100_000, '"\\ud800"', "{", "9" * 5000, ""])
def test_what_is_no_json_is_one_kind_of_error(text: str) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_a_name_that_no_file_can_have_is_no_file(tmp_path: Path) -> None:
    assert not is_file(tmp_path / ("x" * 5000))
    assert not is_file(tmp_path / "a\0b")


def test_what_is_quoted_is_short_and_can_be_printed() -> None:
    assert quoted("a" * 100_000 + "b" * 100_000, 10) == "aaaaaaa … bbb"
    assert quoted("a" * 10, 10) == "a" * 10 and quoted(b"\xe9", 10) == "é" and quoted((1, None)) == "(1, None)"
    assert quoted("a\x1b[2J\n\ud800") == "a\\x1b[2J\\n\\ud800"
    assert quoted("größe") == "größe"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_read_and_waited_for_only_where_somebody_writes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tsv")
    assert read_text(tmp_path / "pipe.tsv") == ""
    ends = os.pipe()

    def write() -> None:
        os.write(ends[1], b"id\timage\n")
        os.close(ends[1])

    writer = threading.Timer(0.2, write)
    writer.start()
    try:
        assert read_text(Path(f"/dev/fd/{ends[0]}")) == "id\timage\n"
    finally:
        writer.join()
        os.close(ends[0])


@pytest.mark.parametrize(
    ("name", "separator", "word"), [("t.tsv", "\t", "tab"), ("t.csv", ",", "comma"), ("t", "\t", "tab")]
)
def test_a_table_with_more_values_than_columns_is_refused(tmp_path: Path, name: str, separator: str, word: str) -> None:
    table = tmp_path / name

    def read(*lines: str) -> object:
        table.write_text("".join(line.replace("|", separator) + "\n" for line in lines), encoding="utf-8-sig")
        return read_numbered_rows(table)

    a, b = {"id": "a", "image": "a.nii"}, {"id": "b", "image": "of b, or so.nii"}
    quoted_value = '"of b, or so.nii"'
    assert read("id | image", "", "a|a.nii", "| ", f"b|{quoted_value}") == (["id", "image"], [(3, a), (5, b)])
    assert read("id|image||", "a|a.nii||", "b") == (["id", "image"], [(2, a), (3, {"id": "b", "image": ""})])
    assert read() == ([], [])
    for lines, said in (
        (
            ("id|image", "", "a|a.nii|more"),
            rf"line 3: 3 values in 2 columns; repair them \(a value that holds a {word} ",
        ),
        (
            ("id|image", "a|b|c||d", "a|b", "a|b|c", "a||c"),
            r"line 2: 5 values in 2 columns, and so have 2 more lines; ",
        ),
        (("id|image", '"a|b.nii', "c|d.nii"), "quotation marks do not come in pairs"),
        (("id|id", "a|b"), "two columns of one name"),
    ):
        with pytest.raises(UserError, match=rf"{name}.*{said}"):
            read(*lines)
    table.write_bytes(b"\xff\xfe\x00")
    how = "commas" if word == "comma" else r"tabs \(in a \.csv, by commas\)"
    with pytest.raises(UserError, match=rf"is not a text file; give a table with values separated by {how}\."):
        read_numbered_rows(table)
