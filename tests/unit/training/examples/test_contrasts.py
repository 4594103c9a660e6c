"""The brightness of tissues: the order of each family, partial volumes, and curves through images."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from uresnet.core.coordinates import identity_coordinates
from uresnet.core.labels import FREESURFER, mirrored_id
from uresnet.training.examples.contrasts import (
    FAMILIES,
    Family,
    Tissues,
    along_lines,
    any_table,
    bent,
    draw_tissues,
    grained,
    grey_table,
    mean_tissues,
    painted,
    remapped,
)

ORDER = {
    "T1": ("fluid", "grey", "white"),
    "T2": ("white", "grey", "fluid"),
    "FLAIR": ("fluid", "white", "grey"),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("family", FAMILIES)
def test_tissues_and_structures_have_the_order_of_their_family(family: Family) -> None:
    rng = generator(1)
    for _ in range(50):
        tissues = draw_tissues(family, rng)
        table = grey_table(tissues, 0.2, rng)
        of = {"white": float(table[2]), "grey": float(table[3]), "fluid": float(table[4])}
        for values in (vars(tissues), of):
            if family == "PD":
                assert values["white"] < values["grey"] and values["white"] < values["fluid"]
            else:
                assert all(values[low] < values[high] for low, high in pairwise(ORDER[family]))
        assert all(0 <= value <= 1 for value in vars(tissues).values())


def test_both_sides_are_alike_and_what_is_no_brain_is_dark() -> None:
    for table in (grey_table(draw_tissues("FLAIR", generator()), 0.4, generator()), any_table(generator(5))):
        known = [i for i in FREESURFER if i < 256]
        assert all(table[i] == table[mirrored_id(i)] for i in known)
        assert table[0] == 0 and float(table[[2, 3, 4]].min()) > 0 and float(table.max()) <= 1


def test_a_voxel_across_a_border_is_the_mean_of_its_parts() -> None:
    """White matter up to 3.5 voxels, fluid beyond: read half a voxel further, the voxel across holds half of each."""
    volume = torch.full((1, 1, 8, 8, 8), 2, dtype=torch.uint8)
    volume[:, :, 4:] = 4
    table = torch.zeros(256)
    table[2], table[4] = 0.8, 0.2
    x = identity_coordinates((8, 8, 8))
    whole = painted(volume, x, table)
    assert whole[0, 0, :, 4, 4].tolist() == pytest.approx([0.8] * 4 + [0.2] * 4)
    moved = painted(volume, x + torch.tensor([0.5, 0, 0]).view(1, 3, 1, 1, 1), table)
    assert moved[0, 0, 1:6, 4, 4].tolist() == pytest.approx([0.8, 0.8, 0.5, 0.2, 0.2])


def test_a_curve_of_lines_is_what_numbers_by_hand_say() -> None:
    x = torch.tensor([-1.0, 0.0, 0.25, 0.5, 0.75, 1.0, 2.0])
    found = along_lines(x, [(0.0, 0.2), (0.5, 1.0), (1.0, 0.0)])
    assert found.tolist() == pytest.approx([0.2, 0.2, 0.6, 1.0, 0.5, 0.0, 0.0])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_remapped_scan_has_the_wanted_tissues(family: Family) -> None:
    labels = torch.tensor([2, 3, 4, 0], dtype=torch.uint8).repeat_interleave(64).reshape(1, 1, 16, 4, 4)
    image = torch.tensor([0.9, 0.6, 0.2, 0.0]).repeat_interleave(64).reshape(1, 1, 16, 4, 4)
    tissues = mean_tissues(image, labels, torch.zeros(256))
    assert vars(tissues) == pytest.approx({"white": 0.9, "grey": 0.6, "fluid": 0.2}, abs=1e-6)
    wanted = draw_tissues(family, generator(3))
    found = remapped(image, tissues, wanted, generator())
    assert vars(mean_tissues(found, labels, torch.zeros(256))) == pytest.approx(vars(wanted), abs=1e-5)
    assert float(found[labels == 0].abs().max()) == 0


def test_hardly_any_voxels_of_a_tissue_are_not_believed() -> None:
    labels = torch.full((1, 1, 4, 4, 4), 2, dtype=torch.uint8)
    labels[0, 0, 0, 0, 0] = 4
    table = torch.linspace(0, 1, 256)
    found = mean_tissues(torch.full(labels.shape, 0.5), labels, table)
    assert found == Tissues(0.5, float(table[3]), float(table[4]))


def test_background_stays_background_and_grain_has_no_mean() -> None:
    labels = torch.zeros((1, 1, 24, 24, 24), dtype=torch.uint8)
    labels[..., 4:20, 4:20, 4:20] = 3
    image = torch.where(labels > 0, 0.5, 0.0)
    found = grained(image, labels, 0.1, generator())
    inside = found[labels > 0]
    assert float(found[labels == 0].abs().max()) == 0 and 0 < float(inside.std()) < 0.15
    assert abs(float(inside.mean()) - 0.5) < 0.03
    curved = bent(found, generator(2))
    assert float(curved[labels == 0].abs().max()) == 0 and float(curved[labels > 0].min()) > 0
