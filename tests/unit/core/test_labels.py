"""The label table against the conventions written out by hand, and against the manual labels' own table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from grids import GRIDS
from uresnet.core.labels import (
    FREESURFER,
    SCHEMES,
    LabelClass,
    LabelScheme,
    fold_parcels,
    label_scheme,
    left_of_midline,
    mirrored_id,
    neuromorphometrics_to_freesurfer,
)
from uresnet.errors import UserError

# Table 1 of the paper, and where its groups lie among FreeSurfer's and Neuromorphometrics' values.
TABLE1 = {
    "BS": ((16,), (35,)),
    "CSF": ((24,), (46,)),
    "CblmC": ((8, 47), (38, 39, 71, 72, 73)),
    "CblmWM": ((7, 46), (40, 41)),
    "CeblWM": ((2, 41), (44, 45)),
    "Pu": ((12, 51), (57, 58)),
    "VDC": ((28, 60), (61, 62)),
    "Pa": ((13, 52), (55, 56)),
    "Ca": ((11, 50), (36, 37)),
    "LV": ((4, 43), (51, 52)),
    "Hi": ((17, 53), (47, 48)),
    "3V": ((14,), (4,)),
    "4V": ((15,), (11,)),
    "Am": ((18, 54), (31, 32)),
    "CeblC": ((3, 42), (100, 101, 206, 207)),
}


def test_table1_is_the_papers_in_its_order() -> None:
    assert [(c.abbreviation, c.ids) for c in SCHEMES["table1"].classes] == [(k, v[0]) for k, v in TABLE1.items()]


def test_tissue3_is_merged_and_written_as_2_3_4() -> None:
    scheme = SCHEMES["tissue3"]
    values = np.array([[0, 2, 41], [3, 42, 4], [43, 16, 1012]])
    np.testing.assert_array_equal(scheme.to_classes(values), [[0, 1, 1], [2, 2, 3], [3, 0, 2]])
    np.testing.assert_array_equal(scheme.to_ids(np.array([0, 1, 2, 3])), [0, 2, 3, 4])


def test_all_abnormal_tissue_is_one_class_beside_the_three() -> None:
    scheme = SCHEMES["tissue3_abnormal"]
    assert scheme.classes[:3] == SCHEMES["tissue3"].classes
    np.testing.assert_array_equal(scheme.to_classes(np.array([25, 57, 77, 4, 0, 17])), [4, 4, 4, 3, 0, 0])
    assert scheme.to_ids(np.array([4])) == [25] and not scheme.sided
    assert scheme.classes[3].name == "Lesion"


def test_freesurfer28_has_28_structures_that_return_to_their_ids() -> None:
    scheme = SCHEMES["freesurfer28"]
    ids = np.array(scheme.ids)
    assert scheme.number_of_classes == 29
    assert set(scheme.ids) == {2, 41, 3, 42, 4, 43, 7, 46, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 14, 15, 16, 17, 53, 18, 54, 24, 28, 60}  # fmt: skip # noqa: E501
    np.testing.assert_array_equal(scheme.to_classes(ids), np.arange(1, 29))
    np.testing.assert_array_equal(scheme.to_ids(scheme.to_classes(ids)), ids)


def test_mirroring_exchanges_the_sides_and_is_its_own_inverse() -> None:
    scheme = SCHEMES["freesurfer28"]
    mirror = np.array(scheme.mirrored)
    np.testing.assert_array_equal(mirror[mirror], np.arange(29))
    assert scheme.to_ids(mirror[scheme.to_classes(np.array([2]))])[0] == 41
    assert scheme.to_ids(mirror[scheme.to_classes(np.array([60]))])[0] == 28
    assert mirror[0] == 0
    assert {c for c in range(1, 29) if mirror[c] == c} == set(scheme.to_classes(np.array([14, 15, 16, 24])).tolist())
    assert SCHEMES["table1"].mirrored == tuple(range(16))


def test_sides_share_a_name() -> None:
    for row in FREESURFER.values():
        other = FREESURFER[mirrored_id(row.id)]
        assert mirrored_id(other.id) == row.id
        assert (row.id == other.id) == (not row.name.startswith(("Left-", "Right-")))


@pytest.mark.parametrize(
    ("value", "name", "colour"),
    [
        (2, "Left-Cerebral-White-Matter", "#f5f5f5"),
        (17, "Left-Hippocampus", "#dcd814"),
        (53, "Right-Hippocampus", "#dcd814"),
        (52, "Right-Pallidum", "#0d30ff"),
        (16, "Brain-Stem", "#779fb0"),
        (63, "Right-choroid-plexus", "#00c8dd"),
    ],
)
def test_names_and_colours_are_freesurfers(value: int, name: str, colour: str) -> None:
    assert (FREESURFER[value].name, FREESURFER[value].hex_colour) == (name, colour)


def test_parcels_are_cortex_but_for_the_two_that_are_not() -> None:
    np.testing.assert_array_equal(
        fold_parcels(np.array([1000, 1004, 1035, 2000, 2004, 2001, 17])), [0, 0, 3, 0, 0, 42, 17]
    )


@pytest.mark.parametrize("value", [-1, 207, 530, 20000])
def test_values_of_another_convention_are_refused_by_name(value: int) -> None:
    with pytest.raises(UserError, match=rf"brain\.mgz .*\({value}\)"):
        SCHEMES["freesurfer28"].to_classes(np.array([0, 2, value]), where="brain.mgz")
    np.testing.assert_array_equal(SCHEMES["tissue3"].to_classes(np.array([2, value]), strict=False), [1, 0])


def test_unknown_scheme() -> None:
    with pytest.raises(UserError, match="freesurfer28"):
        label_scheme("aseg")


@pytest.mark.parametrize("ids", [(2, 2), (0,), (9999,)])
def test_a_scheme_that_contradicts_itself_is_refused(ids: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="twice"):
        LabelScheme("wrong", (LabelClass("a", "a", ids),))


def test_manual_labels_reach_their_table1_group() -> None:
    scheme = SCHEMES["table1"]
    for wanted, (_, values) in enumerate(TABLE1.values(), start=1):
        ids = neuromorphometrics_to_freesurfer(np.array(values), is_left=np.array(True))
        assert set(scheme.to_classes(ids).tolist()) == {wanted}


def test_odd_gyri_are_left_and_even_ones_right() -> None:
    np.testing.assert_array_equal(neuromorphometrics_to_freesurfer(np.array([100, 101, 206, 207])), [42, 3, 42, 3])
    with pytest.raises(UserError, match="110"):
        neuromorphometrics_to_freesurfer(np.array([110]))


def test_vermis_needs_a_side() -> None:
    with pytest.raises(ValueError, match="vermis"):
        neuromorphometrics_to_freesurfer(np.array([71]))
    side = np.array([True, False, True])
    np.testing.assert_array_equal(neuromorphometrics_to_freesurfer(np.array([71, 72, 45]), side), [8, 47, 2])


@pytest.mark.parametrize("name", GRIDS)
def test_the_midline_divides_a_tilted_head(name: str) -> None:
    grid = GRIDS[name].rescaled(0.25)
    voxels = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    away = grid.points_to_world(voxels) - grid.centre_world
    to_left = np.array([-0.9, 0.3, 0.2]) / np.linalg.norm([0.9, 0.3, 0.2])  # a head that is not straight
    along = away @ to_left
    values = np.zeros(grid.shape, dtype=np.int16)
    ball = np.linalg.norm(away, axis=-1) < 0.45 * min(grid.shape * grid.zooms)
    values[ball & (along > 1)], values[ball & (along < -1)] = 39, 38
    values[ball & (np.abs(along) <= 1)] = 72
    wrong = left_of_midline(values, grid.voxel_to_world) != (along > 0)
    # The centroids are of whole voxels, so the plane may lie a little beside the true one.
    assert not (wrong & ball & (np.abs(along) > 0.2)).any()


def test_the_midline_needs_both_sides() -> None:
    with pytest.raises(ValueError, match="cerebellum"):
        left_of_midline(np.full((2, 2, 2), 39), np.eye(4))


def test_the_manual_labels_own_table(shared_data: Path) -> None:
    with (shared_data / "oasis_malf" / "labels.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    scheme = SCHEMES["table1"]
    for row in rows:
        value, text = np.array([int(row["value"])]), row["freesurfer_id"]
        got = int(neuromorphometrics_to_freesurfer(value, is_left=np.array([True]))[0])
        assert got == (8 if "midline" in text else int(text or 0)), row
        group = int(scheme.to_classes(np.array([got]))[0])
        assert (scheme.classes[group - 1].abbreviation if group else "") == row["table1"], row


def test_real_vermis_lies_between_the_hemispheres(shared_data: Path) -> None:
    from uresnet.io import read_labels

    labels = read_labels(shared_data / "oasis_malf" / "1101_labels.nii.gz")
    values = labels.data.numpy()
    left = left_of_midline(values, labels.grid.voxel_to_world)
    assert left[np.isin(values, (39, 45, 58))].mean() > 0.98
    assert left[np.isin(values, (38, 44, 57))].mean() < 0.02
    assert 0.35 < left[np.isin(values, (71, 72, 73))].mean() < 0.65


def test_real_freesurfer_labels_are_known(shared_data: Path) -> None:
    from uresnet.io import read_labels

    folder = shared_data / "freesurfer_subject" / "sub-0001" / "mri"
    aseg, parcels = (read_labels(folder / name).data.numpy() for name in ("aseg.mgz", "aparc+aseg.mgz"))
    scheme = SCHEMES["freesurfer28"]
    one, other = scheme.to_classes(aseg), scheme.to_classes(parcels)
    assert (one == other).mean() > 0.999
    assert set(np.unique(one)) == set(range(29))
