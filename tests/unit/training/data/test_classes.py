"""FreeSurfer ids become classes, and shares of classes in blocks of voxels."""

from __future__ import annotations

import torch

from uresnet.core.labels import FREESURFER, label_scheme
from uresnet.training.data.classes import class_shares, class_table, mirror_table


def test_shares_of_blocks() -> None:
    """A block of four voxels of white matter, one of cortex and three of nothing; another of nothing."""
    labels = torch.zeros((1, 1, 2, 2, 4), dtype=torch.uint8)
    labels[..., 0], labels[..., 0, 0, 1] = 2, 3
    shares = class_shares(labels, class_table(label_scheme("tissue3")), 4, 2)
    assert shares.shape == (1, 4, 1, 1, 2)
    torch.testing.assert_close(shares[0, :, 0, 0].T, torch.tensor([[3 / 8, 4 / 8, 1 / 8, 0], [1, 0, 0, 0]]))


def test_classes_of_ids() -> None:
    scheme = label_scheme("tissue3")
    labels = torch.tensor([0, 2, 41, 3, 42, 4, 43, 17, 255], dtype=torch.uint8).view(1, 1, 1, 1, 9)
    table = class_table(scheme)
    assert table[labels.long()].flatten().tolist() == [0, 1, 1, 2, 2, 3, 3, 0, 0]
    channels = class_shares(labels, table, scheme.number_of_classes)
    assert channels.shape == (1, 4, 1, 1, 9)
    assert channels.sum(dim=(0, 2, 3, 4)).tolist() == [3, 2, 2, 2]
    assert channels[0, 2, 0, 0, 3] == 1


def test_the_mirror_table_is_the_names_of_the_sides() -> None:
    table = mirror_table().tolist()
    for label in FREESURFER.values():
        partner = FREESURFER[table[label.id]].name
        swapped = label.name.replace("Left-", "*").replace("Right-", "Left-").replace("*", "Right-")
        assert partner == swapped
        assert table[table[label.id]] == label.id
