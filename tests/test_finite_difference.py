"""Derivatives on uniform grids: second order up to the walls, exact for quadratics."""

import math

import numpy as np
import pytest
import torch

from solvers.finite_difference import gradient
from solvers.grid import Axis, Grid

WALLS = ("cells", "left", "nodes")


def slope(sizes, errors) -> float:
    """Order of convergence: minus the slope of log error over log size."""
    return -np.polyfit(np.log(sizes), np.log(errors), 1)[0]


def axis(size: int, points: str, boundary: str = "open", name: str = "x") -> Axis:
    return Axis(name, size, -0.3, 1.7, (boundary, boundary), points)


@pytest.mark.parametrize("points", WALLS)
def test_order_two_up_to_the_walls(points):
    sizes, errors = (20, 40, 80, 160), []
    for size in sizes:
        grid = Grid((axis(size, points),))
        (x,) = grid.mesh()
        found = gradient((3 * x).sin()[None, None], grid)[0, 0, 0]
        errors.append((found - 3 * (3 * x).cos()).abs().max().item())
    assert abs(slope(sizes, errors) - 2) < 0.15


@pytest.mark.parametrize("points", ["cells", "left"])
def test_order_two_on_periodic_axes(points):
    sizes, errors = (20, 40, 80, 160), []
    for size in sizes:
        grid = Grid((axis(size, points, "periodic"),))
        (x,) = grid.mesh()
        found = gradient((2 * math.pi * x).sin()[None, None], grid)[0, 0, 0]
        errors.append((found - 2 * math.pi * (2 * math.pi * x).cos()).abs().max().item())
    assert abs(slope(sizes, errors) - 2) < 0.05


def test_wrapping_at_a_wall_is_wrong_by_a_jump():
    """The control: central differences around the corner, as if every domain were periodic."""
    sizes, errors = (20, 40, 80, 160), []
    for size in sizes:
        walls, wrapped = Grid((axis(size, "left"),)), Grid((axis(size, "left", "periodic"),))
        (x,) = walls.mesh()
        error = (gradient(x[None, None], wrapped) - gradient(x[None, None], walls)).abs().max()
        errors.append(error.item())
    assert slope(sizes, errors) < -0.9  # it grows with the resolution


@pytest.mark.parametrize("points", WALLS)
def test_exact_for_quadratics_in_three_dimensions(points):
    grid = Grid(tuple(axis(n, points, name=s) for n, s in zip((5, 4, 3), "xyz", strict=True)))
    x, y, z = grid.mesh()
    u = torch.stack((x * x + 2 * y - 3 * z * z, y * y + 4 * z), dim=0).expand(2, -1, -1, -1, -1)
    du, dv = gradient(u, grid)[0]
    zero = torch.zeros_like(x)
    torch.testing.assert_close(du, torch.stack((2 * x, zero + 2, -6 * z)), atol=1e-12, rtol=0)
    torch.testing.assert_close(dv, torch.stack((zero, 2 * y, zero + 4)), atol=1e-12, rtol=0)


def test_axes_may_differ():
    grid = Grid((axis(16, "left", "periodic"), axis(9, "nodes", name="y")))
    x, y = grid.mesh()
    u = (math.pi * x).sin() * (1 + y)
    du = gradient(u[None, None], grid)[0, 0]
    h = grid.spacing[0]
    exact = math.sin(math.pi * h) / h * (math.pi * x).cos() * (1 + y)  # of the difference quotient
    torch.testing.assert_close(du[0], exact, atol=1e-12, rtol=0)
    torch.testing.assert_close(du[1], (math.pi * x).sin(), atol=1e-12, rtol=0)


def test_differentiable():
    grid = Grid((axis(5, "cells"), axis(4, "left", "periodic", "y")))
    u = torch.randn(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: gradient(v, grid), u)


def test_fields_on_another_grid_are_refused():
    with pytest.raises(
        ValueError, match=r"expected fields on the grid \(8, 8\), got \(8, 9\); use grid.resized"
    ):
        gradient(torch.zeros(1, 1, 8, 9), Grid.box((8, 8)))


@pytest.mark.parametrize("boundary", ["open", "periodic"])
def test_two_points_have_no_second_order_derivative(boundary):
    with pytest.raises(ValueError, match="axis x: a derivative needs 3 points, got 2"):
        gradient(torch.zeros(1, 1, 2), Grid((axis(2, "left", boundary),)))
