"""Names of label values inside a NIfTI header, where viewers look for them.

Two programs read them there: Connectome Workbench (extension 30, names and colours: a GIFTI label table in Caret's XML)
and AFNI (extension 4, names: the attribute that ``3drefit -labeltable`` sets). Others step over extensions.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from uresnet.core.labels import LabelScheme

CARET, AFNI = 30, 4
"""Extension codes of the NIfTI standard."""

_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'
_AFNI_PIECE = 1000  # characters of a string that AFNI writes in one piece; it joins them


def name_extensions(scheme: LabelScheme) -> dict[int, bytes]:
    """Extension code → content, for a label map of one volume whose values are the ids of ``scheme``."""
    return {CARET: _ended(_for_workbench(scheme)), AFNI: _ended(_for_afni(scheme))}


def _for_workbench(scheme: LabelScheme) -> ET.Element:
    root = ET.Element("CaretExtension")
    volume = ET.SubElement(root, "VolumeInformation", Index="0")
    ET.SubElement(volume, "GuiLabel").text = scheme.name
    table = ET.SubElement(volume, "LabelTable")
    _add_label(table, 0, "???", (0.0, 0.0, 0.0, 0.0))  # Workbench's own name for what has no label
    for one in scheme.classes:
        red, green, blue = (value / 255 for value in one.colour)
        _add_label(table, one.id, one.name, (red, green, blue, 1.0))
    ET.SubElement(volume, "StudyMetaDataLinkSet")
    ET.SubElement(volume, "VolumeType").text = "Label"
    return root


def _add_label(table: ET.Element, key: int, name: str, colour: tuple[float, float, float, float]) -> None:
    shares = {what: f"{share:.6g}" for what, share in zip(("Red", "Green", "Blue", "Alpha"), colour, strict=True)}
    ET.SubElement(table, "Label", {"Key": str(key)} | shares).text = name


def _for_afni(scheme: LabelScheme) -> ET.Element:
    rows = [f'"{one.id}" "{one.name}"' for one in scheme.classes]
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


_QUOTE = "\ue000"  # stands for a quotation mark until the rest has been escaped


def _ended(root: ET.Element) -> bytes:
    text = _PROLOG + ET.tostring(root, encoding="unicode").replace(_QUOTE, "&quot;")
    return text.encode("utf-8") + b"\0"  # both take it for a C string
