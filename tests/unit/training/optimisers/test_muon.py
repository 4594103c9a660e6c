"""Muon against PyTorch's own, which takes matrices alone, and against the singular value decomposition."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from uresnet.training.optimisers.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(24, 216), (96, 64), (16, 16)])
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    known = values > 0.05 * values[0]  # smaller ones need more steps
    inside = torch.einsum("rk,rc,kc->k", left, orthogonalised(matrix), right)[known]
    assert inside.min() > 0.6 and inside.max() < 1.3


def test_updates_are_those_of_pytorchs_muon() -> None:
    start = torch.randn(16, 72, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings: dict[str, Any] = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9}
    one = Muon([{"params": [ours], "orthogonal": True}], **settings)
    other = torch.optim.Muon([theirs], nesterov=True, adjust_lr_fn="match_rms_adamw", **settings)
    for n in range(4):
        gradient = torch.randn(16, 72, generator=torch.Generator().manual_seed(10 + n))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    # PyTorch orthogonalises in bfloat16.
    moved = (ours - theirs).norm() / (theirs - start).norm()
    assert moved < 0.02


def test_the_other_groups_are_pytorchs_adamw() -> None:
    start = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    one = Muon([{"params": [ours]}], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    other = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for n in range(4):
        ours.grad = torch.randn(5, 3, generator=torch.Generator().manual_seed(10 + n))
        theirs.grad = ours.grad.clone()
        one.step()
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_convolution_is_the_matrix_of_its_outputs() -> None:
    weight = torch.randn(8, 4, 3, 3, 3, generator=torch.Generator().manual_seed(2))
    gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(3))
    results = []
    for shape in ((8, 4, 3, 3, 3), (8, 108)):
        parameter = torch.nn.Parameter(weight.reshape(shape).clone())
        parameter.grad = gradient.reshape(shape)
        Muon([{"params": [parameter], "orthogonal": True}], lr=0.1).step()
        results.append(parameter.detach().reshape(8, 108))
    assert torch.equal(results[0], results[1])
