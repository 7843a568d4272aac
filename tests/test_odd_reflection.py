"""The reflected pair is a solution too, and the reflection is one of the grid."""

import pytest
import torch

from datasets.schema import Batch, Field, Metadata
from sciml.tasks import OddReflection
from solvers import Burgers
from solvers.grid import Axis, Grid


def metadata(grid):
    return Metadata("test", (Field("u0"),), (Field("u"),), grid)


def batch(a, u):
    return Batch(a, u, torch.zeros(len(a), 0), torch.zeros(1, *a.shape[2:]))


def test_a_reflected_pair_still_solves_burgers_equation():
    torch.manual_seed(0)
    grid = Grid.box((64,), boundary="periodic", points="left")
    x = grid.mesh()[0]
    phase = torch.rand(8, 1, dtype=torch.float64)
    a = (0.3 + torch.sin(2 * torch.pi * (x + phase)) + torch.cos(4 * torch.pi * x))[:, None]
    solve = Burgers(grid, viscosity=0.05, dt=0.3, substeps=200)
    symmetry = OddReflection()
    symmetry.check(metadata(grid))
    found = symmetry(batch(a, solve(a)))
    changed = (found.input != a).flatten(1).any(1)
    assert 0 < changed.sum() < 8
    torch.testing.assert_close(solve(found.input), found.target, rtol=0, atol=1e-10)
    wrong = found.input.clone()
    wrong[changed] *= -1  # control: the reflection alone
    assert (solve(wrong) + found.target)[changed].abs().max() > 0.1


@pytest.mark.parametrize("points", ["left", "cells", "nodes"])
def test_points_go_where_the_reflection_takes_them(points):
    """-sin(-2 pi x) is the same about the first point and about the middle of the axis."""
    grid = Grid.box((9, 8), boundary="periodic" if points == "left" else "open", points=points)
    u = torch.sin(2 * torch.pi * grid.mesh()[0])[None, None].expand(40, 1, 9, 8).clone()
    symmetry = OddReflection()
    symmetry.check(metadata(grid))
    found = symmetry(batch(u, u)).target
    torch.testing.assert_close(found, u, rtol=0, atol=1e-12)
    beside = symmetry(batch(u.roll(1, 2), u)).input  # control
    assert (beside - u.roll(1, 2)).abs().max() > 0.1


def test_refusals():
    for axis in (
        Axis("x", 8, boundary=("dirichlet", "neumann")),
        Axis("x", 8, points="left"),
    ):
        with pytest.raises(ValueError, match="OddReflection needs sides and points.*axis x"):
            OddReflection().check(metadata(Grid((axis,))))
