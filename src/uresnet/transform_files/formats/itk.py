"""ITK's own files: composites and displacement fields in ``.h5``, affines in ``.mat``, ``.txt`` and ``.tfm``.

ITK's world is LPS: a RAS matrix A becomes L·A·L and a RAS vector L·v, with L = diag(−1, −1, 1). Files state the
pull-back, fixed world → moving world, and ITK's composites list the part that is applied **last** first.
"""

from __future__ import annotations

import io
import math
import re
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from isal.isal_zlib import compress as _deflate  # zlib's streams, fifteen times as fast, a tenth larger
from scipy import io as matlab
from scipy.io.matlab import matfile_version
from scipy.spatial.transform import Rotation

from uresnet.core.files import write_bytes, write_text, written_whole
from uresnet.core.grid import Grid
from uresnet.core.kernels.packing import shuffled_vectors
from uresnet.errors import UserError, quoted
from uresnet.transform import Affine, DisplacementField, Transform, about
from uresnet.transform_files.contents import check_claim, small_content
from uresnet.transform_files.formats.matrices import floats
from uresnet.transform_files.formats.nifti import LPS, field_of, grid_of
from uresnet.transform_files.formats.pair import TransformPair, Writers

_QUANTUM_MM = 2.0**-15  # 3.1e-5 mm: rounding by at most half of it leaves mantissas that compress
_SLICES = 16  # in a chunk
_LEVEL = 1  # of isal's; 3 makes fields 2 % smaller, and takes four times as long

H5_SUFFIXES = (".h5", ".hdf5", ".hdf")
TEXT_SUFFIXES = (".txt", ".tfm")


def itk_files(pair: TransformPair) -> Writers:
    """``transform.h5`` and ``inverse_transform.h5``: every part as it is."""
    out: Writers = {"transform.h5": partial(write_itk_composite, pair.forward)}
    if pair.backward is not None:
        out["inverse_transform.h5"] = partial(write_itk_composite, pair.backward)
    return out


# -- writing -------------------------------------------------------------------------------------------------------


def write_itk_composite(transform: Transform, path: str | Path, exact: bool = False) -> None:
    """Write an ITK composite ``.h5`` that SimpleITK, ANTs, Slicer and nitransforms read.

    Displacements are rounded to multiples of 2^-15 mm (error ≤ 1.6e-5 mm, for a smaller file), or kept to the
    last bit with ``exact``. A file is whole or absent. ``UserError`` where the folder does not exist or cannot be
    written.
    """
    path = Path(path)
    if not path.name.lower().endswith(".h5"):
        raise UserError(f"{path}: a composite transform is written as .h5; give the file that ending.")
    # In memory: where the disk is full, HDF5 does not end with an error but crashes when it closes the file. The name
    # must not be that of another file that is open, and several transforms may be written at a time.
    with h5py.File(f"{path}, in memory", "w", driver="core", backing_store=False) as file:
        for name, text in (("ITKVersion", "5.4.0"), ("HDFVersion", h5py.version.hdf5_version)):
            file[name] = _ascii(text)
        file["OSName"], file["OSVersion"] = _ascii("uresnet"), _ascii("1")
        groups = file.create_group("TransformGroup")
        groups.create_group("0")["TransformType"] = _ascii("CompositeTransform_float_3_3")
        for number, part in enumerate(reversed(transform.parts), start=1):
            _write_part(groups.create_group(str(number)), part, exact)
        file.flush()
        content = file.id.get_file_image()
    write_bytes(content, path)


def _write_part(group: h5py.Group, part: Transform, exact: bool) -> None:
    if isinstance(part, Affine):
        group["TransformType"] = _ascii("AffineTransform_float_3_3")
        lps = LPS @ part.matrix @ LPS
        # float64 in a "float" file: every reader converts, and nothing is lost in those that compute in double.
        group["TransformParameters"] = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])
        group["TransformFixedParameters"] = np.zeros(3)
    elif isinstance(part, DisplacementField):
        group["TransformType"] = _ascii("DisplacementFieldTransform_float_3_3")
        group["TransformFixedParameters"] = _itk_geometry(part.grid)
        _write_vectors(group, part, exact)
    else:
        raise TypeError(f"no ITK counterpart of {type(part).__name__}")


def _itk_geometry(grid: Grid) -> np.ndarray:
    """(18,) size, origin, spacing, direction (row-major), LPS. Directions are columns: divided column by column."""
    lps = LPS @ grid.voxel_to_world
    return np.concatenate([grid.shape, lps[:3, 3], grid.zooms, (lps[:3, :3] / grid.zooms).ravel()])


def _write_vectors(group: h5py.Group, field: DisplacementField, exact: bool) -> None:
    """The displacements: flat float32, component fastest, then x, y, z; LPS.

    Gzip and shuffle, several chunks compressed at a time: h5py's own filter pipeline uses one thread. A chunk is some
    slices, so that the whole field is never held a second time.
    """
    displacement = field.displacement.detach().cpu().float().contiguous().numpy()
    i, j, k = field.grid.shape
    slices = min(k, _SLICES)
    data = group.create_dataset(
        "TransformParameters", (3 * i * j * k,), "<f4", chunks=(3 * i * j * slices,), compression="gzip",
        compression_opts=_LEVEL, shuffle=True,
    )  # fmt: skip
    to_lps = LPS.diagonal()[:3].astype(np.float32)
    quantum = np.float32(0 if exact else _QUANTUM_MM)

    def shuffled(start: int) -> np.ndarray:
        out = np.zeros((4, 3 * i * j * slices), np.uint8)  # the last chunk is a whole one too
        shuffled_vectors(displacement, to_lps, quantum, out, start, min(start + slices, k))
        return out

    starts = range(0, k, slices)
    with ThreadPoolExecutor(min(4, torch.get_num_threads())) as pool:
        chunks = list(pool.map(lambda start: _deflate(shuffled(start), _LEVEL), starts))
    for number, chunk in enumerate(chunks):
        data.id.write_direct_chunk((number * data.chunks[0],), chunk)


def write_itk_affine(affine: Affine, path: str | Path) -> None:
    """Write an affine as ITK text (``.txt``, ``.tfm``) or MATLAB-4 (``.mat``), double precision."""
    path = Path(path)
    lps = LPS @ affine.matrix @ LPS
    parameters = np.concatenate([lps[:3, :3].ravel(), lps[:3, 3]])
    if path.suffix.lower() == ".mat":
        columns = {"AffineTransform_double_3_3": parameters[:, None], "fixed": np.zeros((3, 1))}
        with written_whole(path) as beside, beside.open("wb") as file:
            matlab.savemat(file, columns, format="4")
    elif path.suffix.lower() in TEXT_SUFFIXES:
        numbers = " ".join(f"{value:.17g}" for value in parameters)
        text = "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        write_text(f"{text}Parameters: {numbers}\nFixedParameters: 0 0 0\n", path)
    else:
        raise UserError(f"{path}: an affine is written as .mat, .txt or .tfm; give the file one of these endings.")


def _ascii(text: str) -> np.ndarray:
    """(1,) of variable length: ITK reads no strings of fixed length."""
    return np.array([text], dtype=h5py.string_dtype("ascii"))


# -- reading -------------------------------------------------------------------------------------------------------


def read_h5(path: Path) -> list[Transform]:
    """The parts of a ``.h5`` transform, in the order in which they are applied; ``UserError`` for anything else.

    Nothing outside the file is read, whatever its links say.
    """
    with h5py.File(path, "r") as file:
        groups = _own(path, file, "TransformGroup")
        if not isinstance(groups, h5py.Group):
            raise UserError(f"{path} is an HDF5 file but holds no ITK transform (no group /TransformGroup).")
        listed = [_own(path, groups, key) for key in sorted(groups, key=int)]
        kinds = [_type_of(path, group) for group in listed]
        if kinds and kinds[0].startswith("CompositeTransform"):
            listed, kinds = listed[1:], kinds[1:]
        elif len(kinds) > 1:
            raise UserError(f"{path} lists {len(kinds)} transforms without saying that they are one composite.")
        parts = [_part(path, kind, *_numbers(path, group)) for kind, group in zip(kinds, listed, strict=True)]
    if not parts:
        raise UserError(f"{path} holds an empty composite: there is no transform in it.")
    return parts[::-1]


def _own(path: Path, group: h5py.Group, name: str) -> Any:
    """A member of a group, or None. ``UserError`` where it is a link, which may lead to another file."""
    link = group.get(name, getlink=True)
    if link is None:
        return None
    if not isinstance(link, h5py.HardLink):
        raise UserError(f"{path} refers to another place or file for its {quoted(name)}; such links are not followed.")
    return group[name]


def _array(path: Path, group: h5py.Group, name: str) -> np.ndarray | None:
    """The flat values of a dataset, or None. ``UserError`` where the file does not hold what the dataset claims."""
    dataset = _own(path, group, name)
    if dataset is None:
        return None
    if not isinstance(dataset, h5py.Dataset) or dataset.is_virtual or dataset.external:
        raise UserError(f"{path} does not hold its {quoted(name)} itself; such a file is not read.")
    check_claim(path, dataset.nbytes, dataset.id.get_storage_size(), deflated=dataset.chunks is not None)
    return np.ravel(np.asarray(dataset[()]))


def _type_of(path: Path, group: Any) -> str:
    value = _array(path, group, "TransformType") if isinstance(group, h5py.Group) else None
    if value is None or value.size != 1 or not isinstance(value[0], bytes | str):
        raise UserError(f"{path} is an HDF5 file but holds no ITK transform (it does not say of which type).")
    return value[0].decode("ascii", "replace") if isinstance(value[0], bytes) else str(value[0])


def _numbers(path: Path, group: h5py.Group) -> tuple[np.ndarray, np.ndarray]:
    # ITK before 5.0 wrote the names with a letter missing.
    names = ("Transform", "Tranform")
    stem = next((stem for stem in names if f"{stem}Parameters" in group), names[0])
    values, fixed = (_array(path, group, f"{stem}{which}") for which in ("Parameters", "FixedParameters"))
    none = np.zeros(0)
    return none if values is None else values, none if fixed is None else fixed


def _part(path: Path, kind: str, values: np.ndarray, fixed: np.ndarray) -> Transform:
    """One ITK transform from its type, parameters and fixed parameters."""
    if re.search(r"_(\d)_(\d)$", kind) and not kind.endswith("_3_3"):
        raise UserError(f"{path} holds a transform that is not three-dimensional ({quoted(kind)}).")
    name = kind.split("_")[0]
    if values.dtype.kind not in "fiu" or fixed.dtype.kind not in "fiu":
        raise UserError(f"{path} holds the transform {quoted(name)}, whose parameters are not numbers; copy it again.")
    fixed = fixed.astype(np.float64)
    if not np.isfinite(values).all() or not np.isfinite(fixed).all():
        raise UserError(f"{path} holds values that are not finite; write the transform again.")
    if name == "DisplacementFieldTransform":
        return _field(path, values, fixed)
    try:
        matrix = _itk_matrix(name, np.asarray(values, dtype=np.float64), fixed)
        if matrix is None:
            raise UserError(
                f"{path} holds the transform {quoted(name)}, which is not supported: only affine kinds and "
                "displacement fields are."
            )
        return Affine(LPS @ matrix @ LPS)
    except (ValueError, IndexError) as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise UserError(f"{path} holds the transform {quoted(name)}, which cannot be used: {reason}.") from error


_VERSOR_KINDS = ("VersorTransform", "VersorRigid3DTransform", "Similarity3DTransform")
_SCALED_KINDS = ("ScaleVersor3DTransform", "ScaleSkewVersor3DTransform", "ComposeScaleSkewVersor3DTransform")
_MATRIX_KINDS = ("AffineTransform", "MatrixOffsetTransformBase", "Rigid3DTransform", "ScalableAffineTransform")
_PARAMETERS: dict[str, int | None] = {
    **dict.fromkeys(_MATRIX_KINDS, 12),
    **{"IdentityTransform": None, "TranslationTransform": 3, "Euler3DTransform": 6, "VersorTransform": 3},
    **{"VersorRigid3DTransform": 6, "Similarity3DTransform": 7, "ScaleTransform": 3},
    **dict(zip(_SCALED_KINDS, (9, 15, 12), strict=True)),
}
"""How many parameters each of ITK's affine kinds has; None: any number."""


def _itk_matrix(name: str, p: np.ndarray, fixed: np.ndarray) -> np.ndarray | None:
    """(4, 4) LPS of ITK's affine kinds, y = M(x − c) + c + t; None for a kind that is not one of them."""
    if name not in _PARAMETERS:
        return None
    expected = _PARAMETERS[name]
    if expected is not None and len(p) != expected:
        raise ValueError(f"it has {len(p)} parameters instead of {expected}")
    if name not in ("IdentityTransform", "TranslationTransform") and len(fixed) < 3:
        raise ValueError("its fixed parameters, the centre, are missing")
    linear: np.ndarray
    centre = fixed[:3] if len(fixed) >= 3 else np.zeros(3)
    shift = p[-3:] if len(p) >= 6 else np.zeros(3)
    if name in _MATRIX_KINDS:
        linear = p[:9].reshape(3, 3)
    elif name == "Euler3DTransform":
        linear = _euler(p[:3], zyx=len(fixed) > 3 and bool(fixed[3]))
    elif name in _VERSOR_KINDS:
        linear = _versor(p)
    elif name in _SCALED_KINDS:
        linear, shift = _scaled(name, p), p[3:6]
    else:
        linear = np.diag(p) if name == "ScaleTransform" else np.eye(3)
    if name == "Similarity3DTransform":
        linear, shift = linear * p[6], p[3:6]
    elif name == "TranslationTransform":
        shift = p
    return about(linear, shift, centre)


def _versor(p: np.ndarray) -> np.ndarray:
    """(3, 3) of the vector part (3,) of a unit quaternion."""
    return np.asarray(Rotation.from_quat([*p[:3], np.sqrt(max(0.0, 1 - float(p[:3] @ p[:3])))]).as_matrix())


def _scaled(name: str, p: np.ndarray) -> np.ndarray:
    """(3, 3) of ITK's versors with scales p[6:9] and skews p[9:]: added to the rotation, or multiplied with it."""
    scales, skews = p[6:9], p[9:]
    if name == "ComposeScaleSkewVersor3DTransform":
        skew = np.eye(3)
        skew[np.triu_indices(3, 1)] = skews
        return np.asarray(_versor(p) @ np.diag(scales) @ skew)
    linear: np.ndarray = _versor(p) + np.diag(scales - 1)
    if len(skews):
        linear[~np.eye(3, dtype=bool)] += skews  # row by row, without the diagonal
    return linear


def _euler(angles: np.ndarray, zyx: bool) -> np.ndarray:
    """ITK's Euler3D: Rz·Rx·Ry, or Rz·Ry·Rx where the file says so."""
    order = "ZYX" if zyx else "ZXY"
    by_axis = dict(zip("XYZ", angles, strict=True))
    return np.asarray(Rotation.from_euler(order, [by_axis[axis] for axis in order]).as_matrix())


def _field(path: Path, values: np.ndarray, fixed: np.ndarray) -> DisplacementField:
    if len(fixed) != 18:
        raise UserError(f"{path} holds a displacement field without its geometry (18 numbers).")
    size = [round(float(n)) for n in fixed[:3]]
    if min(size) < 1 or values.size != 3 * math.prod(size):
        raise UserError(f"{path} holds a displacement field whose size does not fit its geometry; it is damaged.")
    lps = np.eye(4)
    lps[:3, :3] = fixed[9:].reshape(3, 3) * fixed[6:9]
    lps[:3, 3] = fixed[3:6]
    vectors = np.asarray(values, dtype=np.float32).reshape(*size[::-1], 3).transpose(2, 1, 0, 3)
    return field_of(path, vectors * LPS.diagonal()[:3].astype(np.float32), grid_of(path, size, LPS @ lps))


def read_matlab(path: Path) -> list[Transform]:
    """The one transform of a binary (MATLAB-4) ``.mat``; ``UserError`` for anything else."""
    data = small_content(path)
    major, _ = matfile_version(io.BytesIO(data))
    if major != 0:  # of version 4
        raise UserError(f"{path} is a newer MATLAB file than ITK writes; check that it is the right file.")
    content = matlab.loadmat(io.BytesIO(data))
    kinds = [key for key in content if re.search(r"Transform\w*_\w+_\d_\d$", key)]
    if len(kinds) != 1:
        raise UserError(f"{path} is a MATLAB file but not an ITK transform.")
    values, fixed = (np.ravel(np.asarray(content.get(key, np.zeros(0)))) for key in (kinds[0], "fixed"))
    return [_part(path, kinds[0], values, fixed)]


def is_itk_text(text: str) -> bool:
    """Whether a text file calls itself an ITK transform."""
    return "Insight Transform File" in text.split("\n", 1)[0]


def read_itk_text(path: Path, text: str) -> list[Transform]:
    """The parts of an ITK text transform, in the order in which they are applied; ``UserError`` for anything else."""
    found: list[tuple[str, dict[str, np.ndarray]]] = []
    for line in text.splitlines():
        key, _, rest = line.partition(":")
        key = key.strip().lstrip("#")
        if key == "Transform":
            found.append((rest.strip(), {}))
        elif key in ("Parameters", "FixedParameters") and found:
            found[-1][1][key] = floats(path, rest.split())
    composite = bool(found) and found[0][0].startswith("CompositeTransform")
    if composite:
        found = found[1:]
    if not found or (len(found) > 1 and not composite):
        raise UserError(f"{path} holds {len(found)} transforms where one transform, or one composite, is needed.")
    if any(len(numbers) < 2 for _, numbers in found):
        raise UserError(f"{path} lacks parameters or fixed parameters; it is truncated: copy or download it again.")
    return [_part(path, kind, numbers["Parameters"], numbers["FixedParameters"]) for kind, numbers in found][::-1]
