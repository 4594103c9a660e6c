"""One DICOM series, from a folder or a zip, by pydicom; SimpleITK's GDCM unpacks the pixels where they are packed.

Slices are put in order by their positions. A folder with several series is not guessed at: it is refused with their
list, and ``FOLDER#NUMBER`` chooses one. A damaged file is never left out without a word.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uresnet.core.files import check_exist, split_series
from uresnet.core.grid import Grid
from uresnet.errors import UserError, quoted, warn_about_input
from uresnet.io.contents import Volume, check_voxels, reading
from uresnet.io.dicom_headers import DicomFile, load_pydicom, looks_like_dicom, read_dicom_header
from uresnet.io.dicom_pixels import read_pixels
from uresnet.io.headers import checked_affine
from uresnet.io.simpleitk import LPS_TO_RAS

_UNEVEN, _GAP = 0.01, 0.5  # of the distance between slices
_MOST_UNZIPPED = 20 << 30


def is_dicom(path: Path) -> bool:
    """Whether a path is read here: a folder, a ``.zip``, a ``.dcm``, or one of these with ``#NUMBER``."""
    place, _ = split_series(path)
    return place.is_dir() or place.suffix.lower() in (".zip", ".dcm")


def read_dicom(path: Path) -> Volume:
    """The one series, or the chosen one, of a folder, of a zip, or of the folder of a single file, as scaled by the
    files.

    Raises :class:`UserError` for a folder without DICOM, with several series and no choice, with damaged files, for
    colours, and for a series whose slices are not parallel, or not evenly spaced (missing ones).
    """
    check_exist(path)
    place, choice = split_series(path)
    if place.suffix.lower() != ".zip":
        with reading(path):
            return _read_folder(place, path, choice)
    with reading(path), tempfile.TemporaryDirectory(prefix="uresnet-dicom-") as folder:
        _unzip(place, Path(folder))
        return _read_folder(Path(folder), path, choice)


def _unzip(archive: Path, folder: Path) -> None:
    try:
        with zipfile.ZipFile(archive) as file:
            size = sum(member.file_size for member in file.infolist())
            if size > _MOST_UNZIPPED:
                raise UserError(f"{archive} unpacks to more than 20 GB; unpack it yourself and give the folder.")
            if size > shutil.disk_usage(folder).free:
                raise UserError(
                    f"{archive} unpacks to {size / 1e9:.2g} GB, more than are free in {folder.parent}; unpack it "
                    "elsewhere and give the folder."
                )
            file.extractall(folder)  # zipfile takes roots and '..' out of the names
    except (UserError, MemoryError):
        raise
    except Exception as error:  # encrypted or unknown compression, damaged deflate, names that are no names, …
        raise UserError(f"{archive} is not a zip file that can be unpacked; copy or download it again.") from error


def _read_folder(place: Path, named: Path, choice: int | None) -> Volume:
    """One series of a folder, or that of one file and its neighbours."""
    files = _dicom_files(place, named)
    found = _series(files)
    if place.is_file():
        found = [one for one in found if any(file.path == place for file in one)]
    if not found:
        _refuse_damaged(files, named)
        what = "is a folder" if named.is_dir() else "is a file"
        raise UserError(f"{named} {what} without a DICOM image; give one image file, or a folder of one series.")
    if choice is not None and not 1 <= choice <= len(found):
        raise UserError(f"{named}: there are {len(found)} series; choose 1 to {len(found)}.")
    if len(found) > 1 and choice is None:
        shown = [f"#{n} {_name(one)}, {_count(one)}" for n, one in enumerate(found, start=1)][:20]
        listed = "; ".join(shown) + ("; …" if len(found) > 20 else "")
        raise UserError(f"{named} holds {len(found)} series ({listed}); choose one, for example {named}#1")
    chosen = found[(choice or 1) - 1]
    _refuse_damaged([*chosen, *(file for file in files if file.series is None)], named)
    return _read_series(chosen, named)


def _dicom_files(place: Path, named: Path) -> list[DicomFile]:
    """The pictures in a folder and below it, or beside one file. Warns about files without a suffix that are no DICOM
    among others that are: they may be damaged."""
    files: list[DicomFile] = []
    others: list[Path] = []
    for path in sorted(place.rglob("*") if place.is_dir() else place.parent.glob("*")):
        if not path.is_file():
            continue
        if looks_like_dicom(path) or path == place:
            file = read_dicom_header(path)
            if file is not None:
                files.append(file)
        elif path.suffix == "" or path.suffix[1:].isdigit():
            others.append(path)
    strange = [path for path in others if any(file.path.parent == path.parent for file in files)]
    strange = [path for path in strange if not path.name.startswith(".")]
    if strange:
        warn_about_input(f"{named} holds files that are not DICOM, and are left out ({_names(strange)}).")
    return files


def _series(files: Sequence[DicomFile]) -> list[list[DicomFile]]:
    """The files of every series in every folder, in the order of folders and identifiers."""
    found: dict[tuple[Path, str], list[DicomFile]] = {}
    for file in files:
        if file.series is not None:
            found.setdefault((file.path.parent, file.series), []).append(file)
    return [found[key] for key in sorted(found)]


def _refuse_damaged(files: Sequence[DicomFile], named: Path) -> None:
    for file in files:
        if file.damage:
            which = f"{named}" if file.path == named else f"{file.path.name[:100]} in {named}"
            raise UserError(f"{which} {file.damage}, or remove it if it does not belong to the image.")


def _name(series: Sequence[DicomFile]) -> str:
    return quoted(series[0].description, 60) or "without a description"


def _count(series: Sequence[DicomFile]) -> str:
    return "1 file" if len(series) == 1 else f"{len(series)} files"


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name[:60] for path in paths[:3]) + (", …" if len(paths) > 3 else "")


def _read_series(files: Sequence[DicomFile], named: Path) -> Volume:
    files = _without_copies(files, named)
    _check_pictures(files, named)
    files, order, grid = _in_order(files, named)
    values = _values(files, named)
    if order != sorted(order):
        values = np.ascontiguousarray(values[:, :, order])
    chosen = f"DICOM series {_name(files)} ({quoted(files[0].series, 70)}), {_count(files)}"
    return Volume(values, grid or _assumed_grid(files, named), grid is not None, chosen)


def _values(files: Sequence[DicomFile], named: Path) -> np.ndarray:
    """(I, J, K) as scaled by the files: whole numbers where all factors are whole."""
    pydicom = load_pydicom(named)
    scalings = np.array(
        [file.planes[n if len(file.planes) > 1 else 0].scaling for file in files for n in range(file.frames)]
    )
    stored = np.concatenate([read_pixels(pydicom, file.path) for file in files])
    if (scalings != (1, 0)).any():
        whole = (scalings == np.rint(scalings)).all() and np.abs(scalings).max() < 2**14
        factors = scalings.astype(np.int64) if whole and stored.dtype.itemsize < 4 else scalings
        stored = stored * factors[:, 0, None, None] + factors[:, 1, None, None]
        if stored.dtype.kind == "i":
            stored = stored.astype(np.int32)
    return np.ascontiguousarray(stored.T)


def _assumed_grid(files: Sequence[DicomFile], named: Path) -> Grid:
    apart, spacing = files[0].apart or files[0].thickness or 1.0, files[0].spacing or (1.0, 1.0)
    warn_about_input(
        f"{named} does not say where its slices lie; voxels of {spacing[1]:.3g} × {spacing[0]:.3g} × {apart:.3g} mm, "
        "and axes that run to the left, posterior and superior, are assumed: check left and right in the result."
    )
    shape = (files[0].columns, files[0].rows, len(files) * files[0].frames)
    return Grid(shape, checked_affine(named, LPS_TO_RAS @ np.diag([spacing[1], spacing[0], apart, 1.0])))


def _without_copies(files: Sequence[DicomFile], named: Path) -> list[DicomFile]:
    """Each image once: copies have one identifier. Raises :class:`UserError` where they are not the same."""
    first: dict[str, DicomFile] = {}
    copies: list[Path] = []
    for file in files:
        known = first.setdefault(file.identifier or str(file.path), file)
        if known is file:
            continue
        if file.path.read_bytes() != known.path.read_bytes():
            raise UserError(
                f"{named} holds two different files of one image ({known.path.name}, {file.path.name}); remove one of "
                "them."
            )
        copies.append(file.path)
    if copies:
        warn_about_input(f"{named} holds copies of its own files ({_names(copies)}); each is used once.")
    return list(first.values())


def _check_pictures(files: Sequence[DicomFile], named: Path) -> None:
    """Refuses what is no stack of pictures of one size."""
    first = files[0]
    if first.is_mosaic:
        raise UserError(f"{named} holds a mosaic of slices in one picture (Siemens); convert it with dcm2niix first.")
    for file in files:
        if (file.rows, file.columns) != (first.rows, first.columns):
            raise UserError(
                f"{named} holds pictures of several sizes in one series ({first.path.name}, {file.path.name}); remove "
                "those that do not belong to the image."
            )
    if len(files) > 1 and max(file.frames for file in files) > 1:
        raise UserError(
            f"{named} holds {len(files)} files of several slices each in one series; copy the one that you mean into a "
            "folder of its own."
        )
    if not all(file.colours.startswith("MONOCHROME") for file in files):
        raise UserError(f"{named} holds colours; give an image with one grey value per voxel.")
    shape = [first.columns, first.rows, len(files) * first.frames]
    if min(shape) < 2:
        raise UserError(f"{named} holds {tuple(shape)} voxels in this series; give a 3D image.")
    check_voxels(named, shape)
    if any(file.colours == "MONOCHROME1" for file in files):
        warn_about_input(f"{named} is meant to be shown inverted (MONOCHROME1); it is used as stored.")


# -- where the slices lie ----------------------------------------------------------------------------------------------


def _in_order(files: Sequence[DicomFile], named: Path) -> tuple[list[DicomFile], list[int], Grid | None]:
    """The files, and within them the slices, from the lowest to the highest, and their grid; None where they do not say
    how they lie."""
    planes = [plane for file in files for plane in file.planes]
    count = len(files) * files[0].frames
    positions = [plane.position for plane in planes if plane.position]
    directions = [plane.directions for plane in planes if plane.directions]
    spacing = files[0].spacing
    if not spacing or len(positions) != len(planes) or len(directions) != len(planes):
        return sorted(files, key=lambda file: (file.number, file.path.name)), list(range(count)), None
    axes = np.array(directions)
    if np.abs(axes - axes[0]).max() > 1e-3:
        raise UserError(f"{named} holds slices that are not parallel (a localiser?); give a series of one volume.")
    rows, columns = (half / np.linalg.norm(half) for half in (axes[0][:3], axes[0][3:]))  # written with few digits
    normal = np.cross(rows, columns)
    along = np.array(positions) @ normal
    order = [int(n) for n in np.argsort(along, kind="stable")]
    if len(planes) == 1:
        apart = files[0].apart or files[0].thickness
        if not apart:
            return list(files), list(range(count)), None
        if not files[0].apart:
            warn_about_input(f"{named} gives the thickness of its slices only; taken as their distance, {apart:g} mm.")
        step = normal * apart
    else:
        _check_distances(along[order], files[0].apart, named)
        step = (np.array(positions[order[-1]]) - positions[order[0]]) / (len(planes) - 1)
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = rows * spacing[1], columns * spacing[0], step
    lps[:3, 3] = positions[order[0]]
    shape = (files[0].columns, files[0].rows, count)
    if len(files) > 1:
        files, order = [files[n] for n in order], list(range(count))
    elif len(planes) == 1:
        order = list(range(count))
    return list(files), order, Grid(shape, checked_affine(named, LPS_TO_RAS @ lps))


def _check_distances(along: np.ndarray, apart: float, named: Path) -> None:
    """Refuses several slices at one place and gaps; ``along`` are the places of the slices in mm, in order."""
    steps = np.diff(along)
    if steps.min() < 1e-3:
        raise UserError(
            f"{named} holds several slices at one place (echoes or times in one series); "
            "convert it with dcm2niix first."
        )
    middle = float(np.median(steps))
    uneven = float((steps.max() - steps.min()) / middle)
    if uneven > _GAP:
        raise UserError(
            f"{named} lacks slices: they are {steps.min():.2f} to {steps.max():.2f} mm apart; copy it again."
        )
    if uneven > _UNEVEN:
        warn_about_input(f"{named} has slices {steps.min():.3f} to {steps.max():.3f} mm apart; taken as even.")
    if apart > 0 and middle > apart * (1 + _GAP):
        warn_about_input(
            f"{named} has slices {middle:.2f} mm apart, and its headers say {apart:.2f} mm; check that none is missing."
        )
