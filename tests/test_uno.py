"""U-NO: parameters, what its operators mean between two grids, symmetries, resolutions."""

import math

import pytest
import torch

from sciml.layers import FourierBasis, Resample
from sciml.models import UNO
from sciml.models.uno import _levels
from solvers.grid import Axis, Grid

SMALL = {"channels": (4, 6, 8), "modes": (3, 2)}


def periodic(*shape):
    return Grid.box(shape, boundary="periodic", points="left")


def small(grid, **settings):
    torch.manual_seed(0)
    return UNO(2, 1, grid.ndim, grid=grid, **(SMALL | settings)).double()


def random(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_parameters_follow_the_formula(ndim):
    w, (m1, m2), ins, outs = 5, (4, 2), 2, 3
    channels = (w, 2 * w, 4 * w)

    def operator(c, d, m):
        return 2 * (2 * m) ** (ndim - 1) * (m + 1) * c * d + d + c * d

    def perceptron(a, b, c):
        return a * b + b + b * c + c

    down = operator(w, 2 * w, m1) + operator(2 * w, 4 * w, m2)
    bottom = 2 * operator(4 * w, 4 * w, m2)
    up = operator(4 * w, 2 * w, m2) + operator(4 * w, w, m1)
    ends = perceptron(ins + ndim, w // 2, w) + perceptron(2 * w, w, outs)
    grid = Grid.box((16,) * ndim)
    model = UNO(ins, outs, ndim, grid=grid, channels=channels, modes=(m1, m2), bottom=2)
    assert count(model) == down + bottom + up + ends


def test_parameters_of_the_published_shape():
    """Channels (w, 2 w, 4 w) and modes (18, 8) on 85 x 85 points, at w = 32."""
    grid = Grid.box((85, 85), points="nodes")
    model = UNO(1, 1, 2, grid=grid, channels=(32, 64, 128), modes=(18, 8))
    assert count(model) == 17_884_225


@pytest.mark.parametrize("n, m", [(16, 8), (18, 9), (15, 8)])
def test_an_operator_maps_functions_on_one_grid_to_the_other(n, m):
    """Analysis on one grid and synthesis on the other are the operator between change of grids."""
    fine, coarse = periodic(n, n), periodic(m, m)
    operator = small(periodic(16, 16)).down[0]
    v = random(n, n, 2, 4)
    modes, period = operator.convolution.modes, (1.0, 1.0)
    here = FourierBasis(fine, modes, period, like=v)
    there = FourierBasis(coarse, modes, period, like=v)
    spectrum = operator.convolution.weight.contract(here.analyse(v))
    contracted = operator.convolution(Resample(fine, coarse, like=v)(v), there)
    torch.testing.assert_close(contracted, there.synthesise(spectrum), rtol=0, atol=1e-13)
    u = random(m, m, 2, 4)
    spectrum = operator.convolution.weight.contract(there.analyse(u))
    expanded = Resample(coarse, fine, like=u)(operator.convolution(u, there))
    torch.testing.assert_close(expanded, here.synthesise(spectrum), rtol=0, atol=1e-13)


def test_levels_halve_the_intervals():
    axes = (
        Axis("x", 33, points="nodes"),
        Axis("y", 33, points="cells"),
        Axis("z", 20, boundary=("periodic", "periodic"), points="left"),
    )
    shapes = [grid.shape for grid in _levels(Grid(axes), 3)]
    assert shapes == [(33, 33, 20), (17, 17, 10), (9, 9, 5), (5, 5, 3)]


def test_equivariant_on_periodic_axes():
    """By 2^L points where that divides the size."""
    sides = ("periodic", "periodic")
    grid = Grid((Axis("x", 24, boundary=sides, points="cells"), Axis("y", 15)))
    model = small(grid)
    assert model.period == (1.0, 1.25)
    assert model.lifting[0].in_features == 3  # two fields and y
    a = random(1, 2, 24, 15)
    torch.testing.assert_close(model(a.roll(4, 2)), model(a).roll(4, 2), rtol=0, atol=1e-13)
    assert (model(a.roll(4, 3)) - model(a).roll(4, 3)).abs().max() > 1e-4


@pytest.mark.parametrize("points", ["left", "cells"])
def test_one_function_on_all_grids(points):
    """Finer grids of a smooth field give the same output at the same places, ever more so."""
    grid = Grid.box((16,), boundary="periodic", points=points)
    torch.manual_seed(0)
    model = UNO(1, 1, 1, grid=grid, **SMALL).double()

    def output(n):
        here = grid.resized((n,))
        x = here.axes[0].coordinates()
        a = torch.cos(2 * math.pi * x) + 0.5 * torch.sin(4 * math.pi * x + 1)
        u = model(a[None, None])[0, 0]
        return Resample(here, grid.resized((512,)), like=u)(u[:, None])

    with torch.no_grad():
        best = output(512)
        errors = [float((output(n) - best).norm() / best.norm()) for n in (32, 63, 128)]
    assert errors[0] < 0.05
    assert errors[1] < errors[0]
    assert errors[2] < 1e-6


@pytest.mark.parametrize("shape", [(40, 33), (33, 64), (13, 12), (5, 6)], ids=str)
@pytest.mark.parametrize("points", ["cells", "nodes", "left"])
def test_other_grids(points, shape):
    model = small(Grid.box((16, 16), points=points))
    u = model(random(2, 2, *shape))
    assert u.shape == (2, 1, *shape) and u.is_contiguous() and u.isfinite().all()


@pytest.mark.slow
def test_exports_with_any_batch_size():
    model = small(Grid.box((16, 16))).eval()
    a = random(3, 2, 16, 16)
    program = torch.export.export(model, (a,), dynamic_shapes=({0: torch.export.Dim("b")},))
    b = random(5, 2, 16, 16)
    torch.testing.assert_close(program.module()(b), model(b))


def test_refusals():
    grid = Grid.box((16, 16))
    with pytest.raises(ValueError, match="ndim=1, but the grid has 2 axes"):
        UNO(1, 1, 1, grid=grid)
    for channels, modes in (((4, 4), (2, 2)), ((4,), ()), ((4, 0), (2,))):
        with pytest.raises(ValueError, match="one number for each level, the grid of the data"):
            UNO(1, 1, 2, grid=grid, channels=channels, modes=modes)
    with pytest.raises(ValueError, match=r"modes=\(4, 3\) needs 6 points at level 2.*\(4, 4\) of"):
        UNO(1, 1, 2, grid=grid, channels=(4, 4, 4), modes=(4, 3))
    with pytest.raises(ValueError, match="bottom=-1 and padding=0.25 must not be negative"):
        UNO(1, 1, 2, grid=grid, bottom=-1, **SMALL)
    with pytest.raises(ValueError, match=r"2 channels, 2 axes of points\], got shape \(1, 2, 8\)"):
        small(grid)(torch.zeros(1, 2, 8))
