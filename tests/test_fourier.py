"""Spectral derivatives, filters and resampling on periodic grids."""

import math

import pytest
import torch

from solvers import Fourier
from solvers.grid import Axis, Grid

PERIODIC = ("periodic", "periodic")


def grid(*sizes, lengths=(1.0, 2.0, 0.5), points="left"):
    axes = zip("xyz", sizes, lengths, strict=False)
    return Grid(tuple(Axis(a, n, -0.3, length - 0.3, PERIODIC, points) for a, n, length in axes))


@pytest.mark.parametrize(
    "sizes", [(15,), (16,), (15, 12), (12, 15), (9, 10, 11), (8, 9, 8)], ids=str
)
@pytest.mark.parametrize("points", ["left", "cells"])
def test_derivatives_of_waves_are_exact(sizes, points):
    g = grid(*sizes, points=points)
    fourier, x = Fourier(g), g.mesh()
    for axis, length in enumerate(a.length for a in g.axes):
        k = 2 * math.pi * 3 / length
        other = torch.cos(2 * math.pi * x[axis - 1] / g.axes[axis - 1].length)
        other = other if len(sizes) > 1 else torch.ones_like(other)
        u = torch.sin(k * x[axis]) * other
        v = fourier.transform(u)
        exact = {1: k * torch.cos(k * x[axis]), 2: -(k**2) * torch.sin(k * x[axis])}
        exact |= {3: -(k**3) * torch.cos(k * x[axis]), 4: k**4 * torch.sin(k * x[axis])}
        for order, value in exact.items():
            found = fourier.inverse(fourier.derivative(axis, order) * v)
            torch.testing.assert_close(found, value * other, rtol=0, atol=1e-11 * k**order)


def test_the_nyquist_mode_has_no_odd_derivative():
    fourier = Fourier(grid(8))
    u = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    v = fourier.transform(u)
    assert fourier.inverse(fourier.derivative(0) * v).abs().max() == 0
    second = fourier.inverse(fourier.derivative(0, 2) * v)
    torch.testing.assert_close(second, -((8 * math.pi) ** 2) * u)


def test_laplacian_and_its_inverse():
    g = grid(12, 9)
    fourier = Fourier(g)
    u = torch.randn(3, 12, 9, dtype=torch.float64)
    u = u - u.mean((1, 2), keepdim=True)
    f = fourier.inverse(fourier.laplacian * fourier.transform(u))
    torch.testing.assert_close(fourier.inverse(fourier.inverse_laplacian * fourier.transform(f)), u)
    assert fourier.inverse_laplacian[0, 0] == 0


@pytest.mark.parametrize("n", [12, 13, 15, 16, 18, 31, 32, 33])
@pytest.mark.parametrize("fraction, power", [(2 / 3, 2), (1 / 2, 3)])
def test_products_of_kept_modes_alias_into_no_kept_mode(n, fraction, power):
    """Against the same product on a grid that is fine enough for all its modes."""
    fourier, fine = Fourier(grid(n)), Fourier(grid(4 * n))
    kept = fourier.kept(fraction)
    u = fourier.inverse(fourier.transform(torch.randn(n, dtype=torch.float64)) * kept)
    product = fourier.transform(u**power) * kept
    exact = fine.transform(fourier.resample(u, grid(4 * n)) ** power)[: len(kept)] / 4
    torch.testing.assert_close(product, exact * kept, rtol=0, atol=1e-12 * n)


def test_one_mode_more_would_be_aliased():
    """The control."""
    n = 18
    fourier, fine = Fourier(grid(n)), Fourier(grid(4 * n))
    kept = (torch.arange(n // 2 + 1) <= n // 3).double()  # the bound itself, n / 3
    u = fourier.inverse(fourier.transform(torch.randn(n, dtype=torch.float64)) * kept)
    product = fourier.transform(u**2) * kept
    exact = fine.transform(fourier.resample(u, grid(4 * n)) ** 2)[: len(kept)] / 4
    assert (product - exact * kept).abs().max() > 1e-3


def test_a_circle_keeps_fewer_modes_than_a_box():
    fourier = Fourier(grid(24, 24))
    box, circle = fourier.kept(), fourier.kept(circular=True)
    assert (circle <= box).all() and circle.sum() < box.sum()
    assert circle[0].sum() == box[0].sum()


@pytest.mark.parametrize("sizes, others", [((15,), (32,)), ((12, 10), (9, 17)), ((8, 8), (24, 6))])
def test_resampling_keeps_the_function(sizes, others):
    coarse, fine = grid(*sizes), grid(*others)
    k = [2 * math.pi * 2 / a.length for a in coarse.axes]
    field = lambda g: sum(torch.sin(q * x + 1) for q, x in zip(k, g.mesh(), strict=True))  # noqa: E731
    found = Fourier(coarse).resample(field(coarse), fine)
    torch.testing.assert_close(found, field(fine), rtol=0, atol=1e-12)


def test_gradients_flow():
    fourier = Fourier(grid(6, 5))
    u = torch.randn(2, 6, 5, dtype=torch.float64, requires_grad=True)
    d = fourier.derivative(1, 2)
    assert torch.autograd.gradcheck(lambda u: fourier.inverse(d * fourier.transform(u)), u)


def test_other_grids_and_fractions_are_refused():
    with pytest.raises(ValueError, match="needs a periodic grid on every axis, got"):
        Fourier(Grid.box((8, 8)))
    for fraction in (0, -1, 1.1):
        with pytest.raises(ValueError, match=f"fraction={fraction} of the modes must lie"):
            Fourier(grid(8)).kept(fraction)
