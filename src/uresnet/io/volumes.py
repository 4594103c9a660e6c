"""Image files to images on grids, and back; every check of what a file claims about itself.

NIfTI-1/2 (``.nii``, ``.nii.gz``), FreeSurfer (``.mgz``, ``.mgh``) and Analyze (``.hdr`` with ``.img``) by nibabel;
NRRD, MetaImage and DICOM (a folder, a zip) by SimpleITK where it is installed. What is read is in RAS+ mm
whatever the file says. A file that cannot be right raises
:class:`~uresnet.errors.UserError`; one that is probably right raises an :class:`InputWarning` and is used.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import warnings
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from isal import igzip
from nibabel.filebasedimages import ImageFileError
from nibabel.imageglobals import LoggingOutputSuppressor
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from uresnet.core.files import written_whole
from uresnet.core.grid import Grid
from uresnet.core.image import Image, LabelMap
from uresnet.core.labels import LabelClass, LabelScheme
from uresnet.errors import InputWarning, UserError
from uresnet.io.dicom import is_dicom, read_dicom
from uresnet.io.label_names import CARET, name_extensions

NIBABEL_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh", ".hdr", ".img")
SIMPLEITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
WRITABLE_SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")

_MAX_SHEAR = 0.01  # cosine between two axes: 0.6 degrees, up to 2 mm over a head
_NOTICEABLE_SHEAR = 1e-3
_LABEL_INTENT = 1002
_VECTOR_INTENTS = (1004, 1005, 1006, 1007, 1009, 2003, 2004, 2006)  # matrices, vectors, quaternions, colours, warps
_TO_MM = {"meter": 1e3, "micron": 1e-3}
_HEAD_MM = (20.0, 1000.0)
_MAX_DISAGREEMENT_MM = 1.0  # between the two orientation matrices of a NIfTI header

# What decompressing, parsing and scaling a damaged file can raise in nibabel and below it.
_DAMAGE = (
    *(ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, KeyError, OverflowError),
    *(WrapStructError, TypeError),  # a header that is cut off: NIfTI's within a whole gzip file, MGH's
)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_image(path: str | Path) -> Image:
    """Read one volume as float32 (I, J, K) with its grid.

    Voxels that are not a number or infinite become 0, are marked in ``Image.invalid`` and warned about: whether they
    matter is decided where the brain is known. Raises :class:`UserError` for a file that is missing, damaged, not an
    image, holds several volumes or colours, or whose affine is singular or sheared.
    """
    volume, grid, oriented = _read_volume(Path(path))
    with np.errstate(over="ignore"):
        data = volume.astype(np.float32)
    invalid = ~np.isfinite(data)
    if not invalid.any():
        return Image(torch.from_numpy(data), grid, str(path), oriented=oriented)
    count = int(invalid.sum())
    data[invalid] = 0
    what = "1 voxel that is" if count == 1 else f"{count} voxels that are"
    _warn(f"{path} has {what} not a number or infinite; set to 0.")
    return Image(torch.from_numpy(data), grid, str(path), torch.from_numpy(invalid), oriented)


def read_labels(path: str | Path) -> LabelMap:
    """Read a label map or mask as int16 (int32 if a value needs it) with its grid.

    Raises :class:`UserError` as :func:`read_image` does, and for values that are not whole numbers.
    """
    volume, grid, _ = _read_volume(Path(path))
    if volume.dtype.kind == "f":
        with np.errstate(invalid="ignore"):
            whole = np.rint(volume)
            broken = ~np.isfinite(volume) | (np.abs(volume - whole) > 1e-3)
        if broken.any():
            example = float(volume[broken][0])
            raise UserError(f"{path} holds {example:g}, not only whole numbers; give a label map or a mask instead.")
        volume = whole
    if volume.size and (volume.min() < -(2**31) or volume.max() >= 2**31):
        raise UserError(f"{path} holds label values too large to be labels; give a label map or a mask instead.")
    small = volume.min() >= -(2**15) and volume.max() < 2**15
    return LabelMap(torch.from_numpy(volume.astype(np.int16 if small else np.int32)), grid, str(path))


def read_grid(path: str | Path) -> Grid:
    """Read only the grid of an image; several volumes are welcome. Raises as :func:`read_image` for the header."""
    path = Path(path)
    if is_dicom(path):
        return _read_dicom(path)[1]
    _check_file(path)
    if _suffix(path) in SIMPLEITK_SUFFIXES:
        return _read_with_simpleitk(path)[1]
    image = _load(path)
    return Grid(_spatial_shape(path, image.shape, one_volume=False), _checked_affine(path, image))


def _read_volume(path: Path) -> tuple[np.ndarray, Grid, bool]:
    """The voxels (I, J, K) in the file's own or its scaled dtype, the grid, and whether the file says how it lies."""
    if is_dicom(path):
        return *_read_dicom(path), True
    _check_file(path)
    if _suffix(path) in SIMPLEITK_SUFFIXES:
        return *_read_with_simpleitk(path), True
    image = _load(path, whole=True)
    shape = _spatial_shape(path, image.shape)
    grid = Grid(shape, _checked_affine(path, image))
    return _voxels(path, image, shape), grid, _says_orientation(image)


def _voxels(path: Path, image: Any, shape: tuple[int, ...]) -> np.ndarray:
    dtype = image.get_data_dtype()
    if dtype.kind not in "iufb":
        raise UserError(f"{path} holds {_kind_of(dtype)}; give an image with one grey value per voxel.")
    try:
        with _quiet():
            data = np.asanyarray(image.dataobj)
    except MemoryError:
        raise UserError(
            f"{path} claims {shape} voxels, more than this computer's memory holds; check the file."
        ) from None
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return np.ascontiguousarray(data.reshape(shape), dtype=data.dtype.newbyteorder("="))


def _read_dicom(path: Path) -> tuple[np.ndarray, Grid]:
    volume = read_dicom(path)
    return volume.values, Grid(volume.values.shape, _check_geometry(path, volume.voxel_to_world))


@dataclass(frozen=True, eq=False)
class Series:
    """One volume or several: ``values`` (I, J, K) or (I, J, K, T) as the file means them, on ``grid``.

    ``stored`` is the data type of a file whose whole numbers stand for themselves; None where values are fractions or
    scaled. ``header`` is a NIfTI header to take times, units and descriptions from, or None.
    """

    values: np.ndarray
    grid: Grid
    path: str
    stored: np.dtype | None
    header: Any = None

    @property
    def volumes(self) -> list[np.ndarray]:
        """Each (I, J, K)."""
        return [self.values[..., t] for t in range(self.values.shape[3])] if self.values.ndim == 4 else [self.values]

    @property
    def called_labels(self) -> bool:
        """Whether the header says that the values are labels (NIfTI's intent 1002)."""
        return self.header is not None and int(self.header["intent_code"]) == _LABEL_INTENT

    @property
    def whole(self) -> bool:
        """Whether all values are whole numbers."""
        if self.values.dtype.kind in "iub":
            return True
        return bool(np.isfinite(self.values).all() and (self.values == np.rint(self.values)).all())


def read_series(path: str | Path) -> Series:
    """Read all volumes of an image, as they are. Raises as :func:`read_image`, and for vectors, which would have to be
    turned as well as moved."""
    path = Path(path)
    if is_dicom(path) or _suffix(path) in SIMPLEITK_SUFFIXES:
        values, grid, _ = _read_volume(path)
        return Series(values, grid, str(path), values.dtype if values.dtype.kind in "iu" else None)
    _check_file(path)
    image = _load(path, whole=True)
    shape = _spatial_shape(path, image.shape, one_volume=False)
    extra = [int(n) for n in image.shape[3:] if n > 1]
    header = image.header if isinstance(image, nib.Nifti1Pair) else None
    intent = int(header["intent_code"]) if header is not None else 0
    if len(extra) > 1 or (len(image.shape) > 4 and extra) or intent in _VECTOR_INTENTS:
        raise UserError(
            f"{path} holds a vector or tensor per voxel {tuple(image.shape)}; those have to be turned as well as "
            "moved: for a transform use uresnet compose, for anything else give one number per voxel."
        )
    grid = Grid(shape, _checked_affine(path, image))
    values = _voxels(path, image, (*shape, *extra))
    stored = image.get_data_dtype()
    unscaled = (
        header is None or not hasattr(image.dataobj, "slope") or (image.dataobj.slope, image.dataobj.inter) == (1, 0)
    )
    return Series(values, grid, str(path), stored if stored.kind in "iub" and unscaled else None, header)


def _check_file(path: Path) -> None:
    """Everything that can be said before a header is parsed."""
    if path.is_symlink() and not path.exists():
        raise UserError(
            f"{path} is a link to a file that is not here; fetch its content first (git annex get, or copy it)."
        )
    if not path.exists():
        raise UserError(f"{path} does not exist; check the path.")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give one image file, or a folder of DICOM files.")
    suffix = _suffix(path)
    if suffix not in NIBABEL_SUFFIXES + SIMPLEITK_SUFFIXES:
        known = ", ".join(NIBABEL_SUFFIXES + SIMPLEITK_SUFFIXES)
        raise UserError(f"{path} is not a file type that can be read ({known}); convert it to NIfTI first.")
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
    if not start:
        raise UserError(f"{path} is empty; copy or download it again.")
    if b"annex/objects" in start or start.startswith(b"version https://git-lfs"):
        raise UserError(
            f"{path} is only a pointer to the image; fetch its content first (git annex get, or git lfs pull)."
        )
    if start.lstrip()[:15].lower().startswith((b"<html", b"<!doctype", b"<?xml")):
        raise UserError(f"{path} is a web page, not an image; download it again.")
    zipped = start.startswith(b"\x1f\x8b")
    if suffix in (".nii.gz", ".mgz") and not zipped:
        raise UserError(f"{path} is not a gzip file although its name says so; rename it or download it again.")
    if suffix in (".nii", ".mgh") and zipped:
        raise UserError(f"{path} is a gzip file although its name does not say so; rename it to end in .gz or .mgz.")


def _load(path: Path, whole: bool = False) -> Any:
    """``whole`` unpacks a compressed file to its end, where its checksum is: nibabel stops after the last voxel."""
    try:
        with _quiet():
            if not whole or _suffix(path) not in (".nii.gz", ".mgz"):
                return nib.load(path)
            content = gzip.decompress(path.read_bytes())
            return _class_of(path, content).from_bytes(content)
    except _DAMAGE as error:
        raise _damaged(path, error) from error


def _class_of(path: Path, content: bytes) -> Any:
    if _suffix(path) == ".mgz":
        return nib.MGHImage
    return nib.Nifti2Image if nib.Nifti2Header.may_contain_header(content) else nib.Nifti1Image


def _damaged(path: Path, error: BaseException) -> UserError:
    said = ("Expected", "end-of-stream", "too small", "wrong size")
    cut = isinstance(error, EOFError) or any(words in str(error) for words in said)
    if cut:
        return UserError(f"{path} is truncated: it ends before its last voxel; copy or download it again.")
    if isinstance(error, gzip.BadGzipFile | zlib.error):
        return UserError(f"{path} is damaged (its compressed content does not unpack); copy or download it again.")
    return UserError(f"{path} is not an image that can be read; check that it is the file you mean, or copy it again.")


def _spatial_shape(path: Path, shape: tuple[int, ...], one_volume: bool = True) -> tuple[int, int, int]:
    sizes = [int(n) for n in shape]
    if len(sizes) < 3 or min(sizes) < 1:
        raise UserError(f"{path} has {len(sizes)} dimensions of {sizes} voxels; give a 3D image.")
    volumes = int(np.prod(sizes[3:]))
    if one_volume and volumes > 1:
        raise UserError(f"{path} holds {volumes} volumes; give one 3D volume (for example the first, or their mean).")
    return sizes[0], sizes[1], sizes[2]


def _kind_of(dtype: np.dtype) -> str:
    return "colours" if dtype.kind == "V" else "complex numbers" if dtype.kind == "c" else f"values of type {dtype}"


def _says_orientation(image: Any) -> bool:
    if isinstance(image, nib.MGHImage):
        return bool(image.header["goodRASFlag"])
    if not isinstance(image, nib.Nifti1Pair):
        return False  # Analyze cannot say
    return bool(image.header["qform_code"]) or bool(image.header["sform_code"])


def _checked_affine(path: Path, image: Any) -> np.ndarray:
    if isinstance(image, nib.Nifti1Pair):
        return _check_geometry(path, _in_mm(path, image, _nifti_affine(path, image)))
    if isinstance(image, nib.AnalyzeImage):
        _warn(
            f"{path} is Analyze, which does not say left from right; its axes are assumed to run to the left, "
            "anterior and superior: check left and right in the result."
        )
    elif not _says_orientation(image):
        _warn(f"{path} does not say how it is oriented; FreeSurfer's standard (left, inferior, anterior) is assumed.")
    return _check_geometry(path, np.asarray(image.affine, dtype=np.float64))


def _nifti_affine(path: Path, image: Any) -> np.ndarray:
    header = image.header
    sform = header.get_sform(coded=True)[0]
    try:
        qform = header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError):
        qform = None  # a quaternion that cannot be one
    if sform is not None and not _is_usable(sform) and qform is not None:
        _warn(f"{path} has a broken sform; its qform is used.")
        return np.asarray(qform, dtype=np.float64)
    if sform is None and qform is None:
        _warn(
            f"{path} does not say how it is oriented (no qform or sform); its axes are assumed to run to the left, "
            "anterior and superior: check left and right in the result."
        )
        return np.asarray(header.get_base_affine(), dtype=np.float64)
    if sform is not None and qform is not None and _is_usable(sform) and _is_usable(qform) and not _is_sheared(sform):
        shape = tuple(int(n) for n in header.get_data_shape()[:3])
        if len(shape) == 3 and min(shape) > 0:
            a, b = Grid(shape, sform).corners_world, Grid(shape, qform).corners_world
            apart = float(np.linalg.norm(a - b, axis=1).max())
            if apart > _MAX_DISAGREEMENT_MM:
                _warn(f"{path} has a qform and an sform that differ by up to {apart:.0f} mm; the sform is used.")
    return np.asarray(sform if sform is not None else qform, dtype=np.float64)


def _in_mm(path: Path, image: Any, affine: np.ndarray) -> np.ndarray:
    """The affine in mm where the header says metres or micrometres, unless only millimetres make the image a head's
    size: then the unit is the mistake."""
    unit = image.header.get_xyzt_units()[0]
    scale = _TO_MM.get(unit, 1.0)
    size = float((np.linalg.norm(affine[:3, :3], axis=0) * image.shape[:3]).max())
    if scale == 1:
        return affine
    if _HEAD_MM[0] <= size <= _HEAD_MM[1]:
        _warn(f"{path} says that it is in {unit}s, which would make it {size * scale:g} mm wide; taken as millimetres.")
        return affine
    return np.diag([scale, scale, scale, 1.0]) @ affine


def _is_usable(affine: np.ndarray) -> bool:
    try:
        Grid((2, 2, 2), affine)
    except ValueError:
        return False
    return True


def _is_sheared(affine: np.ndarray) -> bool:
    return Grid((2, 2, 2), affine).shear > _MAX_SHEAR


def _check_geometry(path: Path, affine: np.ndarray) -> np.ndarray:
    if not _is_usable(affine):
        raise UserError(
            f"{path} has a singular affine (its voxels have no volume); repair its header, or convert it again."
        )
    shear = Grid((2, 2, 2), affine).shear
    if _is_sheared(affine):
        degrees = 90 - np.degrees(np.arccos(min(shear, 1)))
        raise UserError(
            f"{path} has a sheared affine ({degrees:.1f}° off right angles); resample it to a grid of boxes first."
        )
    if shear > _NOTICEABLE_SHEAR:
        _warn(f"{path} has an affine with a slight shear; other programs may place it up to 1 mm elsewhere.")
    return affine


def _read_with_simpleitk(path: Path) -> tuple[np.ndarray, Grid]:
    try:
        import SimpleITK as sitk
    except ImportError:
        raise UserError(
            f"{path} needs SimpleITK to be read; install it (pip install 'uresnet[formats]') or convert it to NIfTI."
        ) from None
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError(
            f"{path} is not an image that can be read; check that it is the file you mean, or copy it again."
        ) from error
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UserError(
            f"{path} has {image.GetNumberOfComponentsPerPixel()} values per voxel; give an image with one grey value."
        )
    shape = _spatial_shape(path, image.GetSize())
    data = np.ascontiguousarray(sitk.GetArrayFromImage(image).T).reshape(shape)
    rank = image.GetDimension()
    direction = np.array(image.GetDirection()).reshape(rank, rank)[:3, :3]
    lps = np.eye(4)
    lps[:3, :3] = direction * np.array(image.GetSpacing()[:3])
    lps[:3, 3] = image.GetOrigin()[:3]
    return data, Grid(shape, _check_geometry(path, np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps))


# -- writing ---------------------------------------------------------------------------------------------------------


def write_image(image: Image, path: str | Path) -> None:
    """Write float32 in mm, qform = sform. Raises :class:`UserError` for a name or folder that cannot be written."""
    _write(image.data.detach().cpu().numpy().astype(np.float32), image.grid, Path(path))


def write_labels(labels: LabelMap, path: str | Path, scheme: LabelScheme | None = None) -> None:
    """Write int16 (int32 if a value needs it), otherwise as :func:`write_image`. With a ``scheme``, a NIfTI file also
    holds the names and colours of its ids, and the intent "label"."""
    values = labels.data.detach().cpu().numpy()
    small = values.min() >= -(2**15) and values.max() < 2**15
    names = {} if scheme is None else name_extensions(scheme)
    _write(values.astype(np.int16 if small else np.int32), labels.grid, Path(path), extensions=names)


def write_series(values: np.ndarray, grid: Grid, path: str | Path, source: Series, names: bool = False) -> None:
    """Write (I, J, K) or (I, J, K, T) on ``grid`` in the array's own data type, with the times, the intent and the
    description of the file it was made from, and with ``names`` the label names in it (Workbench's extension). Raises
    as :func:`write_image`."""
    path = Path(path)
    if _suffix(path) in (".mgz", ".mgh") and values.dtype not in (np.uint8, np.int16, np.int32, np.float32):
        whole = values.dtype.kind in "iub" and np.abs(values).max(initial=0) < 2**31
        values = values.astype(np.int32 if whole else np.float32)
    if values.dtype == bool:
        values = values.astype(np.uint8)
    _write(values, grid, path, source.header, _label_names(source.header) if names else None)


def write_label_table(scheme: LabelScheme, path: str | Path) -> None:
    """Write the BIDS table of a segmentation (``dseg.tsv``: index, name, abbreviation, color), background first."""
    rows = ["index\tname\tabbreviation\tcolor", "0\tBackground\tBG\t#000000"]
    rows += [f"{one.id}\t{one.name}\t{one.abbreviation}\t{one.hex_colour}" for one in _by_id(scheme)]
    _write_text("\n".join(rows) + "\n", Path(path))


def write_colour_table(scheme: LabelScheme, path: str | Path) -> None:
    """Write the same as a FreeSurfer colour table (index, name, R, G, B, A), where A = 0 is opaque, for Freeview."""
    rows = ["0 Background 0 0 0 0"]
    rows += [f"{one.id} {one.name} {' '.join(map(str, one.colour))} 0" for one in _by_id(scheme)]
    _write_text("\n".join(rows) + "\n", Path(path))


def write_slicer_colours(scheme: LabelScheme, path: str | Path) -> None:
    """Write the same as a 3D Slicer colour table (``.ctbl``), where A = 255 is opaque."""
    rows = ["# Color table: index name R G B A", "0 Background 0 0 0 0"]
    rows += [f"{one.id} {one.name} {' '.join(map(str, one.colour))} 255" for one in _by_id(scheme)]
    _write_text("\n".join(rows) + "\n", Path(path))


def write_itksnap_labels(scheme: LabelScheme, path: str | Path) -> None:
    """Write the same as ITK-SNAP's label descriptions (index, R, G, B, opacity, visible, in mesh, name)."""
    rows = ["# ITK-SnAP Label Description File", '0 0 0 0 0 0 0 "Clear Label"']
    rows += [f'{one.id} {" ".join(map(str, one.colour))} 1 1 1 "{one.name}"' for one in _by_id(scheme)]
    _write_text("\n".join(rows) + "\n", Path(path))


def _by_id(scheme: LabelScheme) -> list[LabelClass]:
    return sorted(scheme.classes, key=lambda one: one.id)


def _write(
    data: np.ndarray, grid: Grid, path: Path, header: Any = None, extensions: Mapping[int, bytes] | None = None
) -> None:
    suffix = _suffix(path)
    if suffix not in WRITABLE_SUFFIXES:
        raise UserError(
            f"{path} is not a file type that can be written ({', '.join(WRITABLE_SUFFIXES)}); choose another name."
        )
    image: Any
    if suffix in (".mgz", ".mgh"):
        image = nib.MGHImage(data, grid.voxel_to_world)
    else:
        # NIfTI-1 has 16 bits for the number of voxels along an axis.
        kind = nib.Nifti1Image if max(grid.shape) < 2**15 else nib.Nifti2Image
        image = kind(data, grid.voxel_to_world, dtype=data.dtype)
        if header is not None:
            _keep_meaning(image.header, header)
        image.set_sform(grid.voxel_to_world, code=1)
        image.set_qform(grid.voxel_to_world, code=1)
        image.header.set_xyzt_units("mm", "unknown" if header is None else header.get_xyzt_units()[1])
        if extensions:
            image.header.set_intent("label")
            image.header.extensions += [nib.nifti1.Nifti1Extension(*one) for one in extensions.items()]
    with written_whole(path) as beside:
        content = image.to_bytes()
        # As small as gzip's level 1 and eight times as fast; without a time stamp, the same data make the same file.
        beside.write_bytes(igzip.compress(content, 2, mtime=0) if suffix in (".nii.gz", ".mgz") else content)


def _label_names(header: Any) -> dict[int, bytes]:
    """Workbench's extension of a NIfTI header. AFNI's says more than names: where its voxels lie."""
    for one in () if header is None else header.extensions:
        if one.get_code() == CARET:
            stored = io.BytesIO()
            one.write_to(stored, False)  # nibabel 5.3 gives this extension's content away in no other way
            return {CARET: stored.getvalue()[8:].rstrip(b"\0") + b"\0"}
    return {}


def _keep_meaning(header: Any, source: Any) -> None:
    """What an image is of, and when: everything in a header that says neither where it lies nor how it is stored."""
    for field in (
        "intent_code",
        "intent_p1",
        "intent_p2",
        "intent_p3",
        "intent_name",
        "descrip",
        "aux_file",
        "toffset",
    ):
        header[field] = source[field]
    header["pixdim"][4:] = source["pixdim"][4:]


def _write_text(text: str, path: Path) -> None:
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def _suffix(path: Path) -> str:
    name = path.name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else path.suffix.lower()


def _warn(sentence: str) -> None:
    warnings.warn(sentence, InputWarning, stacklevel=2)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """nibabel logs repairs of header fields to standard error; ours are warnings, and only those that matter."""
    with LoggingOutputSuppressor(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
