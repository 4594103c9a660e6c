"""The training objective: every term by hand, on maps that are known exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from uresnet.config import LossConfig
from uresnet.core.coordinates import coarser_map
from uresnet.core.labels import label_scheme
from uresnet.model import losses
from uresnet.model.network import UResNetOutput
from uresnet.training.data.classes import class_shares, class_table
from uresnet.training.examples.blocks import NOT_JUDGED
from uresnet.training.objective import Batch, PairObjective, at_resolution, sampling_map, segmentation_terms
from uresnet.training.validation import score_pair
from uresnet.transform import GridConvention

CONVENTION = GridConvention.IDENTITY_AT_ONE
SCHEME = label_scheme("tissue3")
SHAPE = (8, 8, 12)


def batch(downsampling: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand((1, 1, *SHAPE), generator=generator) for _ in range(2)]
    ids = torch.tensor([0, 2, 3, 4, 41, 42, 43, 17], dtype=torch.uint8)
    fine = [downsampling * n for n in SHAPE]
    labels = [ids[torch.randint(0, 8, (1, 1, *fine), generator=generator)] for _ in range(2)]
    return Batch(images[0], images[1], labels[0], labels[1], downsampling)


def output(shift: float = 0.0, gradient: float = 1.0, logits: torch.Tensor | None = None) -> UResNetOutput:
    affine = torch.eye(3, 4)[None].clone()
    affine[0, 2, 3] = shift
    return UResNetOutput(torch.full((1, 3, *SHAPE), gradient), affine, logits)


def objective(**change: float | int | str) -> PairObjective:
    return PairObjective(LossConfig(**{"lcc_window": 3, **change}), SCHEME, CONVENTION, "cpu")  # type: ignore[arg-type]


def sure(labels: torch.Tensor) -> torch.Tensor:
    """Logits that are certain of the true classes."""
    return 50 * class_shares(labels, class_table(SCHEME), 4)


def test_the_identity_compares_the_images_as_they_are() -> None:
    b = batch()
    terms = objective()(output(), b)
    assert terms["mse"].item() == pytest.approx((b.moving - b.fixed).square().mean().item(), rel=1e-5)
    assert terms["lcc"].item() == pytest.approx(
        1 - losses.local_cross_correlation(b.moving, b.fixed, 3).item(), rel=1e-5
    )
    assert terms["alpha"].item() == 0
    assert terms["beta"].item() == 0
    assert "gamma" not in terms


def test_a_shift_reads_the_moving_image_further_along() -> None:
    b = batch()
    terms = objective()(output(shift=2.0), b)
    warped = torch.zeros_like(b.moving)
    warped[..., :-2] = b.moving[..., 2:]
    assert terms["mse"].item() == pytest.approx((warped - b.fixed).square().mean().item(), rel=1e-4)
    assert terms["alpha"].item() == 2


def test_gradients_off_one_cost_beta() -> None:
    assert objective()(output(gradient=0.9), batch())["beta"].item() == pytest.approx(0.1, rel=1e-4)


def test_a_perfect_segmentation_costs_nothing_and_warps_to_its_place() -> None:
    b = batch()
    same = Batch(b.moving, b.fixed, b.moving_labels, b.moving_labels)
    terms = objective()(output(logits=sure(b.moving_labels)), same)
    assert terms["gamma"].item() == pytest.approx(0, abs=1e-4)
    assert terms["delta"].item() == pytest.approx(0, abs=1e-4)
    shifted = torch.zeros_like(b.moving_labels)
    shifted[..., :-1] = b.moving_labels[..., 1:]
    moved = Batch(b.moving, b.fixed, b.moving_labels, shifted)
    terms = objective()(output(shift=1.0, logits=sure(b.moving_labels)), moved)
    assert terms["delta"].item() == pytest.approx(0, abs=1e-3)
    assert objective()(output(logits=sure(b.moving_labels)), moved)["delta"].item() > 0.3


def test_the_total_weighs_the_two_groups_as_the_paper_does() -> None:
    weights = {"w1": 0.7, "w2": 0.4, "mse": 2.0, "lcc": 0.5, "alpha": 0.3, "beta": 0.2, "gamma": 1.5, "delta": 0.6}
    weights |= {"roughness": 0.9, "warped_labels": 1.1}
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((1, 4, *SHAPE), generator=generator)
    out = UResNetOutput(2 * torch.rand((1, 3, *SHAPE), generator=generator), output(0.5).affine, logits)
    terms = objective(**weights)(out, batch())
    first = sum(weights[n] * terms[n].item() for n in ("mse", "lcc", "alpha", "beta", "roughness"))
    second = sum(weights[n] * terms[n].item() for n in ("gamma", "delta", "warped_labels"))
    assert all(terms[n].item() > 0 for n in terms)
    assert terms["total"].item() == pytest.approx(0.7 * first + 0.4 * second, rel=1e-5)


def test_terms_that_are_switched_off_are_not_computed() -> None:
    terms = objective(lcc=0.0, delta=0.0)(output(logits=sure(batch().moving_labels)), batch())
    assert set(terms) == {"mse", "alpha", "beta", "gamma", "total"}


def test_warped_true_labels() -> None:
    b = batch()
    shifted = torch.zeros_like(b.moving_labels)
    shifted[..., :-1] = b.moving_labels[..., 1:]
    moved = Batch(b.moving, b.fixed, b.moving_labels, shifted)
    settings: dict[str, Any] = {"warped_labels": 1.0, "warped_label_scheme": "tissue3"}
    assert objective(**settings)(output(shift=1.0), moved)["warped_labels"].item() == pytest.approx(0, abs=1e-4)
    assert objective(**settings)(output(), moved)["warped_labels"].item() > 0.3


def test_blocks_see_means_of_blocks() -> None:
    b = batch()
    terms = objective(downsampling=2)(output(shift=2.0), b)
    moving, fixed = (torch.nn.functional.avg_pool3d(x, 2) for x in (b.moving, b.fixed))
    warped = torch.zeros_like(moving)
    warped[..., :-1] = moving[..., 1:]  # two voxels are one block
    assert terms["mse"].item() == pytest.approx((warped - fixed).square().mean().item(), rel=1e-4)


def test_images_that_are_blocks_already_are_not_averaged_again() -> None:
    fine, coarse = objective(), objective(downsampling=2)
    b = batch(downsampling=2)
    assert coarse(output(1.0), b)["mse"].item() == fine(output(1.0), b)["mse"].item()


def test_the_target_of_blocks_is_the_share_of_every_class() -> None:
    """Probabilities that equal the shares cost nothing; certainty of the largest share does."""
    b = batch(downsampling=2)
    shares = class_shares(b.moving_labels, class_table(SCHEME), 4, 2)
    exact = objective()(
        output(logits=shares.clamp_min(1e-9).log()), Batch(b.moving, b.moving, b.moving_labels, b.moving_labels, 2)
    )
    assert exact["gamma"].item() == pytest.approx(0, abs=1e-4)
    assert exact["delta"].item() == pytest.approx(0, abs=1e-4)
    certain = 50 * torch.nn.functional.one_hot(shares.argmax(1), 4).permute(0, 4, 1, 2, 3).float()
    assert objective()(output(logits=certain), b)["gamma"].item() > 0.1


def test_warped_labels_of_blocks_follow_a_shift_of_whole_blocks() -> None:
    b = batch(downsampling=2)
    shifted = torch.zeros_like(b.moving_labels)
    shifted[..., :-2] = b.moving_labels[..., 2:]
    moved = Batch(b.moving, b.fixed, b.moving_labels, shifted, 2)
    settings: dict[str, Any] = {"warped_labels": 1.0, "warped_label_scheme": "tissue3"}
    assert objective(**settings)(output(shift=1.0), moved)["warped_labels"].item() == pytest.approx(0, abs=1e-4)
    assert objective(**settings)(output(), moved)["warped_labels"].item() > 0.1
    assert score_pair(output(shift=1.0), moved, SCHEME, CONVENTION).registration == pytest.approx(1)


def test_a_map_between_blocks_keeps_centres() -> None:
    """Block n is centred at voxel 2n + 1/2: the identity stays the identity, and a shift is half as many blocks."""
    still = coarser_map(sampling_map(output(), CONVENTION), 2)[0]
    moved = coarser_map(sampling_map(output(shift=3.0), CONVENTION), 2)[0]
    axes = torch.meshgrid(*(torch.arange(n / 2) for n in SHAPE), indexing="ij")
    torch.testing.assert_close(still, torch.stack(axes))
    torch.testing.assert_close(moved[2], axes[2] + 1.5)
    torch.testing.assert_close(moved[:2], still[:2])


def test_only_the_translation_depends_on_the_resolution() -> None:
    out = UResNetOutput(torch.ones(1, 3, 2, 2, 2), torch.arange(12.0).view(1, 3, 4), None)
    coarse = at_resolution(out, 4)
    torch.testing.assert_close(coarse.affine[0, :, 3], out.affine[0, :, 3] / 4)
    assert torch.equal(coarse.affine[..., :3], out.affine[..., :3])
    assert at_resolution(out, 1) is out


def test_the_score_of_a_known_pair() -> None:
    """Fixed labels are the moving ones one voxel along: the right shift scores 1, a fold is counted."""
    b = batch()
    fixed = torch.zeros_like(b.moving_labels)
    fixed[..., :-1] = b.moving_labels[..., 1:]
    pair = Batch(b.moving, b.fixed, b.moving_labels, fixed)
    right = score_pair(output(shift=1.0, logits=sure(b.moving_labels)), pair, SCHEME, CONVENTION)
    assert right.registration == pytest.approx(1)
    assert right.segmentation == pytest.approx((1, 1, 1))
    assert right.folding == 0
    assert score_pair(output(), pair, SCHEME, CONVENTION).registration < 0.5
    mirrored = UResNetOutput(torch.ones(1, 3, *SHAPE), torch.eye(3, 4)[None] * torch.tensor([[[-1.0], [1], [1]]]), None)
    assert score_pair(mirrored, pair, SCHEME, CONVENTION).folding == 1
    assert score_pair(mirrored, pair, SCHEME, CONVENTION).segmentation == ()


# -- the segmenter's --------------------------------------------------------------------------------------------------


def test_terms_of_classes_by_hand() -> None:
    """Two voxels, three classes; probabilities 1/2, 1/4, 1/4 and 1/4, 1/4, 1/2; truth 1 and 2; a third is unknown."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5], [1.0, 1.0, 1.0]]))
    terms = segmentation_terms(logits, torch.tensor([1, 2, NOT_JUDGED]))
    entropy = (np.log(4) + np.log(2)) / 2
    dice = (2 * 0.25 / (0.5 + 1) + 2 * 0.5 / (0.75 + 1)) / 2
    assert float(terms["cross_entropy"]) == pytest.approx(entropy, rel=1e-6)
    assert float(terms["dice"]) == pytest.approx(1 - dice, rel=1e-6)
    assert float(terms["total"]) == pytest.approx(entropy + 1 - dice, rel=1e-6)


def test_nothing_known_is_no_loss() -> None:
    logits = torch.randn(4, 3, requires_grad=True)
    total = segmentation_terms(logits, torch.full((4,), NOT_JUDGED))["total"]
    total.backward()
    assert float(total.detach()) == 0 and logits.grad is not None and not logits.grad.any()
