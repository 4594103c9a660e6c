"""Pictures of validation pairs: they hang right, say what they show, and are kept whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from small_training import SMALL, config, trainer
from uresnet.core.labels import SCHEMES
from uresnet.core.training_files import SAMPLES, VALIDATIONS
from uresnet.model.network import UResNet
from uresnet.report.pages.training import read_samples
from uresnet.training.events import Event
from uresnet.training.log import Logbook
from uresnet.training.objective import Batch
from uresnet.training.samples import PAIRS, in_colour, sample_pair
from uresnet.training.validation import Validation
from uresnet.transform import GridConvention

SHAPE = (16, 12, 20)  # left, inferior, anterior
TISSUE3 = SCHEMES["tissue3"]


def test_left_is_on_the_right_the_nose_is_up_or_left() -> None:
    """A bright voxel to the left, above and in front of the middle; the network starts as the identity."""
    image = torch.full((1, 1, *SHAPE), 0.2)
    image[0, 0, 8 + 5, 6 - 3, 10 + 7] = 1.0
    image[0, 0, 8 + 5, :, 10 + 7] = 1.0  # through all slices, so that the middle ones hold it
    labels = torch.zeros((1, 1, *SHAPE), dtype=torch.uint8)
    labels[0, 0, 2:14, 2:10, 2:18] = 41
    batch = Batch(image, image, labels, labels)
    output = UResNet(SMALL).eval()(image, image)
    seen = sample_pair(output, batch, TISSUE3, GridConvention.IDENTITY_AT_ONE, ("L", "I", "A"))
    assert {picture.shape for picture in seen.images.values()} == {(20, 16 + 16 + 20)}
    axial = seen.images["fixed"][:, :16]
    assert np.argwhere(axial == 255).tolist() == [[19 - 17, 13]]  # rows go to the back, columns to the left
    assert np.array_equal(seen.images["warped"], seen.images["fixed"])
    assert set(np.unique(seen.labels["fixed"])) == {0, 2}  # 41 belongs to the class that files call 2
    assert np.array_equal(seen.labels["warped"], seen.labels["fixed"])


def test_the_nose_is_on_the_left_of_side_views() -> None:
    image = torch.full((1, 1, *SHAPE), 0.2)
    image[0, 0, :, 3, 17] = 1.0
    batch = Batch(image, image, torch.zeros((1, 1, *SHAPE), dtype=torch.uint8), torch.zeros((1, 1, *SHAPE)).byte())
    output = UResNet(SMALL).eval()(image, image)
    seen = sample_pair(output, batch, TISSUE3, GridConvention.IDENTITY_AT_ONE, ("L", "I", "A"))
    sagittal = seen.images["fixed"][:12, 32:]
    assert np.argwhere(sagittal == 255).tolist() == [[3, 19 - 17]]
    # The same voxels under other axes: what was the first voxel is the last.
    flipped = sample_pair(output, batch, TISSUE3, GridConvention.IDENTITY_AT_ONE, ("L", "S", "P"))
    assert np.argwhere(flipped.images["fixed"][:12, 32:] == 255).tolist() == [[11 - 3, 17]]


def test_a_training_keeps_the_pairs_of_its_last_validation(tmp_path: Path) -> None:
    events: list[Event] = []
    small = trainer(config(epochs=1), tmp_path, events)
    small.run()
    logbook = Logbook(tmp_path, small.scheme)
    validation = next(event for event in events if isinstance(event, Validation))
    assert len(validation.samples) == PAIRS
    logbook(validation)
    found = read_samples(tmp_path / SAMPLES)
    assert found is not None
    assert (found.step, len(found.pairs), [len(pair) for pair in found.pairs]) == (validation.step, 2, [3, 3])
    assert found.pairs[0][1].outlines.keys() == {2, 3, 4}
    assert len((tmp_path / VALIDATIONS).read_text(encoding="utf-8").splitlines()) == 2
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_damaged_file_of_pictures_is_left_out(tmp_path: Path) -> None:
    (tmp_path / SAMPLES).write_bytes(b"PK\x03\x04 no more")
    assert read_samples(tmp_path / SAMPLES) is None
    assert read_samples(tmp_path / "none.npz") is None


def test_tensorboard_gets_the_pictures_with_edges_in_colour(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events: list[Event] = []
    small = trainer(config(epochs=1), tmp_path, events)
    small.run()
    logbook = Logbook(tmp_path, small.scheme, tensorboard=True)
    validation = next(event for event in events if isinstance(event, Validation))
    logbook(validation)
    logbook.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert len(board.Tags()["images"]) == PAIRS
    assert "validation/registration_dice" in board.Tags()["scalars"]
    picture = in_colour(validation.samples[0])
    rows, columns = validation.samples[0].images["fixed"].shape
    assert picture.shape == (3, 3 * rows, columns)
    colours = {tuple(pixel) for pixel in picture[:, rows : 2 * rows].reshape(3, -1).T.tolist()}
    assert {structure.colour for structure in TISSUE3.classes} <= colours
