"""Hashes by which a cohort recognises what is done already: of the contents of files, and of a job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from uresnet.cohort.jobs import HIDDEN, Job, Options, Scan
from uresnet.cohort.manifest import append_line, read_lines
from uresnet.core.files import split_series

_PARTNERS = {".hdr": (".img", ".img.gz"), ".img": (".hdr",), ".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz")}
"""Where an image is two files, the endings of the other one."""

_KNOWN = "hashes.jsonl"
_THREADS = 4


class ContentHashes:
    """SHA-256 of files. Those of files that have not changed, as their size and times say, are remembered in the
    ``folder`` of the cohort."""

    def __init__(self, folder: Path) -> None:
        self._store = folder / HIDDEN / _KNOWN
        self._known: dict[str, str] = {}
        for value in read_lines(self._store):
            if isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value):
                self._known[value[0]] = value[1]

    def of(self, name: str) -> str:
        """Of an image: a file, with what belongs to it, or a folder with all of its files."""
        parts = [self._of_file(path) for path in _files_of(name)]
        return parts[0] if len(parts) == 1 else hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def _of_file(self, path: Path) -> str:
        state = path.stat()
        # The time of the last change of the inode: a program can set back that of the content.
        stamp = f"{path.resolve()} {state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino}"
        if stamp not in self._known:
            with path.open("rb") as file:
                self._known[stamp] = hashlib.file_digest(file, "sha256").hexdigest()
            self._store.parent.mkdir(parents=True, exist_ok=True)
            append_line(self._store, json.dumps([stamp, self._known[stamp]]))
        return self._known[stamp]


def with_keys(
    jobs: Sequence[Job], options: Options, hashes: ContentHashes, progress: Callable[[], None] = lambda: None
) -> list[Job]:
    """The same jobs, each with its key. ``progress`` is called for each scan."""
    scans = list(dict.fromkeys(scan for job in jobs for scan in job.scans))

    def content(scan: Scan) -> list[str]:
        found = [hashes.of(name) for name in (scan.image, scan.mask) if name is not None]
        progress()
        return found

    with ThreadPoolExecutor(_THREADS) as pool:
        contents = dict(zip(scans, pool.map(content, scans), strict=True))
    return [replace(job, key=_key(options, (contents[scan] for scan in job.scans))) for job in jobs]


def _key(options: Options, contents: Iterable[list[str]]) -> str:
    text = json.dumps([options.that_matter, list(contents)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _files_of(name: str) -> list[Path]:
    path = split_series(Path(name))[0]
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.is_file())
    stem = path.name[: len(path.name) - len(path.suffix)]
    beside = [path.with_name(stem + ending) for ending in _PARTNERS.get(path.suffix.lower(), ())]
    return [path, *(file for file in beside if file.is_file())]
