"""The compiled operations against PyTorch's operators for the same, and at coordinates that are no numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uresnet.core import ops
from uresnet.core.ops import FeatureRows, read_rows, weighted_rows
from uresnet.core.sampling import sample, sample_labels
from uresnet.solver import Level, SolverImage, SolverSettings, exponentials, residual_velocity, velocity_between
from uresnet.solver.lattice import gaussian_smoothed
from uresnet.transform import compose_displacements, integrate_velocity

Without = Callable[[], None]


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Without:
    """From when it is called, PyTorch's operators do everything."""

    def forbid() -> None:
        monkeypatch.setattr(ops, "is_plain", lambda *_: False)

    return forbid


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def smooth(*shape: int, seed: int = 0) -> Tensor:
    return gaussian_smoothed(noise(*shape, seed=seed), 2.5) * 20


def both_ways(compute: Callable[[], Tensor], without: Without) -> tuple[Tensor, Tensor]:
    compiled = compute()
    without()
    return compiled, compute()


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_reading(padding: ops.Padding, without_kernels: Without) -> None:
    volume, where = noise(2, 3, 9, 6, 7), 6 * noise(2, 3, 8, 9, 10, seed=1)
    found, expected = both_ways(lambda: sample(volume, where, padding=padding), without_kernels)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=0)


def test_rows_and_sums_of_rows(without_kernels: Without) -> None:
    table, where = noise(5 * 6 * 7, 11), 6 * noise(3, 200, seed=1)
    x, first, weights = noise(2, 3, 5, 6, 7), np.array([-2, 0, 4, 5]), np.random.default_rng(0).normal(size=(4, 3))

    def compute() -> Tensor:
        rows = [weighted_rows(x, axis, first, weights).flatten() for axis in (2, 3, 4)]
        return torch.cat([read_rows(FeatureRows(table, (5, 6, 7)), where).flatten(), *rows])

    found, expected = both_ways(compute, without_kernels)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_labels(dtype: torch.dtype, without_kernels: Without) -> None:
    labels = torch.from_numpy(np.random.default_rng(0).choice([0, 3, 17, 41], size=(6, 7, 8))).to(dtype)
    where = 5 * noise(1, 3, 9, 9, 9) + 2
    found, expected = both_ways(lambda: sample_labels(labels, where), without_kernels)
    assert found.dtype == dtype and torch.equal(found, expected)


@pytest.mark.parametrize("scale", [0.1, 5.0, 200.0])
def test_classes_and_probabilities(scale: float, without_kernels: Without) -> None:
    logits = scale * noise(50, 8, 33)
    logits[0, 0] = 1.0  # all equal: the first wins
    logits[1, :, 5] = 1e4
    classes, probabilities = ops.classify(logits)
    without_kernels()
    expected = ops.classify(logits)
    assert torch.equal(classes, expected[0]) and int(classes[0, 0]) == 0
    torch.testing.assert_close(probabilities, expected[1], atol=2e-6, rtol=0)


@pytest.mark.parametrize("shape", [(5, 3, 4), (40, 30, 20)])  # the larger in several threads, where there are
def test_common_voxels(shape: tuple[int, int, int], without_kernels: Without) -> None:
    probabilities = noise(7, *shape).softmax(dim=0)
    chosen = torch.from_numpy(np.random.default_rng(0).integers(0, 7, [2 * n for n in shape]).astype(np.uint8))
    chosen[: shape[0]] = 3  # most blocks have one class
    found, expected = both_ways(lambda: torch.stack(ops.common_voxels(chosen, probabilities)), without_kernels)
    assert found[0].tolist() == torch.bincount(chosen.flatten().long(), minlength=7).tolist()
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-6)


def test_flows_and_their_inverses(without_kernels: Without) -> None:
    velocity, residual = smooth(1, 3, 16, 20, 12), smooth(1, 3, 32, 40, 24, seed=1) / 4
    where = torch.zeros(velocity.shape[2:], dtype=torch.bool)
    where[3:13, 3:17, 3:9] = True

    def compute() -> Tensor:
        flows = [integrate_velocity(velocity), integrate_velocity(velocity, 4, where)]
        flows.append(compose_displacements(flows[0], flows[1], where))
        return torch.cat(
            [flow.flatten() for flow in (*flows, *exponentials(velocity, 2, (32, 40, 24), where, residual))]
        )

    found, expected = both_ways(compute, without_kernels)
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


def test_the_solver(without_kernels: Without) -> None:
    """Whatever is summed in another order only drifts apart slowly: two short levels and the residual velocity."""
    images = []
    middle = torch.zeros(1, 1, 16, 20, 12)
    middle[..., 4:12, 4:16, 3:9] = 1  # a brain with background all around
    for seed in (0, 1):
        logits = torch.cat([30 - 60 * middle, smooth(1, 4, 16, 20, 12, seed=seed)], dim=1)
        image = (smooth(1, 1, 32, 40, 24, seed=seed) / 8 + 0.5).clamp(0, 1) * F.interpolate(middle, scale_factor=2)
        images.append(SolverImage(logits[0].softmax(dim=0), image, torch.arange(5)))
    settings = SolverSettings((Level(4, 3), Level(2, 2)), residual=Level(1, 2))
    log = np.zeros((4, 4))
    log[0, 1], log[1, 0] = 0.1, -0.1

    def compute() -> Tensor:
        velocity = velocity_between(images[0], images[1], log, settings)
        residual = residual_velocity(images[0], images[1], log, velocity, settings)
        return torch.cat([velocity.flatten(), residual.flatten()])

    found, expected = both_ways(compute, without_kernels)
    assert float(expected.abs().max()) > 0.3
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    assert float((found - expected).abs().mean()) < 1e-3


@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_coordinates_that_are_no_numbers_read_nothing_beyond_the_volume(padding: ops.Padding) -> None:
    volume = torch.ones(1, 1, 4, 5, 6)
    for odd in (float("nan"), float("inf"), -float("inf"), 1e30, -1e30):
        where = torch.full((1, 3, 1, 1, 1), 2.0)
        where[0, 1] = odd
        value = float(sample(volume, where, padding=padding))
        assert np.isnan(value) or value in (0.0, 1.0)
        assert int(sample_labels(torch.ones(4, 5, 6, dtype=torch.uint8), where)) == 1


def test_a_lattice_one_voxel_thick_has_no_second_one_to_read() -> None:
    flat = smooth(1, 3, 1, 6, 5)
    found = compose_displacements(flat, flat)
    torch.testing.assert_close(found, compose_displacements(flat.double(), flat.double()).float(), atol=1e-5, rtol=0)


def test_threads_change_nothing() -> None:
    volume, where = noise(1, 2, 40, 41, 42), 20 * noise(1, 3, 50, 40, 30, seed=1) + 20
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(sample(volume, where))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)


def test_folds(without_kernels: Without) -> None:
    displacement = 0.5 * noise(3, 9, 8, 10)
    displacement[0, 4, 4, 4] = float("nan")
    found, expected = both_ways(lambda: ops.folds(displacement), without_kernels)
    assert torch.equal(found, expected) and 0.01 < float(expected.float().mean()) < 0.9
    slopes = [np.gradient(u) for u in displacement.double().numpy()]
    jacobian = np.eye(3) + np.moveaxis(np.array(slopes), (0, 1), (-2, -1))
    inner = (slice(1, -1),) * 3
    with np.errstate(invalid="ignore"):
        determinant = np.linalg.det(jacobian)
    assert np.array_equal(found.numpy()[inner], ~(determinant > 0)[inner])
    assert not ops.folds(torch.zeros(3, 5, 5, 5)).any()
