"""Largest stable learning rates, found by stepping."""

import numpy as np
import pytest
import torch
from torch import nn

from sciml.curvature.spectrum import largest
from sciml.curvature.stability import adam_scaling, descent_limit
from tests.tiny_losses import TinyNet, dense_hessian, tiny_loss


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_steps_shrink_below_the_limit_and_grow_above(momentum):
    """On x^2 with eigenvalue 3 and an averaged gradient for a step, as Adam has it."""

    def size_after(rate: float) -> float:
        x, m = 1.0, 0.0
        for _ in range(2000):
            m = momentum * m + (1 - momentum) * 3 * x
            x -= rate * m
        return abs(x)

    limit = descent_limit(3.0, momentum)
    assert size_after(0.98 * limit) < 1e-2 and size_after(1.02 * limit) > 1e2
    assert descent_limit(1.0) == 2 and descent_limit(1.0, 0.9) == pytest.approx(38)


def test_adam_s_preconditioner():
    """Of a checkpointed AdamW: its own step with no momentum is lr g / P, of complex weights too;
    and the eigenvalues are those of P^(-1) H.
    """
    net = TinyNet()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, betas=(0.0, 0.9), weight_decay=0)
    loss = tiny_loss(net)

    def step():
        gradients = loss.view.split(tiny_loss(net).gradient())
        for p, g in zip(net.parameters(), gradients, strict=True):
            p.grad = torch.view_as_complex(g) if p.is_complex() else g
        optimizer.step()

    for _ in range(3):
        step()
    before, gradient = tiny_loss(net).view.theta(), tiny_loss(net).gradient()
    step()
    moved = tiny_loss(net)
    found = adam_scaling(optimizer.state_dict(), net.parameters())
    assert (found.rate, found.beta) == (0.1, 0.0)
    torch.testing.assert_close(before - moved.view.theta(), 0.1 * gradient / found.diagonal)
    value = largest(found.applied(moved.hessian()), 1, tolerance=1e-9).values[0]
    dense = np.linalg.eigvals((dense_hessian(moved) / found.diagonal[:, None]).numpy())
    assert value == pytest.approx(dense.real.max(), rel=1e-8)


def test_without_moments_there_is_none():
    """Frozen weights have none and need none; one that was never stepped does."""
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = torch.optim.Adam(net.parameters())
    assert adam_scaling(optimizer.state_dict(), net.parameters()) is None
    net[0].requires_grad_(False)
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    found = adam_scaling(optimizer.state_dict(), net.parameters())
    assert found.diagonal.shape == (3,)
    assert descent_limit(float(found.diagonal.max())) > 0
