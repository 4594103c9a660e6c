"""SOAP against closed forms, and against Adam where the two differ."""

from __future__ import annotations

import torch

from uresnet.training.optimisers.soap import Soap

TARGET = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.0, 1.5, -1.0, 2.0]])


def minimise(optimiser: type[torch.optim.Optimizer], stretch: torch.Tensor, updates: int, rate: float) -> float:
    """Distance from the target after ``updates`` of the gradient of ½‖(W - TARGET) stretch‖²."""
    weight = torch.nn.Parameter(torch.zeros_like(TARGET))
    steps = optimiser([weight], lr=rate)  # type: ignore[call-arg]
    for _ in range(updates):
        steps.zero_grad()
        (0.5 * ((weight - TARGET) @ stretch).square().sum()).backward()
        steps.step()
    return float((weight.detach() - TARGET).norm())


def one_strong_direction() -> torch.Tensor:
    """All four inputs nearly alike: their sum matters a hundred times as much as any difference."""
    return torch.eye(4) + 99 * torch.full((4, 4), 0.25)


def test_the_first_update_only_looks() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 3))
    weight.grad = torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    Soap([weight], lr=1.0).step()
    assert torch.equal(weight.detach(), torch.ones(2, 3))


def test_a_rank_one_gradient_gives_a_step_of_the_rate_along_it() -> None:
    # In the eigenbasis a constant gradient u vᵀ is one number, whose Adam step has size lr whatever its scale.
    u, v = torch.tensor([0.6, 0.8]), torch.tensor([2.0, -1.0, 2.0]) / 3
    for scale in (1e-3, 1e3):
        weight = torch.nn.Parameter(torch.zeros(2, 3))
        optimiser = Soap([weight], lr=0.1)
        for _ in range(2):
            weight.grad = scale * torch.outer(u, v)
            optimiser.step()
        along = float(u @ weight.detach() @ v)
        # Momentum starts at the second update: its bias-corrected mean is the gradient itself.
        assert abs(along + 0.1) < 1e-3


def test_it_learns_weak_directions_that_adam_does_not() -> None:
    stretch = one_strong_direction()
    soap = minimise(Soap, stretch, 150, 0.05)
    adam = minimise(torch.optim.Adam, stretch, 150, 0.05)
    assert soap < 0.1 * adam


def test_a_side_that_is_too_long_keeps_its_basis() -> None:
    """With neither side turned it is Adam, whose first moving step has the rate's size in every number."""
    weight = torch.nn.Parameter(torch.zeros(2, 3))
    optimiser = Soap([weight], lr=0.1, largest=1)
    for _ in range(2):
        weight.grad = torch.tensor([[3.0, -1e-3, 5.0], [1.0, -2.0, 1e-2]])
        optimiser.step()
    torch.testing.assert_close(weight.detach(), -0.1 * weight.grad.sign(), rtol=1e-3, atol=0)
    optimiser = Soap([weight], lr=0.1, largest=2)
    optimiser.step()
    assert "left" in optimiser.state[weight]
    assert "right" not in optimiser.state[weight]


def test_biases_and_tensors_keep_their_shape() -> None:
    generator = torch.Generator().manual_seed(1)
    for shape in ((5,), (4, 3), (3, 2, 3, 3, 3)):
        weight = torch.nn.Parameter(torch.randn(shape, generator=generator))
        optimiser = Soap([weight], lr=0.01)
        for _ in range(12):  # past two refreshes of the bases
            optimiser.zero_grad()
            weight.square().sum().backward()
            optimiser.step()
        assert weight.shape == shape
        assert torch.isfinite(weight).all()
