"""One DICOM series, from a folder or a zip of its files, by SimpleITK's GDCM.

Slices are put in order by their positions. A folder with several series is not guessed at: it is refused with their
list, and ``FOLDER#NUMBER`` chooses one.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from uresnet.core.files import check_exist, split_series
from uresnet.core.grid import Grid
from uresnet.errors import UserError, warn_about_input
from uresnet.io.contents import check_voxels, reading
from uresnet.io.simpleitk import load_simpleitk, volume_of, without_complaint

_UNEVEN, _GAP = 0.01, 0.5  # of the distance between slices
_SERIES_DESCRIPTION, _POSITION, _ORIENTATION = "0008|103e", "0020|0032", "0020|0037"
_IMAGE_TYPE, _IDENTIFIER, _ROWS, _COLUMNS = "0008|0008", "0008|0018", "0028|0010", "0028|0011"
_MOST_UNZIPPED = 20 << 30


def is_dicom(path: Path) -> bool:
    """Whether a path is read here: a folder, a ``.zip``, a ``.dcm``, or one of these with ``#NUMBER``."""
    place, _ = split_series(path)
    return place.is_dir() or place.suffix.lower() in (".zip", ".dcm")


def read_dicom(path: Path) -> tuple[np.ndarray, Grid]:
    """Voxels (I, J, K), as scaled by the files, and grid of the one series, or the chosen one, of a folder, a zip or
    the folder of a single file.

    Raises :class:`UserError` for a folder without DICOM, with several series and no choice, for colours, and for a
    series whose slices are not parallel, or not evenly spaced (missing ones).
    """
    check_exist(path)
    place, choice = split_series(path)
    if place.suffix.lower() != ".zip":
        with reading(path):
            return _read_folder(place if place.is_dir() else place.parent, path, choice, only=place)
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


def _read_folder(folder: Path, named: Path, choice: int | None, only: Path | None = None) -> tuple[np.ndarray, Grid]:
    sitk = load_simpleitk(named)
    found = _series(sitk, folder)
    if only is not None and only.is_file():
        found = [files for files in found if str(only) in files]
    if not found:
        what = "is a folder" if named.is_dir() else "is a file"
        raise UserError(f"{named} {what} without a DICOM image; give one image file, or a folder of one series.")
    if choice is not None and not 1 <= choice <= len(found):
        raise UserError(f"{named}: there are {len(found)} series; choose 1 to {len(found)}.")
    if len(found) > 1 and choice is None:
        listed = "; ".join(f"#{n} {_described(sitk, files)}" for n, files in enumerate(found, start=1))
        raise UserError(f"{named} holds {len(found)} series ({listed}); choose one, for example {named}#1")
    return _read_series(sitk, found[(choice or 1) - 1], named)


def _series(sitk: Any, folder: Path) -> list[tuple[str, ...]]:
    """Files of every series below ``folder``, in the order of their descriptions and identifiers."""
    found = []
    for place in [folder, *sorted(p for p in folder.rglob("*") if p.is_dir())]:
        for identifier in sorted(sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(place))):
            found.append(tuple(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(place), identifier)))
    return found


def _described(sitk: Any, files: tuple[str, ...]) -> str:
    tags = _tags(sitk, files[0])
    name = tags.get(_SERIES_DESCRIPTION, "").strip() or "without a description"
    return f"{name}, {len(files)} file{'s' if len(files) > 1 else ''}"


def _tags(sitk: Any, file: str) -> dict[str, str]:
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    reader.ReadImageInformation()
    return {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}


def _read_series(sitk: Any, files: tuple[str, ...], named: Path) -> tuple[np.ndarray, Grid]:
    try:
        tags = [_tags(sitk, file) for file in files]
        if "MOSAIC" in tags[0].get(_IMAGE_TYPE, "").split("\\"):
            raise UserError(
                f"{named} holds a mosaic of slices in one picture (Siemens); convert it with dcm2niix first."
            )
        files, tags = _without_copies(files, tags, named)
        _check_slices(tags, named)
        check_voxels(named, [*(_size(tag, axis) for tag in tags[:1] for axis in (_ROWS, _COLUMNS)), len(files)])
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        image = without_complaint(reader.Execute if len(files) > 1 else lambda: sitk.ReadImage(files[0]), named)
    except RuntimeError as error:
        raise UserError(f"{named} holds DICOM files that cannot be read; convert them with dcm2niix first.") from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(f"{named} holds colours; give an image with one grey value per voxel.")
    if image.GetDimension() != 3 or min(image.GetSize()) < 2:
        raise UserError(f"{named} holds {image.GetSize()} voxels in this series; give a 3D image.")
    return volume_of(sitk, image, named)


def _without_copies(
    files: tuple[str, ...], tags: list[dict[str, str]], named: Path
) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Each image once: copies have one identifier. Raises :class:`UserError` where they are not the same."""
    first: dict[str, int] = {}
    for n, tag in enumerate(tags):
        known = first.setdefault(tag.get(_IDENTIFIER, "").strip() or str(n), n)
        if known != n and Path(files[n]).read_bytes() != Path(files[known]).read_bytes():
            raise UserError(
                f"{named} holds two different files of one image ({Path(files[known]).name}, {Path(files[n]).name}); "
                "remove one of them."
            )
    kept = sorted(first.values())
    if len(kept) < len(files):
        copies = [Path(file).name for n, file in enumerate(files) if n not in kept]
        shown = ", ".join(copies[:3]) + (", …" if len(copies) > 3 else "")
        warn_about_input(f"{named} holds copies of its own files ({shown}); each is used once.")
    return tuple(files[n] for n in kept), [tags[n] for n in kept]


def _size(tag: dict[str, str], key: str) -> int:
    return int(tag.get(key, "1"))


def _check_slices(tags: list[dict[str, str]], named: Path) -> None:
    """Refuses what the series reader would stack without an error: several echoes or times, gaps, turned slices."""
    if len(tags) < 2 or any(_POSITION not in tag or _ORIENTATION not in tag for tag in tags):
        return
    directions = np.array([_numbers(tag[_ORIENTATION], 6, named) for tag in tags])
    if np.abs(directions - directions[0]).max() > 1e-3:
        raise UserError(f"{named} holds slices that are not parallel (a localiser?); give a series of one volume.")
    normal = np.cross(directions[0][:3], directions[0][3:])
    along = np.sort(np.array([_numbers(tag[_POSITION], 3, named) for tag in tags]) @ normal)
    steps = np.diff(along)
    if steps.min() < 1e-3:
        raise UserError(
            f"{named} holds several slices at one place (echoes or times in one series); "
            "convert it with dcm2niix first."
        )
    uneven = float((steps.max() - steps.min()) / np.median(steps))
    if uneven > _GAP:
        raise UserError(
            f"{named} lacks slices: they are {steps.min():.2f} to {steps.max():.2f} mm apart; copy it again."
        )
    if uneven > _UNEVEN:
        warn_about_input(f"{named} has slices {steps.min():.3f} to {steps.max():.3f} mm apart; taken as even.")


def _numbers(text: str, count: int, named: Path) -> list[float]:
    try:
        numbers = [float(word) for word in text.split("\\")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise UserError(
            f"{named} holds a slice whose position or direction is no position or direction; copy the series again."
        )
    return numbers
