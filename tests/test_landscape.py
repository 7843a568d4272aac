"""Planes of the loss: exact where it is quadratic; random directions as long as the weights."""

import pytest
import torch
from torch import nn

from sciml.curvature.landscape import filter_normalised, plane
from sciml.curvature.real_view import RealView
from sciml.losses import MeanSquaredError
from sciml.tasks.part import Misfit
from tests.tiny_losses import GRID, TinyNet, dense_hessian, tiny_loss


def test_a_quadratic_loss():
    """L + g.d + d.Hd / 2 at every point d of the plane."""
    loss = tiny_loss(
        nn.Linear(6, 6).double(), lambda v, u: [Misfit(MeanSquaredError(), v, u, GRID)]
    )
    H, g = dense_hessian(loss), loss.gradient()
    a, b = torch.randn(2, 42, dtype=torch.float64)
    found = plane(loss, a, b, (2.0, 0.5), 5)
    assert found.x == [-2, -1, 0, 1, 2] and found.y == [-0.5, -0.25, 0, 0.25, 0.5]
    assert found.loss[2][2] == loss.value()
    for x, row in zip(found.x, found.loss, strict=True):
        for y, value in zip(found.y, row, strict=True):
            d = x * a + y * b
            expected = loss.value() + g @ d + d @ H @ d / 2
            assert value == pytest.approx(float(expected), rel=1e-12)


def test_values_that_are_not_finite_are_none():
    loss = tiny_loss(TinyNet())
    huge = torch.full((57,), 1e200, dtype=torch.float64)
    found = plane(loss, huge, huge, (1e200, 1.0), 3)
    assert found.loss[0][1] is None and found.loss[1][1] == loss.value()


def test_directions_have_the_lengths_of_their_filters():
    view = RealView(TinyNet())
    found = view.split(filter_normalised(view, seed=0))
    for w, d in zip(view.parts, found, strict=True):
        if w.ndim == 1:
            assert not d.any()
        else:
            torch.testing.assert_close(d.flatten(1).norm(dim=1), w.detach().flatten(1).norm(dim=1))
    again, other = (filter_normalised(view, seed=k) for k in (0, 1))
    assert torch.equal(again, view.join(found)) and not torch.equal(again, other)


def test_a_filter_of_zeros_stays():
    net = nn.Linear(3, 2)
    nn.init.zeros_(net.weight[0].detach())
    view = RealView(net)
    weight, _ = view.split(filter_normalised(view, seed=0))
    assert not weight[0].any() and weight[1].any()
