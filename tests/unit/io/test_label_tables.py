"""Names and colours of labels, read by the rules of the programs that show them."""

from __future__ import annotations

import io
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import ants
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import surfa
import torch
from nibabel.gifti.parse_gifti_fast import GiftiImageParser
from typer.testing import CliRunner

from grids import GRIDS
from uresnet.cli.main import app
from uresnet.core.image import LabelMap
from uresnet.core.labels import FREESURFER, SCHEMES
from uresnet.io import read_labels, write_colour_table, write_label_table, write_labels
from uresnet.transform import Affine
from uresnet.transform_files import write_transform

SCHEME = SCHEMES["freesurfer32"]
GRID = GRIDS["oblique"] if "oblique" in GRIDS else next(iter(GRIDS.values()))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    values = torch.tensor([0, *SCHEME.ids])[torch.arange(int(np.prod(GRID.shape))) // 7 % (1 + len(SCHEME.ids))]
    write_labels(LabelMap(values.reshape(GRID.shape), GRID), tmp_path / "dseg.nii.gz", SCHEME)
    return tmp_path / "dseg.nii.gz"


def extension(path: Path, code: int) -> bytes:
    (found,) = [one for one in nib.Nifti1Image.from_filename(path).header.extensions if one.get_code() == code]
    stored = io.BytesIO()
    found.write_to(stored, byteswap=False)
    return stored.getvalue()[8:].rstrip(b"\0")  # after its size and code; nibabel's get_content refuses Caret's


def workbench_table(path: Path) -> dict[int, tuple[str, tuple[int, ...]]]:
    """The label table by nibabel's own GIFTI parser, which knows it from surfaces."""
    root = ET.fromstring(extension(path, 30))
    (volume,) = root.findall("VolumeInformation")
    assert root.tag == "CaretExtension" and volume.attrib == {"Index": "0"}
    assert volume.findtext("VolumeType") == "Label"  # otherwise Workbench shows it as an anatomy
    table = volume.find("LabelTable")
    assert table is not None
    whole = b'<GIFTI Version="1.0" NumberOfDataArrays="0">' + ET.tostring(table) + b"</GIFTI>"
    parser = GiftiImageParser()
    parser.parse(string=whole)
    labels = parser.img.labeltable.labels
    return {one.key: (one.label, tuple(round(255 * share) for share in one.rgba)) for one in labels}


def test_workbench_finds_names_and_colours(written: Path) -> None:
    expected = {i: (FREESURFER[i].name, (*FREESURFER[i].colour, 255)) for i in SCHEME.ids}
    assert workbench_table(written) == {0: ("???", (0, 0, 0, 0))} | expected


def test_afni_finds_names(written: Path) -> None:
    content = extension(written, 4)
    assert content.startswith(b"<?xml")  # AFNI looks no further otherwise
    group = ET.fromstring(content)
    (attribute,) = group
    assert (group.tag, group.get("ni_form"), attribute.tag) == ("AFNI_attributes", "ni_group", "AFNI_atr")
    assert (attribute.get("atr_name"), attribute.get("ni_type")) == ("VALUE_LABEL_DTABLE", "String")
    # NIML: strings in quotes, their own quotes as entities; AFNI joins them and reads the table within.
    body = content.decode().split('atr_name="VALUE_LABEL_DTABLE">')[1].split("</AFNI_atr>")[0]
    pieces = re.findall(r'"([^"]*)"', body)
    assert len(pieces) == int(attribute.get("ni_dimen", 0)) and max(map(len, pieces)) < 4000
    table = ET.fromstring(ET.fromstring(f"<s>{''.join(pieces)}</s>").text or "")
    rows = re.findall(r'"(\d+)" "([^"]+)"', table.text or "")
    assert (table.tag, table.get("ni_type")) == ("VALUE_LABEL_DTABLE", "2*String")
    assert int(table.get("ni_dimen", 0)) == len(rows)
    assert {int(key): name for key, name in rows} == {i: FREESURFER[i].name for i in SCHEME.ids}


def test_everybody_else_steps_over_them(written: Path) -> None:
    expected = read_labels(written).data.numpy()
    np.testing.assert_array_equal(np.asanyarray(nib.Nifti1Image.from_filename(written).dataobj), expected)
    assert nib.Nifti1Image.from_filename(written).header.get_intent()[0] == "label"
    nib.save(nib.Nifti1Image.from_filename(written), written.with_name("again.nii.gz"))
    assert extension(written.with_name("again.nii.gz"), 30) == extension(written, 30)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(written))).T, expected)
    np.testing.assert_array_equal(ants.image_read(str(written)).numpy(), expected)
    np.testing.assert_array_equal(np.squeeze(surfa.load_volume(str(written)).data), expected)


def test_apply_keeps_them_with_the_labels(written: Path, tmp_path: Path) -> None:
    write_transform(Affine.identity(), tmp_path / "t.mat")
    for how, kept in (("label", True), ("linear", False)):
        out = tmp_path / f"{how}.nii.gz"
        command = ["apply", tmp_path / "t.mat", written, "--like", written, "-o", out, "--interpolation", how]
        done = CliRunner().invoke(app, [str(word) for word in command])
        assert done.exit_code == 0, done.output
        assert [one.get_code() for one in nib.Nifti1Image.from_filename(out).header.extensions] == (
            [30] if kept else []
        )
        if kept:
            assert workbench_table(out) == workbench_table(written)


def test_label_tables(tmp_path: Path) -> None:
    write_label_table(SCHEMES["freesurfer28"], tmp_path / "dseg.tsv")
    lines = (tmp_path / "dseg.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0].split("\t") == ["index", "name", "abbreviation", "color"]
    assert lines[1].split("\t") == ["0", "Background", "BG", "#000000"]
    assert [int(line.split("\t")[0]) for line in lines[2:]] == sorted(SCHEMES["freesurfer28"].ids)
    assert "17\tLeft-Hippocampus\tL-Hi\t#dcd814" in lines
    write_colour_table(SCHEMES["tissue3"], tmp_path / "lut.txt")
    assert (tmp_path / "lut.txt").read_text(encoding="utf-8").splitlines()[-1] == "4 Lateral-Ventricle 120 18 134 0"
