"""Relative losses against closed forms, and where they must not fail."""

import math

import pytest
import torch

from sciml.losses import RelativeH1, RelativeL2
from solvers.grid import Axis, Grid

LOSSES = [RelativeL2(), RelativeH1()]


def named(loss) -> str:
    return type(loss).__name__


def line(size: int, boundary: str = "open", points: str = "nodes") -> Grid:
    return Grid((Axis("x", size, 0.0, 1.0, (boundary, boundary), points),))


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_a_multiple_of_the_target_has_the_error_of_the_factor(loss):
    grid = Grid.box((6, 5))
    target = torch.randn(3, 2, 6, 5, dtype=torch.float64)
    factor = torch.tensor([[1.0, 0.5], [2.0, 0.9], [-1.0, 0.0]], dtype=torch.float64)
    found = loss(factor[..., None, None] * target, target, grid)
    torch.testing.assert_close(found, (factor - 1).abs())


@pytest.mark.parametrize("size", [8, 9, 64])
def test_l2_of_sines_is_exact_on_any_grid(size):
    grid = line(size, "periodic", "left")
    (x,) = grid.mesh()
    target, error = (2 * math.pi * x).sin(), 0.3 * (4 * math.pi * x).cos()
    found = RelativeL2()((target + error)[None, None], target[None, None], grid)
    assert found.item() == pytest.approx(0.3, rel=1e-12)


def h1_error_of_a_line(size: int, grid: Grid) -> float:
    """Of the truth x with the error 0.1 sin(pi x), as if the points were those of `grid`."""
    x = line(size).mesh()[0]
    target, error = x, 0.1 * (math.pi * x).sin()
    return RelativeH1()((target + error)[None, None], target[None, None], grid).item()


def exact_h1_error() -> float:
    """||0.1 sin(pi x)||_H1 / ||x||_H1 on [0, 1] = 0.1 sqrt((1 + pi^2) / 2) / sqrt(1/3 + 1)."""
    return 0.1 * math.sqrt((1 + math.pi**2) / 2) / math.sqrt(4 / 3)


def test_h1_is_right_at_walls():
    errors = [abs(h1_error_of_a_line(n, line(n)) - exact_h1_error()) for n in (50, 100, 200)]
    assert errors[2] < 5e-3 * exact_h1_error()
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.3)  # the quadrature is a plain mean


def test_a_periodic_h1_at_walls_is_wrong_and_gets_no_better():
    """The control: x jumps from 1 to 0 around the corner, the more steeply the finer the grid."""
    found = [h1_error_of_a_line(n, line(n, "periodic", "left")) for n in (50, 100, 200)]
    assert all(abs(error - exact_h1_error()) > 0.5 * exact_h1_error() for error in found)
    assert abs(found[2] - exact_h1_error()) > abs(found[0] - exact_h1_error())


def test_h1_weighs_fine_errors_more():
    grid = line(64, "periodic", "left")
    (x,) = grid.mesh()
    target = (2 * math.pi * x).sin()
    coarse, fine = (target + 0.1 * (2 * math.pi * k * x).cos() for k in (1, 8))
    l2, h1 = (
        [loss(u[None, None], target[None, None], grid).item() for u in (coarse, fine)]
        for loss in LOSSES
    )
    assert l2[0] == pytest.approx(l2[1], rel=1e-12)
    assert h1[1] > 5 * h1[0]


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_other_shapes_are_refused(loss):
    target = torch.randn(4, 1, 6, 6)
    for shape in [(4, 6, 6), (1, 1, 6, 6), (4, 1, 6, 1), (4, 2, 6, 6)]:
        with pytest.raises(
            ValueError, match=r"prediction .* and target \(4, 1, 6, 6\) differ in shape"
        ):
            loss(torch.zeros(shape), target, Grid.box((6, 6)))
    assert (torch.zeros(4, 6, 6) - target).shape == (4, 4, 6, 6)  # the control: it would broadcast


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_a_zero_target_gives_no_nan(loss):
    grid, target = Grid.box((5, 5)), torch.zeros(2, 1, 5, 5)
    assert loss(target, target, grid).tolist() == [[0.0], [0.0]]
    off = loss(target + 1, target, grid)
    assert off.isfinite().all()
    assert (off > 1e6).all()
    assert (torch.zeros(1) / target.flatten(2).norm(dim=2)).isnan().all()  # the control


@pytest.mark.parametrize("loss", LOSSES, ids=named)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_gradient_at_zero_error_is_finite(loss, dtype):
    target = torch.randn(2, 1, 5, 5, dtype=dtype)
    prediction = target.clone().requires_grad_()
    loss(prediction, target, Grid.box((5, 5))).sum().backward()
    assert prediction.grad.tolist() == torch.zeros_like(target).tolist()
    naive = target.clone().requires_grad_()
    (naive - target).square().sum().sqrt().backward()
    assert naive.grad.isnan().all()  # the control: the root of a sum of squares


@pytest.mark.parametrize("loss", LOSSES, ids=named)
def test_gradient(loss):
    target = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    prediction = torch.randn_like(target).requires_grad_()
    assert torch.autograd.gradcheck(lambda u: loss(u, target, Grid.box((4, 3))), prediction)


def test_agreement_with_neuralop_on_one_channel():
    from neuralop.losses import LpLoss

    prediction, target = torch.randn(2, 5, 1, 8, 8, dtype=torch.float64)
    theirs = LpLoss(d=2, p=2, reduction="sum", eps=0)(prediction, target)
    ours = RelativeL2()(prediction, target, Grid.box((8, 8))).sum()
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)


def test_fields_are_not_mixed():
    """A small field counts as much as a large one; one norm over all channels would hide it."""
    grid, target = Grid.box((6, 6)), torch.randn(1, 2, 6, 6, dtype=torch.float64)
    target[:, 0] *= 1e6
    prediction = target.clone()
    prediction[:, 1] = 0
    assert RelativeL2()(prediction, target, grid).tolist() == [[0.0, 1.0]]
    assert (prediction - target).norm() / target.norm() < 1e-5
