"""The manifest survives whatever is cut off, and the hashes notice what changes."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from multiprocessing.pool import ThreadPool
from pathlib import Path

from cohorts import options_for
from uresnet.cohort.claims import claim
from uresnet.cohort.hashes import ContentHashes, with_keys
from uresnet.cohort.jobs import Job, Outcome, Scan
from uresnet.cohort.manifest import LINES, Manifest


def test_the_last_line_of_a_job_counts_and_a_cut_one_does_not(tmp_path: Path) -> None:
    manifest = Manifest(tmp_path)
    manifest.note(Outcome(id="a", state="failed", error="no"))
    said = Outcome(id="b", state="done", reasons=("Small.", "Dark."), warnings=("Odd.", "Odder."))
    manifest.note(replace(said, verdict="look", seconds=1.5, peak_mb=800))
    manifest.note(Outcome(id="a", state="done", verdict="look"))
    whole = (tmp_path / LINES).read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    for length in range(last, len(whole)):  # wherever a killed process stopped
        (tmp_path / LINES).write_bytes(whole[:length])
        manifest.note(Outcome(id="c", state="done"))
        found = manifest.outcomes()
        complete = length >= len(whole) - 1
        assert found["a"].state == ("done" if complete else "failed"), whole[:length]
        assert (found["b"].peak_mb, found["c"].state) == (800, "done")
    manifest.write_table([Job(name, Scan("x")) for name in ("z", "b")])
    rows = [line.split("\t") for line in (tmp_path / "manifest.tsv").read_text(encoding="utf-8").splitlines()]
    assert rows[1] == ["z", "missing", "", "", "", "", "", ""] and rows[2] == [
        "b",
        "done",
        "look",
        "1.5",
        "800",
        "",
        "Small. | Dark.",
        "Odd. | Odder.",
    ]
    assert [row[0] for row in rows] == ["id", "z", "b", "a", "c"]


def test_many_writers_lose_no_line(tmp_path: Path) -> None:
    with ThreadPool(8) as pool:
        pool.map(lambda n: Manifest(tmp_path).note(Outcome(id=str(n), state="done")), range(64))
    assert len(Manifest(tmp_path).outcomes()) == 64


def test_a_job_is_claimed_by_one_at_a_time(tmp_path: Path) -> None:
    with claim(tmp_path, "x") as first, claim(tmp_path, "x") as second, claim(tmp_path, "y") as other:
        assert (first, second, other) == (True, False, True)
    with claim(tmp_path, "x") as again:
        assert again


def test_a_hash_follows_the_content_and_not_the_times(tmp_path: Path) -> None:
    image = tmp_path / "a.img"
    image.write_bytes(b"first")
    (tmp_path / "a.hdr").write_bytes(b"header")
    hashes = ContentHashes(tmp_path)
    single = tmp_path / "b.nii"
    single.write_bytes(b"first")
    assert hashes.of(str(single)) == hashlib.sha256(b"first").hexdigest()
    both, before = hashes.of(str(image)), single.stat()
    (tmp_path / "a.hdr").write_bytes(b"heater")
    assert hashes.of(str(image)) != both
    single.write_bytes(b"other")  # as many bytes, and its time set back
    os.utime(single, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ContentHashes(tmp_path).of(str(single)) == hashlib.sha256(b"other").hexdigest()


def test_a_key_follows_inputs_options_and_model(tmp_path: Path, tiny_model: Path) -> None:
    for name, content in (("a", b"1"), ("b", b"2"), ("same", b"1")):
        (tmp_path / name).write_bytes(content)
    options, hashes = options_for(tmp_path, tiny_model), ContentHashes(tmp_path)
    pair = Job("x", Scan(str(tmp_path / "a")), Scan(str(tmp_path / "b")))

    def key(job: Job = pair, **changed: object) -> str:
        (found,) = with_keys([job], replace(options, **changed), hashes)  # type: ignore[arg-type]
        return found.key

    assert key() == key(replace(pair, id="y", moving=Scan(str(tmp_path / "same"))))
    assert key() == key(device="cuda", threads=3, kept_images=5, command=("x",))
    others = [
        key(refine=True),
        key(transform="rigid"),
        key(model_sha256="other"),
        key(brain="auto"),
        key(outputs=("warped",)),
    ]
    swapped = key(Job("x", Scan(str(tmp_path / "b")), Scan(str(tmp_path / "a"))))
    masked = key(Job("x", Scan(str(tmp_path / "a"), str(tmp_path / "b")), Scan(str(tmp_path / "b"))))
    assert len({key(), *others, swapped, masked, key(replace(pair, fixed=None))}) == 9
