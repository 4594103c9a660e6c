"""Install what is published and register with it, where nothing of the repository is: ``make compat``.

Builds wheel and sdist. For every Python and both ends of the dependencies (the oldest that pyproject.toml names, and
the newest), makes an environment with uv, installs one of the two, makes the environment read-only, and registers a
drawn pair, segments and applies: without a home, in a folder whose name has spaces and letters beyond ASCII. Prints a
table, and writes it into a page; exit code 1 when anything failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from drawn_brain import brightness, draw_labels
from pages import write_part
from uresnet.core.grid import Grid

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("torch", "numpy", "scipy", "nibabel", "numba", "h5py")
CASES = (("3.11", "lowest-direct", "wheel"), ("3.12", "highest", "sdist"), ("3.13", "highest", "wheel"))
PLACE = "Köpfe und Bilder Ω"


@dataclass(frozen=True)
class Case:
    """One environment, with what is installed in it: the "wheel" or the "sdist"."""

    python: str
    resolution: str
    artefact: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.python}-{self.resolution}-{self.artefact}"


def main() -> None:
    """All environments, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", action="append", default=[], help="only these versions of Python")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "compat")
    parser.add_argument("--built", type=Path, help="a folder with a wheel to try, with this Python alone")
    parser.add_argument("--page", type=Path, help="write the table into this page")
    options = parser.parse_args()
    folder = options.folder.resolve()
    built = artefacts(options.built) if options.built else build(folder / "dist")
    inputs = draw_pair(folder / PLACE)
    wanted = [Case(*case) for case in CASES if not options.python or case[0] in options.python]
    if options.built:
        wanted = [Case("{}.{}".format(*sys.version_info), "highest", "wheel")]
    rows = [row_of(case, folder, built[case.artefact], inputs) for case in wanted]
    head = ["Python", "dependencies", "installed from", *SHOWN, "register, segment, apply", "seconds"]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    print("\n".join(lines))
    if options.page:
        write_part(options.page, "compat", "\n".join(lines))
    sys.exit(any(row[-2] != "works" for row in rows))


def build(folder: Path) -> dict[str, Path]:
    """The wheel and the sdist."""
    shutil.rmtree(folder, ignore_errors=True)
    uv("build", "--quiet", "--out-dir", str(folder), str(ROOT))
    return artefacts(folder)


def artefacts(folder: Path) -> dict[str, Path]:
    """The wheel and the sdist in a folder."""
    return {"wheel": next(folder.glob("*.whl")).resolve(), "sdist": next(folder.glob("*.tar.gz")).resolve()}


def draw_pair(folder: Path) -> list[Path]:
    """Two drawn brains, at 1.5 mm, one of them shifted and turned in its file."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, axes, centre in (("moving ä", "LAS", (4.0, -10.0, 8.0)), ("fixed ß", "RAS", (0.0, -12.0, 6.0))):
        grid = Grid.centred((96, 112, 96), (1.5, 1.5, 1.5), axes, centre)
        values = brightness(draw_labels(grid)).astype(np.float32)
        made.append(folder / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(values, grid.voxel_to_world), made[-1])
    return made


def row_of(case: Case, folder: Path, artefact: Path, inputs: list[Path]) -> list[str]:
    """What came of one environment."""
    environment = folder / case.name
    install(case, environment, artefact)
    start, problem = time.monotonic(), ""
    try:
        try_commands(environment, inputs, folder / PLACE / case.name)
    except (subprocess.CalledProcessError, AssertionError) as error:
        problem = getattr(error, "stderr", "") or str(error)
        print(f"{case.name}: {problem}", file=sys.stderr)
    versions = json.loads(uv("pip", "list", "--quiet", "--format", "json", "--python", str(environment)))
    known = {package["name"]: package["version"] for package in versions}
    seconds = f"{time.monotonic() - start:.0f}"
    shown = [known.get(name, "") for name in SHOWN]
    words = {"lowest-direct": "oldest", "highest": "newest"}
    return [case.python, words[case.resolution], case.artefact, *shown, "failed" if problem else "works", seconds]


def install(case: Case, environment: Path, artefact: Path) -> None:
    """A read-only environment with the artefact and what it depends on."""
    if environment.exists():
        writable(environment, True)
        shutil.rmtree(environment)
    uv("venv", "--quiet", "--python", case.python, str(environment))
    wanted = environment / "wanted.txt"
    wanted.write_text(
        uv(
            *("pip", "compile", "--quiet", "--no-header", "--python-version", case.python),
            *("--resolution", case.resolution, str(ROOT / "pyproject.toml")),
        ),
        encoding="utf-8",
    )
    uv("pip", "install", "--quiet", "--python", str(environment), "-r", str(wanted))
    uv("pip", "install", "--quiet", "--python", str(environment), "--no-deps", str(artefact))
    writable(environment, False)


def writable(folder: Path, allowed: bool) -> None:
    """Whether the folders in an environment may be written to."""
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
        mode = place.stat().st_mode
        place.chmod(mode | stat.S_IWUSR if allowed else mode & ~0o222)


def try_commands(environment: Path, inputs: list[Path], out: Path) -> None:
    """Register, segment and apply. Raises ``CalledProcessError`` or ``AssertionError``."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    moving, fixed = map(str, inputs)
    run(environment, out, "register", moving, fixed, "-o", "paar é", "--no-report")
    run(environment, out, "segment", fixed, "-o", "dseg ü.nii.gz", "--no-report")
    run(environment, out, "apply", "paar é/transform.h5", moving, "--like", fixed, "-o", "warped é.nii.gz")
    first, second, target = (
        nib.Nifti1Image.from_filename(out / name).get_fdata()
        for name in ("paar é/warped.nii.gz", "warped é.nii.gz", fixed)
    )
    brain = target > 0
    alike = np.corrcoef(first[brain], target[brain])[0, 1]
    assert alike > 0.9, f"the warped image and the fixed one correlate by {alike:.3f}"
    assert np.abs(first - second).max() < 0.5, "apply gives another image than register"  # of 100 grey levels


def run(environment: Path, place: Path, *arguments: str) -> None:
    """``uresnet`` without a home, or any variable but those that find programs and room for temporary files."""
    room = place / "tmp"
    room.mkdir(exist_ok=True)
    command = [str(environment / "bin" / "uresnet"), *arguments]
    if os.geteuid() == 0:  # whom no permission stops, but by this
        command = ["setpriv", "--bounding-set", "-dac_override", "--inh-caps", "-dac_override", *command]
    given = {"PATH": os.environ["PATH"], "TMPDIR": str(room), "HOME": "/nonexistent"}
    subprocess.run(command, cwd=place, env=given, check=True, capture_output=True, encoding="utf-8", errors="replace")


def uv(*arguments: str) -> str:
    """What uv prints; what it complains about ends the program."""
    done = subprocess.run(["uv", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"uv {' '.join(arguments)}\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
