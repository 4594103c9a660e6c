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
from uresnet.training.data.classes import abnormal_table, class_shares, class_table
from uresnet.training.examples.blocks import NOT_JUDGED
from uresnet.training.objective import (
    Batch,
    PairObjective,
    at_resolution,
    healthy_share,
    sampling_map,
    segmentation_terms,
)
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


# -- abnormal tissue --------------------------------------------------------------------------------------------------

WITH_ABNORMAL = label_scheme("tissue3_abnormal")


def with_tissue(labels: torch.Tensor, ids: tuple[int, ...], first: int) -> torch.Tensor:
    """Labels with abnormal tissue in three planes from ``first`` on along the last axis."""
    painted = labels.clone()
    for n, number in enumerate(ids):
        painted[..., first + n] = number
    return painted


def abnormal_terms(b: Batch, shift: float = 0.0, scheme: str = "tissue3_abnormal", **change: float) -> dict[str, Any]:
    settings: dict[str, Any] = {"lcc_window": 3, "warped_labels": 1.0, **change}
    found = PairObjective(LossConfig(**settings), label_scheme(scheme), CONVENTION, "cpu")
    classes = label_scheme(scheme).number_of_classes
    logits = 50 * class_shares(b.moving_labels, class_table(label_scheme(scheme)), classes)
    return found(output(shift=shift, logits=logits), b)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_nothing_is_compared_where_either_image_is_abnormal(shift: float) -> None:
    """Moving planes 6 to 8 come to lie ``shift`` planes earlier. What the fixed image holds there, and in its own
    abnormal tissue, changes no term that compares warped with fixed; elsewhere it does."""
    b = batch()
    moving = with_tissue(b.moving_labels, (25, 57, 77), 6)
    fixed = with_tissue(b.fixed_labels, (77, 77, 25), 0)
    left_out = [0, 1, 2, *(n - int(shift) for n in (6, 7, 8))]
    terms = abnormal_terms(Batch(b.moving, b.fixed, moving, fixed), shift)
    other, other_labels = b.fixed.clone(), fixed.clone()
    other[..., left_out] = 0.5
    other_labels[..., [n for n in left_out if n > 2]] = 17
    same = abnormal_terms(Batch(b.moving, other, moving, other_labels), shift)
    # The window of the correlation of a voxel outside reaches inside, where nothing counts.
    for name in ("mse", "lcc", "delta", "warped_labels", "gamma"):
        assert same[name].item() == pytest.approx(terms[name].item(), rel=1e-4, abs=1e-6), name
    other[..., 10] = 0.5
    other_labels[..., 10] = 17
    differs = abnormal_terms(Batch(b.moving, other, moving, other_labels), shift)
    for name in ("mse", "lcc", "delta", "warped_labels"):
        assert abs(differs[name].item() - terms[name].item()) > 1e-3, name


def test_a_scheme_without_abnormal_tissue_compares_everything() -> None:
    b = batch()
    painted = Batch(b.moving, b.fixed, with_tissue(b.moving_labels, (25, 57, 77), 6), b.fixed_labels)
    terms = abnormal_terms(painted, scheme="tissue3")
    assert terms["mse"].item() == pytest.approx((b.moving - b.fixed).square().mean().item(), rel=1e-5)


def test_the_segmentation_learns_the_abnormal_class() -> None:
    b = batch()
    painted = Batch(b.moving, b.fixed, with_tissue(b.moving_labels, (25, 57, 77), 6), b.fixed_labels)
    assert abnormal_terms(painted)["gamma"].item() == pytest.approx(0, abs=1e-4)
    blind = 50 * class_shares(b.moving_labels, class_table(WITH_ABNORMAL), 5)  # sees what was there before
    found = PairObjective(LossConfig(lcc_window=3), WITH_ABNORMAL, CONVENTION, "cpu")(output(logits=blind), painted)
    assert found["gamma"].item() > 0.25


def test_no_map_is_rewarded_for_hiding_what_does_not_match() -> None:
    """The share of healthy tissue has no gradient."""
    b = batch()
    painted = Batch(b.moving, b.fixed, with_tissue(b.moving_labels, (25, 57, 77), 6), b.fixed_labels)
    coordinates = sampling_map(output(), CONVENTION).requires_grad_()
    share = healthy_share(painted, coordinates, abnormal_table(WITH_ABNORMAL), 1)
    assert share is not None and not share.requires_grad
    expected = torch.ones(SHAPE)
    expected[..., 6:9] = 0
    assert torch.equal(share[0, 0], expected)


def test_the_score_leaves_abnormal_tissue_out() -> None:
    b = batch()
    moving = with_tissue(b.moving_labels, (25, 57, 77), 6)
    pair = Batch(b.moving, b.moving, moving, b.moving_labels)
    out = output(logits=50 * class_shares(moving, class_table(WITH_ABNORMAL), 5))
    score = score_pair(out, pair, WITH_ABNORMAL, CONVENTION)
    assert score.registration == pytest.approx(1)
    assert score.segmentation == pytest.approx((1, 1, 1, 1))
    assert score_pair(output(logits=sure(moving)), pair, SCHEME, CONVENTION).registration < 0.95


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
