"""What is painted into healthy people, and the table of what was found."""

from __future__ import annotations

import pytest
import torch

from painted_lesions import KINDS, Found, Person, painted, table
from uresnet.core.grid import Grid
from uresnet.core.image import Image
from uresnet.training.examples.contrasts import Family

SHAPE = (64, 64, 64)


@pytest.fixture(scope="module")
def person() -> Person:
    """A ball: fluid in the middle, then white matter, then cortex."""
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in SHAPE), indexing="ij")
    away = torch.stack(axes).norm(dim=0)
    labels, t1 = torch.zeros(SHAPE, dtype=torch.uint8), torch.zeros(SHAPE)
    for radius, label, value in ((28, 3, 0.5), (24, 2, 0.9), (6, 4, 0.1)):
        labels[away < radius], t1[away < radius] = label, value
    grid = Grid.centred(SHAPE, (1, 1, 1), ("R", "A", "S"), (0, 0, 0))
    return Person("ball", Image(t1, grid), t1[None, None], labels[None, None])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("contrast", ["T1", "T2", "FLAIR"])
def test_abnormal_tissue_has_the_brightness_of_its_contrast(person: Person, kind: str, contrast: Family) -> None:
    masks = [torch.ones((12, 14, 16))]
    image, whole = painted(person, kind, contrast, masks, 3)
    again = painted(person, kind, contrast, masks, 3)
    assert torch.equal(image.data, again[0].data) and torch.equal(whole, again[1])
    labels = person.labels[0, 0]
    assert 200 < int(whole.sum()) < int((labels > 0).sum()) / 2 and not (whole & (labels == 0)).any()
    assert float(image.data[labels == 0].max()) == 0
    sick, white = float(image.data[whole].median()), float(image.data[(labels == 2) & ~whole].median())
    assert sick < white - 0.05 if contrast == "T1" else sick > white + 0.02


def test_the_table_has_means_and_counts_what_was_missed() -> None:
    found = [
        Found("a", 0, "stroke", "T1", 10.0, 8.0, 0.75),
        Found("b", 0, "stroke", "T1", 20.0, 0.0, 0.05),
        Found("a", 1, "mass", "T2", 5.0, 6.0, 0.5),
    ]
    assert table(found).splitlines()[2:] == [
        "| stroke | T1 | 2 | 15.0 | 4.0 | 0.40 | 1 |",
        "| mass | T2 | 1 | 5.0 | 6.0 | 0.50 | 0 |",
    ]
