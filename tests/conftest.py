"""What tests share: where real brains are, and the grids on which spatial things are tried."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
import typer.testing

from brains import write_tiny_model
from grids import GRIDS
from uresnet import Registration, register
from uresnet.core.grid import Grid
from uresnet.datasets.demo import COLIN27, ICBM152, fetch_brain
from uresnet.errors import UserError

ROOT = Path(__file__).resolve().parents[1]

# The parser of the command line is made once for a process, as for a user, not for each line that a test types: 0.1 s.
typer.testing._get_command = cache(typer.testing._get_command)  # type: ignore[attr-defined]


def shared_folder() -> Path:
    """The folder in the environment variable ``URESNET_SHARED``, else ``shared`` beside the repository."""
    return Path(os.environ.get("URESNET_SHARED", ROOT.parent / "shared"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared ``data`` folder; tests that ask for it are skipped where it is absent."""
    folder = shared_folder() / "data"
    if not folder.is_dir():
        pytest.skip(f"the labelled brains are not here ({folder}); set URESNET_SHARED to the folder that has them")
    return folder


@pytest.fixture(scope="session")
def registered_1113_to_1107(shared_data: Path) -> Registration:
    """Scan 1113 registered to scan 1107 by the default model, once for all tests that look at it."""
    folder = shared_data / "oasis_malf"
    return register(folder / "1113_T1.nii.gz", folder / "1107_T1.nii.gz")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """The shared ``reference`` folder (published weights and their outputs); absent: skipped."""
    folder = shared_folder() / "reference"
    if not folder.is_dir():
        pytest.skip(f"the published weights are not here ({folder}); set URESNET_SHARED to the folder that has them")
    return folder


@pytest.fixture(scope="session")
def real_brains() -> tuple[Path, Path]:
    """Colin 27 (a raw head) and MNI ICBM 152 (stripped), from the user's cache or fetched; offline: skipped."""
    try:
        return fetch_brain(COLIN27), fetch_brain(ICBM152)
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(params=list(GRIDS.values()), ids=list(GRIDS))
def grid(request: pytest.FixtureRequest) -> Grid:
    """Each of the grids in ``tests/grids.py``: ways round × oblique × anisotropic × non-cubic."""
    grid: Grid = request.param
    return grid


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose network deforms a little and segments (see ``tests/brains.py``)."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", deforms=True)


@pytest.fixture(scope="session")
def still_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose network leaves everything where conforming put it."""
    return write_tiny_model(tmp_path_factory.mktemp("model") / "still.safetensors", deforms=False)
