"""Sobolev norms: closed forms, any number of frames, and what they refuse."""

import math

import pytest
import torch

from sciml.norms import h1_norm
from sciml.sobolev import relative_error, sobolev_norm
from solvers.grid import Grid
from tests.helpers import periodic


@pytest.mark.parametrize("order", [-1.0, -0.5, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("sizes", [(24,), (16, 15), (15, 16), (8, 9, 10)], ids=str)
def test_a_wave_has_the_closed_form(sizes, order):
    """||cos(k.x)||_s^2 = |domain| / 2 (alpha + |k|^2)^s."""
    lengths = (2.0, 3.0, 0.5)[: len(sizes)]
    grid = periodic(sizes, lengths)
    k = torch.tensor([2 * math.pi * m / n for m, n in zip((3, -2, 1), lengths, strict=False)])
    u = torch.einsum("d,d...->...", k.double(), grid.mesh()).cos()
    squared = math.prod(lengths) / 2 * (0.3 + float(k.square().sum())) ** order
    norm = sobolev_norm(u[None], grid, order, alpha=0.3)
    torch.testing.assert_close(norm, torch.tensor([squared**0.5]).double(), rtol=1e-6, atol=0)


def test_the_shortest_wave_and_the_mean():
    grid = periodic((8,), (1.0,))
    shortest = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    k = 2 * math.pi * 4
    assert sobolev_norm(shortest, grid, -1).item() == pytest.approx((1 + k * k) ** -0.5)
    mean = torch.full((8,), 3.0, dtype=torch.float64)
    assert sobolev_norm(mean, grid, -1, alpha=4.0).item() == pytest.approx(1.5)


def test_order_zero_is_the_integral_and_order_one_has_the_gradient():
    grid = periodic((32, 32), (2.0, 1.0))
    u = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        sobolev_norm(u, grid, 0.0), (2.0 * u.square().mean(dim=(2, 3))).sqrt()
    )
    smooth = (math.pi * grid.mesh()[0]).sin().expand(1, 1, 32, 32)
    h1 = h1_norm(smooth, grid) * (2.0 / 32**2) ** 0.5  # by differences of second order
    torch.testing.assert_close(sobolev_norm(smooth, grid, 1.0), h1, rtol=1e-2, atol=0)


def test_negative_order_is_the_dual():
    """(u, v) <= ||u||_-1 ||v||_1, with equality for v = (1 - Lap)^-1 u."""
    grid = periodic((16, 16), (1.0, 1.0))
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(16, 16, dtype=torch.float64, generator=generator)
    k = torch.fft.fftfreq(16, 1 / 16).double() * 2 * math.pi
    v = torch.fft.ifft2(torch.fft.fft2(u) / (1 + k[:, None] ** 2 + k**2)).real
    product = (u * v).mean()
    bound = sobolev_norm(u, grid, -1.0) * sobolev_norm(v, grid, 1.0)
    torch.testing.assert_close(product, bound)


@pytest.mark.parametrize("order", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("frames", [1, 10, 40])
def test_one_per_cent_reads_one_per_cent(frames, order):
    """Whatever the number of frames and the order."""
    grid = periodic((16, 16), (1.0, 1.0))
    u = torch.randn(2, frames, 1, 16, 16, dtype=torch.float64)
    error = relative_error(1.01 * u, u, grid, order)
    torch.testing.assert_close(error, torch.full((2, 1), 0.01, dtype=torch.float64))


def test_refusals():
    grid = periodic((16,), (1.0,))
    with pytest.raises(ValueError, match="not on the grid"):
        sobolev_norm(torch.zeros(2, 8), grid, -1.0)
    with pytest.raises(ValueError, match="alpha=0"):
        sobolev_norm(torch.zeros(2, 16), grid, -1.0, alpha=0.0)
    with pytest.raises(ValueError, match="periodic grid"):
        sobolev_norm(torch.zeros(2, 16), Grid.box((16,)), -1.0)
    with pytest.raises(ValueError, match="differ in shape"):
        relative_error(torch.zeros(2, 1, 1, 16), torch.zeros(2, 2, 1, 16), grid)
