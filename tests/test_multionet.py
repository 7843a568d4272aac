"""MultiONet: a product at every layer, nothing at first, the counts of the public code."""

import math
from functools import partial

import pytest
import torch
from torch.nn.functional import silu

from sciml.layers import ConvolutionBranch, PerceptronBranch
from sciml.models import MultiONet
from solvers.grid import Axis, Grid

MIXED = Grid((Axis("x", 8, 0.0, 2.0, ("periodic", "periodic"), "left"), Axis("y", 7)))


def count(module):
    return sum(p.numel() for p in module.parameters())


def small(outs=2, depth=3, grid=MIXED, **settings):
    torch.manual_seed(0)
    return MultiONet(2, outs, grid.ndim, grid=grid, width=6, depth=depth, **settings).double()


def fields(grid=MIXED, samples=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, 2, *grid.shape, generator=generator, dtype=torch.float64)


def test_zero_at_first_but_not_for_long():
    model, a = small(), fields()
    assert (model(a) == 0).all()
    (model(a) - 1).square().sum().backward()
    assert (model.weight.grad != 0).all() and (model.bias.grad != 0).all()
    with torch.no_grad():
        model.weight -= 1e-3 * model.weight.grad
    model.zero_grad()
    (model(a) - 1).square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())


def test_a_sum_over_layers():
    """Layer by layer, channel by channel."""
    model, a = small(), fields()
    model.weight.data = torch.randn(2, 3, dtype=torch.float64)
    model.bias.data = torch.tensor([0.5, -1.0], dtype=torch.float64)

    def f(v):
        return silu(v) + v

    def g(v):
        return silu(torch.sin(math.pi * (v + 1))) + v

    points = MIXED.mesh().flatten(1).T
    b, x = f(model.branch(a, MIXED)), g(model.entry(model.coordinates(points)))
    u = torch.zeros(3, 2, len(points), dtype=torch.float64)
    for layer in range(3):
        b, x = f(model.branch_layers[layer](b)), g(model.trunk_layers[layer](x))
        u += model.weight[:, layer, None] * (b @ x.T)[:, None]
    u = u / 3 + model.bias[:, None]
    torch.testing.assert_close(model(a).flatten(2), u)
    own = points[:5].expand(3, -1, -1)
    torch.testing.assert_close(model.at(a, own), u[..., :5])


def test_the_counts_of_the_public_code():
    """Its printed 115,846 and 422,536 have a bias for each layer, here there is one for all."""
    burgers = Grid.box((128,))
    model = MultiONet(1, 1, 1, grid=burgers, width=128, depth=3)
    layers = 128 * 129 + 2 * 128 + 2 * 3 * 128 * 129
    assert count(model) == layers + 3 + 1 == 115_844 == 115_846 - (3 - 1)
    darcy = Grid.box((29, 29), points="nodes")
    branch = partial(ConvolutionBranch, channels=(32, 64, 128), widths=(128,))
    model = MultiONet(1, 1, 2, grid=darcy, width=128, depth=4, branch=branch)
    assert count(model) == 422_533 == 422_536 - (4 - 1)


def test_the_rank_is_that_of_all_layers():
    model = small(1, depth=2)
    model.weight.data += 1
    u = model(fields(samples=40)).flatten(1)
    assert 6 < torch.linalg.matrix_rank(u + 1) <= 12 + 1


def test_periodic_functions_close():
    model, a = small(), fields()
    model.weight.data += 1
    ends = torch.tensor([[0.0, 0.3], [2.0, 0.3]], dtype=torch.float64)
    left, right = model.at(a, ends).unbind(-1)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-12)


def test_derivatives_by_position():
    model, a = small(), fields()
    model.weight.data += 1
    points = torch.rand(5, 2, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(model.at(a, points).sum(), points)
    step = torch.tensor([0.0, 1e-5], dtype=torch.float64)
    difference = (model.at(a, points + step) - model.at(a, points - step)).sum((0, 1)) / 2e-5
    torch.testing.assert_close(slope[:, 1], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("settings", [{"width": 0}, {"depth": 0}], ids=str)
def test_refusals(settings):
    with pytest.raises(ValueError, match="must be at least 1"):
        MultiONet(1, 1, 2, grid=MIXED, branch=partial(PerceptronBranch, widths=()), **settings)
