"""Points in 3D Slicer's markups, ``.mrk.json``: lists of points, lines, angles and curves, mm, LPS or RAS."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uresnet.errors import UserError, quoted
from uresnet.transform_files.point_tables import PointTable, Row, described, is_lps, table_of, text_of

_OF_POINTS = ("Fiducial", "Line", "Angle", "Curve", "ClosedCurve")  # nothing but their points says where they are
_WITHOUT_POSITION = ("undefined", "missing")


def read_markups(path: Path, lps: bool | None) -> PointTable:
    """The control points of all markups in a file. ``UserError`` for shapes that points alone do not describe, for
    another unit than mm, and where the markups are in different coordinate systems."""
    document = json.loads(text_of(path))
    markups = document.get("markups") if isinstance(document, dict) else None
    if not isinstance(markups, list) or not all(isinstance(markup, dict) for markup in markups):
        raise UserError(f"{path} is not a file of 3D Slicer's markups; check that it is the right file.")
    for markup in markups:
        _check(path, markup)
    systems = {is_lps(path, markup.get("coordinateSystem"), lps) for markup in markups}
    if len(systems) > 1:
        raise UserError(f"{path} holds markups in LPS and in RAS; save them in one of the two.")
    rows = [_row(path, n, point) for n, point in enumerate(_placed(document), start=1)]
    in_lps = systems == {True}
    header = ("id", "label", *("LPS" if in_lps else "RAS"))
    return table_of(path, header, rows, (2, 3, 4), in_lps, document=document)


def written_markups(table: PointTable) -> str:
    """The file with its positions replaced; the description of a point outside says so. Measurements, which are those
    of the points before, are left out."""
    document = copy.deepcopy(table.document)
    for n, (point, position) in enumerate(zip(_placed(document), table.numbers.tolist(), strict=True)):
        point["position"] = position
        if table.inside is not None and not table.inside[n]:
            point["description"] = described(_word(point, "description"), inside=False)
    for markup in document["markups"]:
        markup.pop("measurements", None)
    return json.dumps(document, indent=2) + "\n"


def _check(path: Path, markup: dict[str, Any]) -> None:
    kind, unit, system = (markup.get(key) for key in ("type", "coordinateUnits", "coordinateSystem"))
    if kind not in _OF_POINTS:
        raise UserError(
            f"{path} holds a markup of the type {quoted(kind)}, which is not moved by moving its points; give points, "
            "lines or curves."
        )
    if unit is not None and unit != "mm" and not (isinstance(unit, list) and unit[:1] == ["mm"]):
        raise UserError(f"{path} is in {quoted(unit)}, not in millimetres; save it in mm.")
    if system is not None and not isinstance(system, str):
        raise UserError(f"{path} has the coordinate system {quoted(system)}; save it from 3D Slicer in LPS or RAS.")


def _placed(document: Any) -> Iterator[dict[str, Any]]:
    """The control points that have a position."""
    for markup in document["markups"]:
        for point in markup.get("controlPoints", []):
            if point.get("positionStatus") not in _WITHOUT_POSITION:
                yield point


def _row(path: Path, number: int, point: dict[str, Any]) -> Row:
    position, label = point.get("position"), _word(point, "label")
    place = f"point {number}"
    if (
        not isinstance(position, list)
        or len(position) != 3
        or any(type(value) not in (int, float) for value in position)
    ):
        named = f" ({quoted(label)})" if label else ""
        raise UserError(f"{path} has a position that is not three numbers in {place}{named}; place this point again.")
    x, y, z = (repr(float(value)) for value in position)
    return place, (_word(point, "id"), label, x, y, z)


def _word(point: dict[str, Any], key: str) -> str:
    value = point.get(key)
    return "" if value is None else str(value)
