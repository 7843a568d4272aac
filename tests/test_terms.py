"""What losses and tasks say of their curvature."""

import pytest
import torch
from torch import Tensor

from sciml.gauss_newton import Term
from sciml.losses import MeanSquaredError, RelativeH1, RelativeL2
from sciml.norms import dual_norm, dual_root, root_mean_square
from sciml.tasks.part import Misfit, Missed, total
from solvers.grid import Grid
from solvers.poisson import Poisson
from tests.helpers import periodic

SHAPE = (2, 3, 5, 4)  # samples, fields, space
GRID = Grid.box((5, 4))


pytestmark = pytest.mark.usefixtures("double")


def curvature(term: Term, u: Tensor) -> Tensor:
    """J^T diag(w) J with respect to u."""
    rows = [
        torch.autograd.grad(term.residual, u, v.view_as(term.residual), retain_graph=True)[0]
        for v in torch.eye(term.residual.numel())
    ]
    J = torch.stack(rows).flatten(1)
    w = term.weight.expand_as(term.residual).reshape(-1, 1)
    return J.T @ (w * J)


def hessian(function, u: Tensor) -> Tensor:
    n = u.numel()
    return torch.autograd.functional.hessian(function, u.detach()).reshape(n, n)


def test_a_mean_of_squares_is_its_own_parabola():
    u, target = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    loss = MeanSquaredError()
    value = loss(u, target, GRID)
    assert torch.allclose(value, (u - target).square().mean((2, 3)))
    found = curvature(loss.term(u, target, GRID), u)
    assert torch.allclose(found, hessian(lambda u: loss(u, target, GRID).sum(), u))


@pytest.mark.parametrize("loss", [RelativeL2(), RelativeH1()], ids=["L2", "H1"])
def test_the_parabola_of_a_root_touches_it_and_lies_above(loss):
    u, target = torch.randn(SHAPE, requires_grad=True), torch.randn(SHAPE)
    term = loss.term(u, target, GRID)
    here = loss(u, target, GRID).detach()
    # 1/2 w r^2 + 1/2 of the value: the parabola of each sample and field
    axes = tuple(range(2, term.residual.ndim))

    def parabola(u: Tensor) -> Tensor:
        moved = loss.term(u, target, GRID).residual
        return here / 2 + (term.weight * moved.square()).sum(axes) / 2

    assert torch.allclose(parabola(u), here)
    (slope,) = torch.autograd.grad(loss(u, target, GRID).sum(), u)
    (own,) = torch.autograd.grad(parabola(u).sum(), u, retain_graph=True)
    assert torch.allclose(own, slope)
    for size in (1e-2, 1.0, 10.0):
        other = u.detach() + size * torch.randn(SHAPE)
        assert (parabola(other) >= loss(other, target, GRID) - 1e-12).all()
    # and no curvature is missing: what the loss has less of is along the error
    G, H = curvature(term, u), hessian(lambda u: loss(u, target, GRID).sum(), u)
    values = torch.linalg.eigvalsh(G - H)
    assert values[0] > -1e-10 * values[-1]
    assert int((values > 1e-10 * values[-1]).sum()) == SHAPE[0] * SHAPE[1]


def test_an_error_of_zero_has_a_finite_weight():
    u = torch.randn(SHAPE)
    weight = RelativeL2().term(u, u.clone(), GRID).weight
    assert weight.isfinite().all()
    small = RelativeL2().term(u + 1e-9, u.clone(), GRID).weight
    assert torch.allclose(weight, small)  # both below the smallest error that counts


def test_targets_that_are_zero_have_no_weight():
    u, target = torch.randn(SHAPE), torch.randn(SHAPE)
    target[1, 2] = 0
    part = Misfit(RelativeL2(), u, target, GRID, factor=2.0)
    term, errors = part.term(), RelativeL2()(u, target, GRID)
    assert term.weight[1, 2].abs().max() == 0
    defined = errors.flatten()[torch.arange(6) != 5]
    assert torch.allclose(part.value(), 2 * defined.mean())
    expected = 2 / (5 * (u - target).flatten(2).norm(dim=2) * target.flatten(2).norm(dim=2))
    kept = torch.arange(6).view(2, 3) != 5
    assert torch.allclose(term.weight.flatten(1)[kept], expected[kept])


def test_parts_add_up():
    u, target = torch.randn(SHAPE), torch.randn(SHAPE)
    one = Misfit(RelativeL2(), u, target, GRID)
    other = Missed(root_mean_square, lambda r: r, u, 0.5)
    assert torch.allclose(total([one, other]), one.value() + 0.5 * root_mean_square(u).mean())


GRIDS = {
    "periodic": periodic((8, 6), (1.0, 2.0)),
    "dirichlet": Grid.box((7, 6)),
    "cells": Grid.box((7, 6), boundary="neumann", points="cells"),
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_root_of_the_dual_norm(name):
    """(1 - Lap)^(-1/2): its root mean square is the norm, and applied twice it is the solver."""
    grid = GRIDS[name]
    r = torch.randn(2, 3, *grid.shape)
    if name == "dirichlet" and grid.axes[0].points == "nodes":
        r[..., 0, :] = r[..., -1, :] = r[..., :, 0] = r[..., :, -1] = 0
    root = dual_root(r, grid)
    assert torch.allclose(root_mean_square(root), dual_norm(r, grid))
    twice = Poisson(grid, shift=1.0).root(root.flatten(0, 1)[:, None])
    whole = Poisson(grid, shift=1.0)(r.flatten(0, 1)[:, None])
    assert torch.allclose(twice, whole)


def test_a_missed_equation_has_the_parabola_of_its_norm():
    grid = GRIDS["periodic"]
    r = torch.randn(2, 1, *grid.shape, requires_grad=True)
    part = Missed(lambda r: dual_norm(r, grid), lambda r: dual_root(r, grid), r, 3.0)
    G, H = curvature(part.term(), r), hessian(lambda r: 3 * dual_norm(r, grid).mean(), r)
    values = torch.linalg.eigvalsh(G - H)
    assert values[0] > -1e-10 * values[-1]
    assert int((values > 1e-9 * values[-1]).sum()) == 2  # one direction for each sample


def test_a_root_of_what_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="no real inverse root: raise shift"):
        Poisson(GRIDS["periodic"], shift=-1.0).root(torch.randn(1, 1, 8, 6))
