"""Small valid files of every kind that the package reads, made on the spot: the files that are then damaged."""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch

from dicom_files import frames_of, packed, slice_of, write_dicom, write_slices
from report_results import judged, made_up_results
from spatial_cases import grid_of, known_affine, smooth_field
from uresnet.config import ConformSpec, ModelConfig
from uresnet.core.grid import Grid
from uresnet.model.checkpoint import save_model, uresnet_card
from uresnet.model.network import UResNet
from uresnet.model.published import _in_keras_order
from uresnet.training.data.dataset import Scan, write_index, write_scan
from uresnet.transform import Composite
from uresnet.transform_files import FORMATS, TransformPair, export_files, write_transform

GRID = grid_of("oblique", shape=(7, 8, 6), zooms=(1.9, 1.1, 2.4))
MOVING = grid_of("PIR", shape=(6, 7, 8), zooms=(1.5, 1.7, 2.1))
VALUES = np.random.default_rng(0).integers(0, 900, GRID.shape).astype(np.int16)
LABELS = np.random.default_rng(1).choice(np.array([0, 2, 3, 4, 41], np.int16), GRID.shape)
LARGE = grid_of("oblique", shape=(40, 36, 2), zooms=(1.9, 1.1, 2.4))  # JPEG 2000 packs none that are smaller
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def write_seeds(folder: Path) -> None:
    """One folder for every kind of file: ``images``, ``transforms``, ``points``, ``settings`` and so on."""
    makers: dict[str, Callable[[Path], None]] = {
        "images": _images,
        "dicom": _dicom,
        "transforms": _transforms,
        "points": _points,
        "settings": _settings,
        "models": _models,
        "run": _run,
        "prepared": _prepared,
    }
    for name, make in makers.items():
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        make(place)


def _images(folder: Path) -> None:
    for name, values in (("image", VALUES), ("labels", LABELS)):
        nifti = nib.Nifti1Image(values, GRID.voxel_to_world)
        nifti.set_qform(GRID.voxel_to_world, 1)
        nifti.set_sform(GRID.voxel_to_world, 1)
        (folder / f"{name}.nii").write_bytes(nifti.to_bytes())
        (folder / f"{name}.nii.gz").write_bytes(gzip.compress(nifti.to_bytes(), mtime=0))
        mgh = nib.MGHImage(values.astype(np.int32), GRID.voxel_to_world).to_bytes()
        (folder / f"{name}.mgh").write_bytes(mgh)
        (folder / f"{name}.mgz").write_bytes(gzip.compress(mgh, mtime=0))
        for suffix in ("nrrd", "mha", "mhd"):
            sitk.WriteImage(_itk(values), str(folder / f"{name}.{suffix}"))
        for suffix in ("nrrd", "mha"):
            sitk.WriteImage(_itk(values), str(folder / f"{name}_packed.{suffix}"), useCompression=True)
    (folder / "image2.nii").write_bytes(nib.Nifti2Image(VALUES, GRID.voxel_to_world).to_bytes())
    series = np.stack([VALUES, VALUES], -1).astype(np.float32)
    (folder / "series.nii").write_bytes(nib.Nifti1Image(series, GRID.voxel_to_world).to_bytes())
    nib.save(nib.Spm2AnalyzeImage(VALUES, np.diag([-2.0, 2, 2, 1])), folder / "analyze.hdr")


def _itk(values: np.ndarray, grid: Grid = GRID) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    lps = _LPS @ grid.voxel_to_world
    image.SetSpacing(grid.zooms.tolist())
    image.SetDirection((lps[:3, :3] / grid.zooms).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def _dicom(folder: Path) -> None:
    write_slices([slice_of(VALUES, GRID, k) for k in range(3)], folder / "series")
    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "series").iterdir()):
            archive.write(file, file.name)
    write_dicom(frames_of(VALUES, GRID), folder / "frames" / "frames.dcm")
    large = np.random.default_rng(2).integers(0, 900, LARGE.shape).astype(np.int16)
    for compressor in ("JPEG", "JPEG2000"):
        write_slices([slice_of(large, LARGE, k) for k in range(2)], folder / compressor)
        for file in (folder / compressor).iterdir():
            packed(file, compressor, apart=2.4)


def _transforms(folder: Path) -> None:
    transform = Composite([smooth_field(GRID), known_affine()])
    back = Composite([smooth_field(MOVING), known_affine()])
    for name, write in export_files(TransformPair(transform, back, GRID, MOVING), tuple(FORMATS)).items():
        if "inverse" not in name.lower():
            write(folder / name)
    write_transform(known_affine(), folder / "affine.tfm")
    write_transform(known_affine(), folder / "affine.h5")
    euler = sitk.Euler3DTransform((1.0, 2.0, 3.0), 0.1, -0.2, 0.05, (4.0, 5.0, 6.0))
    sitk.WriteTransform(euler, str(folder / "euler.tfm"))
    absolute = GRID.points_to_world(np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), -1))
    spm = nib.Nifti1Image(absolute[:, :, :, None].astype(np.float32), GRID.voxel_to_world)
    spm.header.set_intent(1007, name="Mapping")
    (folder / "y_spm.nii").write_bytes(spm.to_bytes())


def _points(folder: Path) -> None:
    rows = [(f"p{n}", *map(str, xyz)) for n, xyz in enumerate([(1.5, -2.0, 30.25), (4.0, 5.0, 6.0), (7, 8, 9)])]
    (folder / "named.csv").write_text("\n".join(",".join(row) for row in [("name", "x", "y", "z"), *rows]))
    (folder / "bare.csv").write_text("\n".join(",".join(row[1:]) for row in rows))
    (folder / "named.tsv").write_text("\n".join("\t".join(row) for row in [("name", "x", "y", "z"), *rows]))
    columns = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"
    head = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = LPS\n# columns = {columns}\n"
    (folder / "slicer.fcsv").write_text(head + "".join(f"{n},{x},{y},{z},0,0,0,1,1,1,0,{n},,\n" for n, x, y, z in rows))
    points = [
        {"id": n, "label": n, "position": [float(v) for v in xyz], "positionStatus": "defined"} for n, *xyz in rows
    ]
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "coordinateUnits": "mm", "controlPoints": points}
    (folder / "slicer.mrk.json").write_text(json.dumps({"@schema": "markups-schema-v1.0.3.json", "markups": [markup]}))


def _settings(folder: Path) -> None:
    (folder / "pairs.yaml").write_text(
        "model:\n  channels: [2, 4]\n  scheme: tissue3\nlosses:\n  lcc_window: 5\n  beta: 1e-5\naugment:\n"
        "  rotation: 10.0\n  ventricle_growth: [-2.0, 12.0]\ntraining:\n  epochs: 3\n  max_minutes: null\n"
        "  learning_rate: 1e-3\n  optimiser: soap\n  stages:\n  - {downsampling: 2, fraction: 0.5}\n"
        "  - {downsampling: 1, fraction: 0.5, loss_downsampling: 2}\n"
    )
    (folder / "segmenter.yaml").write_text(
        "data: somewhere\nsegmenter:\n  channels: [4, 8]\n  blocks: [1, 1]\n  hidden: 8\n  classes: 33\nblocks:\n"
        "  shape: [96, 112, 96]\n  parts: 2\n  knots: [3, 8]\ntraining: {optimiser: muon, averaging: 0.9, seed: 7}\n"
    )


def _models(folder: Path) -> None:
    torch.manual_seed(0)
    config = ModelConfig(channels=(2, 4))
    spec = ConformSpec(shape=(16, 16, 16))
    save_model(folder / "small.safetensors", UResNet(config), uresnet_card("small", config, spec, licence="none"))
    network = UResNet(ModelConfig(segmentation=False))
    with h5py.File(folder / "keras.hdf5", "w") as file:
        for name, layer in _in_keras_order(network).items():
            weight = layer.weight.detach().numpy()
            kernel = weight.T if weight.ndim == 2 else weight.transpose(2, 3, 4, 1, 0)
            file[f"model_weights/model_1/{name}/kernel:0"] = kernel
            file[f"model_weights/model_1/{name}/bias:0"] = layer.bias.detach().numpy()


def _run(folder: Path) -> None:
    (folder / "run.json").write_text(judged(made_up_results()).record.to_json())


def _prepared(folder: Path) -> None:
    scans = [Scan(f"s{n}", f"person{n}", "train" if n else "val") for n in range(3)]
    for scan in scans:
        write_scan(folder, scan, VALUES / 900, LABELS)
        note = {"shape": [9, 9, 9], "voxel_to_world": np.eye(4).tolist(), "labels": "freesurfer", "files": {}}
        (folder / f"{scan.id}_source.json").write_text(json.dumps(note))
    write_index(folder, GRID.shape, scans, conform=asdict(ConformSpec(shape=(7, 8, 6))), name="made up", licence="")
    lines = [("id", "subject", "split", "image", "labels")]
    lines += [(scan.id, scan.subject, scan.split, f"{scan.id}.nii", f"{scan.id}_seg.nii") for scan in scans]
    (folder / "sources.tsv").write_text("\n".join("\t".join(line) for line in lines))
