"""Names and colours of label values, where other programs look for them: in files of their own and in NIfTI headers.

The names and colours themselves are in :mod:`uresnet.core.labels`. Two programs read them in a NIfTI header: Connectome
Workbench (extension 30, names and colours: a GIFTI label table in Caret's XML) and AFNI (extension 4, names: the
attribute that ``3drefit -labeltable`` sets). Others step over extensions.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from uresnet.core.files import write_text
from uresnet.core.labels import LabelClass, LabelScheme

_CARET, _AFNI = 30, 4  # extension codes of the NIfTI standard
_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'
_AFNI_PIECE = 1000  # characters of a string that AFNI writes in one piece; it joins them
_QUOTE = "\ue000"  # stands for a quotation mark until the rest has been escaped


# -- files beside a label map ----------------------------------------------------------------------------------------


def write_label_table(scheme: LabelScheme, path: str | Path) -> None:
    """Write the BIDS table of a segmentation (``dseg.tsv``: index, name, abbreviation, color), background first."""
    rows = ["index\tname\tabbreviation\tcolor", "0\tBackground\tBG\t#000000"]
    rows += [f"{c.id}\t{c.name}\t{c.abbreviation}\t{c.hex_colour}" for c in _by_id(scheme)]
    _write_rows(rows, path)


def write_colour_table(scheme: LabelScheme, path: str | Path) -> None:
    """Write the same as a FreeSurfer colour table (index, name, R, G, B, A), where A = 0 is opaque, for Freeview."""
    rows = ["0 Background 0 0 0 0"]
    rows += [f"{c.id} {c.name} {_rgb(c)} 0" for c in _by_id(scheme)]
    _write_rows(rows, path)


def write_slicer_colours(scheme: LabelScheme, path: str | Path) -> None:
    """Write the same as a 3D Slicer colour table (``.ctbl``), where A = 255 is opaque."""
    rows = ["# Color table: index name R G B A", "0 Background 0 0 0 0"]
    rows += [f"{c.id} {c.name} {_rgb(c)} 255" for c in _by_id(scheme)]
    _write_rows(rows, path)


def write_itksnap_labels(scheme: LabelScheme, path: str | Path) -> None:
    """Write the same as ITK-SNAP's label descriptions (index, R, G, B, opacity, visible, in mesh, name)."""
    rows = ["# ITK-SnAP Label Description File", '0 0 0 0 0 0 0 "Clear Label"']
    rows += [f'{c.id} {_rgb(c)} 1 1 1 "{c.name}"' for c in _by_id(scheme)]
    _write_rows(rows, path)


def _by_id(scheme: LabelScheme) -> list[LabelClass]:
    return sorted(scheme.classes, key=lambda c: c.id)


def _rgb(label: LabelClass) -> str:
    return " ".join(map(str, label.colour))


def _write_rows(rows: list[str], path: str | Path) -> None:
    write_text("\n".join(rows) + "\n", path)


# -- extensions of a NIfTI header ------------------------------------------------------------------------------------


def name_extensions(scheme: LabelScheme) -> dict[int, bytes]:
    """Extension code → content, for a label map of one volume whose values are the ids of ``scheme``."""
    return {_CARET: _c_string(_for_workbench(scheme)), _AFNI: _c_string(_for_afni(scheme))}


def names_in(header: Any) -> dict[int, bytes]:
    """Workbench's extension of a NIfTI header (None: no header), to be copied into another file.

    AFNI's is left out, because it also says where the voxels lie.
    """
    for extension in () if header is None else header.extensions:
        if extension.get_code() == _CARET:
            stored = io.BytesIO()
            extension.write_to(stored, False)  # nibabel 5.3 gives this extension's content away in no other way
            return {_CARET: stored.getvalue()[8:].rstrip(b"\0") + b"\0"}
    return {}


def _for_workbench(scheme: LabelScheme) -> ET.Element:
    root = ET.Element("CaretExtension")
    volume = ET.SubElement(root, "VolumeInformation", Index="0")
    ET.SubElement(volume, "GuiLabel").text = scheme.name
    table = ET.SubElement(volume, "LabelTable")
    _add_label(table, 0, "???", (0.0, 0.0, 0.0, 0.0))  # Workbench's own name for what has no label
    for label in scheme.classes:
        red, green, blue = (value / 255 for value in label.colour)
        _add_label(table, label.id, label.name, (red, green, blue, 1.0))
    ET.SubElement(volume, "StudyMetaDataLinkSet")
    ET.SubElement(volume, "VolumeType").text = "Label"
    return root


def _add_label(table: ET.Element, key: int, name: str, colour: tuple[float, float, float, float]) -> None:
    shares = {what: f"{share:.6g}" for what, share in zip(("Red", "Green", "Blue", "Alpha"), colour, strict=True)}
    ET.SubElement(table, "Label", {"Key": str(key)} | shares).text = name


def _for_afni(scheme: LabelScheme) -> ET.Element:
    rows = [f'"{label.id}" "{label.name}"' for label in scheme.classes]
    head = f'<VALUE_LABEL_DTABLE ni_type="2*String" ni_dimen="{len(rows)}" >'
    table = "\n".join([head, *rows, "</VALUE_LABEL_DTABLE>"])
    pieces = [table[start : start + _AFNI_PIECE] for start in range(0, len(table), _AFNI_PIECE)]
    root = ET.Element("AFNI_attributes", ni_form="ni_group")
    attribute = ET.SubElement(
        root, "AFNI_atr", ni_type="String", ni_dimen=str(len(pieces)), atr_name="VALUE_LABEL_DTABLE"
    )
    # A string of NIML stands in quotes, so its own are written as entities.
    attribute.text = "\n" + "\n".join(f'"{piece.replace(chr(34), _QUOTE)}"' for piece in pieces) + "\n"
    return root


def _c_string(root: ET.Element) -> bytes:
    """XML that ends in a zero byte: Workbench and AFNI both read a C string."""
    text = _PROLOG + ET.tostring(root, encoding="unicode").replace(_QUOTE, "&quot;")
    return text.encode("utf-8") + b"\0"
