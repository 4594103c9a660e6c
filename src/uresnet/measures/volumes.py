"""How large each structure is, in mm³ of the image's own voxels, and the table of what is known of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from uresnet.core.image import LabelMap
from uresnet.core.labels import ABNORMAL, WITH_ABNORMAL, LabelScheme, looked_for, tabulated


def structure_volumes(labels: LabelMap, scheme: LabelScheme) -> dict[int, float]:
    """Volume in mm³ of every structure of ``scheme`` in ``labels`` (FreeSurfer ids), by id; 0 where there is none."""
    highest = max(max(scheme.ids), int(labels.data.max()))
    counts = np.bincount(labels.data.cpu().numpy().ravel().astype(np.int64), minlength=highest + 1)
    return {structure.id: float(counts[structure.id]) * labels.grid.voxel_volume for structure in scheme.classes}


NOT_FREESURFER = (
    "Volumes are those of this model's labels, not FreeSurfer's: its cortex was up to a third larger than FreeSurfer's "
    "on a scan that has both. Compare only volumes of the same model and version. There are no norms for age or sex."
)
"""What everybody who reads the volumes has to know."""

PREDICTED_DICE = (
    "How well the label is expected to agree with an expert's (Dice, 1 is perfect), predicted from the network's "
    "probabilities. It is no measurement: on five people with manual labels it was off by 0.02 on average, and by 0.03 "
    "on degraded images (docs/models/default.md). There is none of abnormal tissue, of structures of which it takes "
    "more than 1 %, of what was not found, and from a model that is not calibrated."
)
"""What everybody who reads a predicted Dice has to know."""

_ABSENT = (
    "Abnormal tissue (rows 25, 57 and 77): 0 says that it was looked for and not found, n/a that it was not looked "
    "for. Masses are looked for unless a model was named that sees none, lesions of the white matter (77) in FLAIR "
    "images; in others 77 has what the network is sure of where that is 1 ml or more, or swelling, and n/a otherwise."
)


def volumes_sidecar(columns: Collection[str], model: str) -> dict[str, dict[str, str]]:
    """What the columns of :func:`volumes_table` mean, as the JSON file beside it says it (BIDS)."""
    described = {
        "index": {"Description": "FreeSurfer id of the structure; n/a for what is no structure"},
        "name": {"Description": "Name of the structure in FreeSurfer's colour table"},
    }
    text = "Volume of the structure in the {} image, counted in its own voxels. "
    text += f"Model: {model}. {NOT_FREESURFER} {_ABSENT}"
    for name in columns:
        whose = text.format(name).replace("image image", "image")
        described[f"{name}_mm3"] = {"Description": whose, "Units": "mm^3"}
    for name in columns:
        whose = f"Of the {name} image. {PREDICTED_DICE}".replace("image image", "image")
        described[f"{name}_predicted_dice"] = {"Description": whose}
    return described


def volumes_table(
    scheme: LabelScheme,
    volumes: Mapping[str, Mapping[int, float]],
    brains: Mapping[str, float] | None = None,
    heads: Mapping[str, float | None] | None = None,
    predicted: Mapping[str, Mapping[str, float] | None] | None = None,
    contrasts: Mapping[str, str | None] | None = None,
) -> str:
    """Tab-separated text: a row per structure with its ``index``, ``name`` and, per entry of ``volumes``, a column
    ``NAME_mm3``, then what has no index, from mm³ by the same names; and a column ``NAME_predicted_dice`` for each of
    the same entries, from ``predicted`` by structure's name, n/a where nothing is predicted.

    ``brains`` adds ``Brain-Mask``: everything in the brain mask. ``heads`` adds ``Estimated-Total-Intracranial``
    (:mod:`uresnet.measures.intracranial`), n/a where there is no estimate; no row where there is none at all.
    With the structures of ``freesurfer32`` come the rows of abnormal tissue, n/a where it was not looked for, which
    depends on what an image was recognised as (``contrasts``), and not found either.
    """
    dice = [(predicted or {}).get(name) or {} for name in volumes]
    columns = [f"{name}_{what}" for what in ("mm3", "predicted_dice") for name in volumes]
    rows: list[Iterable[str]] = [("index", "name", *columns)]
    for structure in tabulated(scheme).classes:
        known = [
            known_volume(column, structure.id, scheme, (contrasts or {}).get(name)) for name, column in volumes.items()
        ]
        cells = ["n/a" if value is None else f"{value:.1f}" for value in known]
        rows.append((str(structure.id), structure.name, *cells, *(_dice(each.get(structure.name)) for each in dice)))
    for name, values in (("Brain-Mask", brains), ("Estimated-Total-Intracranial", heads)):
        shown = [(values or {}).get(column) for column in volumes]
        if any(value is not None for value in shown):
            cells = ["n/a" if value is None else f"{value:.1f}" for value in shown]
            rows.append(("n/a", name, *cells, *("n/a" for _ in dice)))
    return "".join("\t".join(row) + "\n" for row in rows)


def known_volume(
    volumes: Mapping[int, float], structure: int, scheme: LabelScheme, contrast: str | None
) -> float | None:
    """A volume of ``volumes`` by FreeSurfer id, mm³; None of abnormal tissue that is not there and was not looked for,
    which depends on what the image was recognised as."""
    volume = volumes.get(structure, 0.0)
    searched_for = structure in ABNORMAL and tabulated(scheme) is WITH_ABNORMAL
    return None if searched_for and volume == 0 and structure not in looked_for(contrast) else volume


def _dice(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"
