"""Damage to files, drawn by hypothesis: flipped bits, truncation, extreme numbers, inserted and swapped blocks, words.

A mutation is a list of operations; each takes the content of a file and gives another. The same draws make the same
file, so a failure is found again by its seed.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Operation = Callable[[bytes], bytes]

_LONGEST = 200_000
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[^\s=:,\"\[\]{}]+")
_TEXTS = [
    *(b"0", b"-1", b"1", b"2", b"3", b"7", b"32767", b"65535", b"2147483647", b"-2147483648", b"99999999999999999999"),
    *(b"1e39", b"-1e308", b"1e999", b"1e-300", b"nan", b"inf", b"-inf", b".nan", b".inf", b"9" * 5000, b"0x_", b"1_0"),
    *(b"", b" ", b"true", b"null", b"%s%n%d", b"/etc/passwd", b"../../x", b"[" * 3000, b"{a: " * 2000, b"[]", b"{}"),
    *(b"&a [x, *a]", b"!!python/object:os.system x", b"!!timestamp 2020-99-99", b"2020-99-99", b"2020-01-01", b"? x"),
    *(
        b"x" * 300,
        b"y" * _LONGEST,
        b"\xff\xfe",
        b"\x00",
        b"\r",
        b"\n\n",
        b'"',
        b"'",
        b"\\",
        b"\xc3\xa9",
        b"\xf0\x9f\x92",
    ),
]
_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 255, 2**31, -(2**63), 2**64, 10**30, 0.5, 1e300, float("nan"), float("inf")),
    *("", "x", "..", "/etc/passwd", "é\n", "\ud800", "y" * 300, "z" * _LONGEST, [], {}, [[]], {"a": 1}, [None]),
]
_LAYOUTS = [end + kind for end in "<>" for kind in "bBhHiIqQfd"]


def mutations() -> st.SearchStrategy[list[Operation]]:
    """One to four operations."""
    return st.lists(_operations(), min_size=1, max_size=4)


def mutated(content: bytes, operations: list[Operation]) -> bytes:
    """The content after every operation in turn, at most 4 MB of it."""
    for operation in operations:
        content = operation(content)[: 1 << 22]
    return content


def _operations() -> st.SearchStrategy[Operation]:
    return st.one_of(
        st.builds(_flip, st.lists(st.tuples(_places(), st.integers(0, 7)), min_size=1, max_size=8)),
        st.builds(_cut, _places()),
        st.builds(_number, _places(), st.sampled_from(_LAYOUTS), st.integers(0, 8)),
        st.builds(_number, _places(), st.sampled_from(_LAYOUTS), st.integers(0, 8)),
        st.builds(_insert, _places(), _blocks()),
        st.builds(_drop, _places(), st.integers(1, 4096)),
        st.builds(_swap, _places(), _places(), st.integers(1, 2048)),
        st.builds(_repeat, _places(), st.integers(1, 64), st.sampled_from([1, 2, 100])),
        st.builds(_replace, st.just(_NUMBER), st.integers(0, 255), st.sampled_from(_TEXTS)),
        st.builds(_replace, st.just(_WORD), st.integers(0, 255), st.sampled_from(_TEXTS)),
        st.builds(_lines, st.integers(0, 63), st.integers(0, 63), st.sampled_from(["drop", "double", "swap"])),
        st.builds(_json_value, st.integers(0, 255), st.sampled_from(_VALUES), st.booleans()),
    )


def _places() -> st.SearchStrategy[int]:
    """A place in a file: half of them within the first 400 bytes, where most headers are; all are taken modulo the
    length."""
    return st.one_of(st.integers(0, 399), st.integers(0, 1 << 22))


def _blocks() -> st.SearchStrategy[bytes]:
    fill = st.builds(lambda byte, count: bytes([byte]) * count, st.sampled_from([0, 32, 255]), st.integers(1, 70_000))
    return st.one_of(st.binary(min_size=1, max_size=64), fill, st.sampled_from(_TEXTS))


def _flip(bits: list[tuple[int, int]]) -> Operation:
    def operation(content: bytes) -> bytes:
        out = bytearray(content)
        for place, bit in bits if out else []:
            out[place % len(out)] ^= 1 << bit
        return bytes(out)

    return operation


def _cut(place: int) -> Operation:
    return lambda content: content[: place % (len(content) + 1)]


def _number(place: int, layout: str, which: int) -> Operation:
    """A number of the layout's type, at its own alignment, becomes an extreme."""
    size, kind = struct.calcsize(layout), layout[1]
    if kind in "fd":
        large = 3e38 if kind == "f" else 1.7e308
        choices: list[float] = [0, -1, float("nan"), float("inf"), float("-inf"), large, -large, 1e-38, 1e6]
    else:
        low, high = (0, 256**size - 1) if kind.isupper() else (-(256**size) // 2, 256**size // 2 - 1)
        choices = [0, 1, low, high, high // 2, max(low, -1), min(high, 3), min(high, 1000), high - 1]
    packed = struct.pack(layout, choices[which % len(choices)])

    def operation(content: bytes) -> bytes:
        at = place % max(len(content), 1) // size * size
        return content[:at] + packed + content[at + size :]

    return operation


def _insert(place: int, block: bytes) -> Operation:
    def operation(content: bytes) -> bytes:
        at = place % (len(content) + 1)
        return content[:at] + block + content[at:]

    return operation


def _drop(place: int, count: int) -> Operation:
    def operation(content: bytes) -> bytes:
        at = place % (len(content) + 1)
        return content[:at] + content[at + count :]

    return operation


def _swap(first: int, second: int, count: int) -> Operation:
    def operation(content: bytes) -> bytes:
        a, b = sorted((first % (len(content) + 1), second % (len(content) + 1)))
        size = min(count, b - a)
        one, other = content[a : a + size], content[b : b + size]
        return content[:a] + other + content[a + size : b] + one + content[b + size :]

    return operation


def _repeat(place: int, count: int, times: int) -> Operation:
    def operation(content: bytes) -> bytes:
        at = place % (len(content) + 1)
        return content[:at] + content[at : at + count] * (times + 1) + content[at + count :]

    return operation


def _replace(pattern: re.Pattern[bytes], number: int, text: bytes) -> Operation:
    """The n-th number or word of the file becomes another text."""

    def operation(content: bytes) -> bytes:
        found = list(pattern.finditer(content[:65536]))
        if not found:
            return content
        match = found[number % len(found)]
        return content[: match.start()] + text + content[match.end() :]

    return operation


def _lines(first: int, second: int, what: str) -> Operation:
    def operation(content: bytes) -> bytes:
        lines = content.split(b"\n")
        a, b = first % len(lines), second % len(lines)
        if what == "swap":
            lines[a], lines[b] = lines[b], lines[a]
        else:
            lines[a : a + 1] = [] if what == "drop" else [lines[a]] * 2
        return b"\n".join(lines)

    return operation


def _json_value(number: int, value: Any, drop: bool) -> Operation:
    """Where the content is JSON, the n-th value of it becomes another one, or goes."""

    def operation(content: bytes) -> bytes:
        try:
            tree = json.loads(content)
        except (ValueError, RecursionError):
            return content
        places = list(_containers(tree))
        if not places:
            return json.dumps(value).encode()
        container, key = places[number % len(places)]
        if drop:
            del container[key]
        else:
            container[key] = value
        return json.dumps(tree).encode()

    return operation


def _containers(tree: Any) -> list[tuple[Any, Any]]:
    """(list or dictionary, index or key) of every value."""
    keys: list[Any] = list(tree) if isinstance(tree, dict) else list(range(len(tree))) if isinstance(tree, list) else []
    return [(tree, key) for key in keys] + [place for key in keys for place in _containers(tree[key])]
