"""Multilinear interpolation and the weights of a mean, on every kind of axis."""

import math

import pytest
import torch

from sciml.layers.interpolation import interpolate, resample
from sciml.layers.quadrature import axis_weights, mean_weights
from solvers.grid import Axis, Grid

WALLS, AROUND = ("dirichlet", "neumann"), ("periodic", "periodic")
MIXED = Grid(
    (
        Axis("x", 12, -1.0, 2.0, AROUND, "left"),
        Axis("y", 9, 0.5, 1.5, WALLS, "cells"),
        Axis("z", 7, 0.0, 3.0, WALLS, "nodes"),
    )
)


@pytest.mark.parametrize("points", ["cells", "left", "nodes"])
@pytest.mark.parametrize("sizes", [(9, 32), (32, 9), (8, 16), (16, 8)], ids=str)
def test_multilinear_fields_are_kept(points, sizes):
    """Exactly, on finer and on coarser grids, up to the walls."""
    one, two = (Grid.box((n, n + 1), points=points) for n in sizes)

    def u(grid):
        x, y = grid.mesh()
        return torch.stack((1 + 2 * x - y + 3 * x * y, x - y))

    torch.testing.assert_close(resample(u(one), one, two), u(two), rtol=0, atol=1e-13)


@pytest.mark.parametrize("points", ["cells", "left"])
def test_a_periodic_axis_goes_on_at_its_other_end(points):
    one, two = (Grid.box((n,), boundary="periodic", points=points) for n in (4, 16))
    u = torch.tensor([0.0, 1.0, 2.0, 5.0], dtype=torch.float64)
    x = one.axes[0].coordinates().tolist()
    ring = [x[3] - 1, *x, x[0] + 1], [5.0, *u.tolist(), 0.0]
    expected = []
    for y in two.axes[0].coordinates().tolist():
        i = max(j for j in range(5) if ring[0][j] <= y)
        s = (y - ring[0][i]) / (ring[0][i + 1] - ring[0][i])
        expected.append((1 - s) * ring[1][i] + s * ring[1][i + 1])
    torch.testing.assert_close(resample(u, one, two), u.new_tensor(expected))


def test_the_error_falls_with_the_square_of_the_spacing():
    def u(grid):
        x, y, z = grid.mesh()
        return torch.sin(2 * math.pi * (x + 1) / 3) * y**3 * z.cos()

    errors, fine = [], MIXED.resized((40, 41, 43))
    for n in (16, 32, 64):
        grid = MIXED.resized((n, n, n))
        errors.append((resample(u(grid), grid, fine) - u(fine)).square().mean().sqrt())
    assert 3.5 < errors[0] / errors[1] < 4.7 and 3.5 < errors[1] / errors[2] < 4.7


def test_free_points_follow_the_same_rule():
    u = torch.randn(2, *MIXED.shape, dtype=torch.float64)
    target = MIXED.resized((10, 14, 11))
    points = target.mesh().flatten(1).T
    expected = resample(u, MIXED, target).flatten(1).T
    torch.testing.assert_close(interpolate(u, MIXED, points), expected, rtol=0, atol=1e-12)
    assert interpolate(u, MIXED, points.view(4, -1, 3)).shape == (4, 385, 2)


def test_the_same_grid_is_left_alone():
    u = torch.randn(2, *MIXED.shape)
    assert resample(u, MIXED, MIXED) is u


def test_gradients_of_free_points():
    grid = MIXED.resized((4, 3, 3))
    u = torch.randn(1, *grid.shape, dtype=torch.float64, requires_grad=True)
    points = torch.rand(3, 3, dtype=torch.float64) + torch.tensor([0.0, 0.5, 1.0])
    points = points.requires_grad_()
    assert torch.autograd.gradcheck(lambda u, x: interpolate(u, grid, x), (u, points))


@pytest.mark.parametrize("axis", MIXED.axes, ids=lambda axis: axis.points)
def test_weights_integrate_to_second_order(axis):
    errors = []
    for n in (20, 40):
        axis = Grid((axis,)).resized((n,)).axes[0]
        s = (axis.coordinates() - axis.lower) / axis.length
        assert axis_weights(axis).sum().item() == pytest.approx(1, abs=1e-14)
        f = s.exp() if not axis.is_periodic else torch.sin(2 * math.pi * s) ** 2
        mean = math.e - 1 if not axis.is_periodic else 0.5
        errors.append(abs(axis_weights(axis).dot(f).item() - mean))
    assert errors[1] < max(errors[0] / 3.5, 1e-14)


def test_a_left_axis_with_walls_has_no_point_at_its_end():
    errors = []
    for n in (20, 40):
        axis = Axis("x", n, boundary=WALLS, points="left")
        errors.append(abs(axis_weights(axis).dot(axis.coordinates().exp()).item() - math.e + 1))
    assert errors[0] / errors[1] > 3.5


def test_weights_of_a_box():
    assert mean_weights(MIXED).shape == MIXED.shape
    assert mean_weights(MIXED).sum().item() == pytest.approx(1, abs=1e-14)
