"""Every reader of the package, with the file that it is tried on, and what a result of it must satisfy."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

from fuzz.seeds import GRID, MOVING
from uresnet.config import load_config
from uresnet.core.grid import Grid
from uresnet.io import read_grid, read_image, read_labels, read_series
from uresnet.model.catalogue import METADATA_KEY
from uresnet.model.checkpoint import load_model
from uresnet.results.record import read_record
from uresnet.training.data.dataset import open_dataset
from uresnet.training.data.sources import Source, sources_from_table
from uresnet.training.data.splits import with_splits_of
from uresnet.transform import Affine, Composite, DisplacementField
from uresnet.transform_files import FileKind, read_points, read_transform


@dataclass(frozen=True)
class Packing:
    """A content inside another: what is damaged is the inner one, and the outer one is made anew around it."""

    unpack: Callable[[bytes], bytes]
    pack: Callable[[bytes, bytes], bytes]


@dataclass(frozen=True)
class Reader:
    """``seeds`` is the folder of valid files, ``target`` the one that is damaged, ``read`` what is called with its
    path, or with that of ``opened`` in the same folder, and returns bytes that depend on all that it read.

    ``packing`` is used for half of the mutations. ``checksum``: a file damaged outside of the packing must be refused,
    or give what the undamaged one gives.
    """

    name: str
    seeds: str
    target: str
    read: Callable[[Path], bytes]
    packing: Packing | None = None
    opened: str = ""
    checksum: bool = False

    @property
    def group(self) -> str:
        """The first word of its name."""
        return self.name.split(maxsplit=1)[0]


def readers() -> dict[str, Reader]:
    """All of them, by name."""
    found = [*_images(), *_transforms(), *_points(), *_models(), *_settings_and_data()]
    return {reader.name: reader for reader in found}


class BrokenPromise(Exception):
    """A result that its reader promises never to give."""


def _promise(holds: bool, sentence: str) -> None:
    if not holds:
        raise BrokenPromise(sentence)


# -- images ----------------------------------------------------------------------------------------------------------


def _grid_bytes(grid: Grid) -> bytes:
    matrix = np.asarray(grid.voxel_to_world)
    _promise(bool(np.isfinite(matrix).all()) and abs(np.linalg.det(matrix[:3, :3])) > 0, "a grid that is none")
    return repr(grid.shape).encode() + np.round(matrix, 3).tobytes()


def _image(path: Path) -> bytes:
    image = read_image(path)
    _promise(bool(image.data.isfinite().all()), "voxels that are not finite")
    _promise(tuple(image.data.shape) == tuple(image.grid.shape), "an image that does not fill its grid")
    return _grid_bytes(image.grid) + image.data.numpy().tobytes()


def _labels(path: Path) -> bytes:
    labels = read_labels(path)
    _promise(tuple(labels.data.shape) == tuple(labels.grid.shape), "labels that do not fill their grid")
    return _grid_bytes(labels.grid) + labels.data.numpy().tobytes()


def _series(path: Path) -> bytes:
    series = read_series(path)
    return _grid_bytes(series.grid) + b"".join(volume.tobytes() for volume in series.volumes())


def _grid(path: Path) -> bytes:
    return _grid_bytes(read_grid(path))


def _images() -> list[Reader]:
    found = []
    for name, read in (("image", _image), ("labels", _labels)):
        for suffix in (".nii", ".nii.gz", ".mgh", ".mgz", ".nrrd", ".mha", ".mhd", "_packed.nrrd", "_packed.mha"):
            if name == "labels" and suffix in (".mha", ".mhd", "_packed.nrrd"):
                continue
            zipped = suffix in (".nii.gz", ".mgz")
            packing = GZIP if zipped else None
            found.append(Reader(f"{name} {suffix}", "images", f"{name}{suffix}", read, packing, checksum=zipped))
    found += [
        Reader("image NIfTI-2", "images", "image2.nii", _image),
        Reader("image .hdr", "images", "analyze.hdr", _image),
        Reader("image .img", "images", "analyze.img", _image, opened="analyze.hdr"),
        Reader("image .raw", "images", "image.raw", _image, opened="image.mhd"),
        Reader("image series .nii", "images", "series.nii", _series),
        Reader("image grid .nii.gz", "images", "image.nii.gz", _grid, GZIP),
        Reader("image DICOM folder", "dicom", "series/5.dcm", _image, opened="series"),
        Reader("image DICOM file", "dicom", "series/5.dcm", _image),
        Reader("image DICOM frames", "dicom", "frames/frames.dcm", _image),
        Reader("image DICOM JPEG", "dicom", "JPEG/5.dcm", _image),
        Reader("image DICOM JPEG 2000", "dicom", "JPEG2000/5.dcm", _image),
        Reader("image DICOM zip", "dicom", "series.zip", _image, ZIP),
    ]
    return found


# -- transforms and points -------------------------------------------------------------------------------------------


def _transform(kind: FileKind) -> Callable[[Path], bytes]:
    def read(path: Path) -> bytes:
        return _transform_bytes(read_transform(path, kind))

    return read


def _transform_bytes(transform: Composite) -> bytes:
    out = b""
    for part in transform.parts:
        if isinstance(part, Affine):
            matrix = np.asarray(part.matrix)
            _promise(bool(np.isfinite(matrix).all()), "a matrix that is not finite")
            _promise(abs(np.linalg.det(matrix)) > 0, "a matrix without an inverse")
            out += np.round(matrix, 3).tobytes()
        elif isinstance(part, DisplacementField):
            _promise(bool(part.displacement.isfinite().all()), "displacements that are not finite")
            out += _grid_bytes(part.grid) + part.displacement.numpy().tobytes()
    return out


def _transforms() -> list[Reader]:
    own = _transform(FileKind())
    fsl, learn2reg = (_transform(FileKind(name, GRID, MOVING)) for name in ("fsl", "learn2reg"))
    found = [
        Reader("transform ITK .h5", "transforms", "transform.h5", own),
        Reader("transform ITK affine .h5", "transforms", "affine.h5", own),
        Reader("transform ITK .tfm", "transforms", "affine.tfm", own),
        Reader("transform ITK Euler .tfm", "transforms", "euler.tfm", own),
        Reader("transform ANTs .mat", "transforms", "ants_0GenericAffine.mat", own),
        Reader("transform FLIRT .mat", "transforms", "fsl_flirt.mat", fsl),
        Reader("transform greedy .mat", "transforms", "greedy_affine.mat", _transform(FileKind("greedy"))),
        Reader("transform .lta", "transforms", "freesurfer_affine.lta", own),
        Reader("transform SPM y_.nii", "transforms", "y_spm.nii", own),
    ]
    for title, name, read in (
        *(("ANTs", "ants_1Warp.nii.gz", own), ("NIfTI", "nifti_warp.nii.gz", own), ("FSL", "fsl_warp.nii.gz", fsl)),
        *(("Learn2Reg", "learn2reg_disp.nii.gz", learn2reg), ("FreeSurfer", "freesurfer_warp.mgz", own)),
    ):
        suffix = ".mgz" if name.endswith(".mgz") else ".nii.gz"
        found.append(Reader(f"transform {title} warp {suffix}", "transforms", name, read, GZIP, checksum=True))
    return found


def _table(path: Path) -> bytes:
    points = read_points(path).points
    _promise(bool(np.isfinite(points).all()) and points.ndim == 2 and points.shape[1] == 3, "points that are none")
    return points.tobytes()


def _points() -> list[Reader]:
    names = {"points .csv": "named.csv", "points bare .csv": "bare.csv", "points .tsv": "named.tsv"}
    names |= {"points .fcsv": "slicer.fcsv", "points .mrk.json": "slicer.mrk.json"}
    return [Reader(title, "points", name, _table) for title, name in names.items()]


# -- models, settings, records and training data ---------------------------------------------------------------------


def _model(path: Path) -> bytes:
    model = load_model(path)
    weights = model.network.state_dict()
    _promise(all(bool(value.isfinite().all()) for value in weights.values()), "weights that are not finite")
    return repr(model.card).encode() + b"".join(value.numpy().tobytes() for value in weights.values())


def _models() -> list[Reader]:
    return [
        Reader("model .safetensors", "models", "small.safetensors", _model, CARD),
        Reader("model Keras .hdf5", "models", "keras.hdf5", _model),
    ]


def _config(path: Path) -> bytes:
    return repr(load_config(path)).encode()


def _record(path: Path) -> bytes:
    return repr(read_record(path.parent)).encode()


def _dataset(path: Path) -> bytes:
    dataset = open_dataset(path.parent)
    _promise(np.isfinite(dataset.image_scale) and dataset.image_scale > 0, "a scale of grey values that is none")
    arrays = [np.array(read(scan)) for scan in dataset.scans for read in (dataset.image, dataset.labels)]
    grids = [_grid_bytes(dataset.grid(scan)) for scan in dataset.scans]
    return b"".join([*(array.tobytes() for array in arrays), *grids])


def _sources(path: Path) -> bytes:
    return repr(sources_from_table(path)).encode()


def _splits(path: Path) -> bytes:
    sources = [Source(f"s{n}", f"person{n}", "", Path(), Path()) for n in range(3)]
    return repr(with_splits_of(sources, path)).encode()


def _settings_and_data() -> list[Reader]:
    return [
        Reader("configuration .yaml", "settings", "pairs.yaml", _config),
        Reader("configuration segmenter .yaml", "settings", "segmenter.yaml", _config),
        Reader("record run.json", "run", "run.json", _record),
        Reader("data dataset.json", "prepared", "dataset.json", _dataset),
        Reader("data image .npy", "prepared", "s1_image.npy", _dataset),
        Reader("data source.json", "prepared", "s1_source.json", _dataset),
        Reader("data sources table", "prepared", "sources.tsv", _sources),
        Reader("data table of splits", "prepared", "sources.tsv", _splits),
    ]


# -- contents inside files -------------------------------------------------------------------------------------------


def _gzip(original: bytes, content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def _first_member(archive: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(archive)) as file:
        return file.read(file.namelist()[0])


def _with_first_member(archive: bytes, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for number, name in enumerate(old.namelist()):
            new.writestr(name, old.read(name) if number else content)
    return out.getvalue()


def _card(model: bytes) -> bytes:
    length = int.from_bytes(model[:8], "little")
    text: str = json.loads(model[8 : 8 + length])["__metadata__"][METADATA_KEY]
    return text.encode()


def _with_card(model: bytes, card: bytes) -> bytes:
    tensors = safetensors.numpy.load(model)
    return safetensors.numpy.save(tensors, metadata={METADATA_KEY: card.decode("utf-8", "replace")})


def digest(content: bytes) -> str:
    """Short and enough to tell results apart."""
    return hashlib.sha256(content).hexdigest()[:16]


GZIP = Packing(gzip.decompress, _gzip)
ZIP = Packing(_first_member, _with_first_member)
CARD = Packing(_card, _with_card)
