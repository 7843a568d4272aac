"""Change of grid by series: exact for waves that both hold, no aliases, at the right points."""

import math

import pytest
import torch

from sciml.layers import Resample
from solvers.grid import Axis, Grid

SIZES = [(8, 12), (8, 13), (9, 12), (9, 17), (12, 8), (13, 8), (12, 9), (17, 9), (64, 33)]


def axis(size, boundary="periodic", points="left"):
    return Axis("x", size, lower=-1.0, upper=2.0, boundary=(boundary, boundary), points=points)


def moved(u, source, target):
    like = torch.zeros(1, dtype=torch.float64)
    return Resample(Grid((source,)), Grid((target,)), like)(u)


def random(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def trigonometric(x, waves, coefficients):
    angle = 2 * math.pi * torch.outer((x + 1) / 3, waves)
    return torch.cat((angle.cos(), angle.sin()), dim=1) @ coefficients


@pytest.mark.parametrize("points", ["left", "cells"])
@pytest.mark.parametrize("n, m", SIZES)
def test_exact_for_what_both_grids_hold(n, m, points):
    source, target = axis(n, points=points), axis(m, points=points)
    waves = torch.arange((min(n, m) - 1) // 2 + 1, dtype=torch.float64)
    coefficients = random(2 * len(waves), 3)
    u = trigonometric(source.coordinates(), waves, coefficients)
    expected = trigonometric(target.coordinates(), waves, coefficients)
    torch.testing.assert_close(moved(u, source, target), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n, m", SIZES)
def test_agrees_with_the_transform_of_numpy(n, m):
    """rfft, cut or filled with zeros, irfft; random fields, halves at the Nyquist frequency."""
    u = random(n, 2)
    z = torch.fft.rfft(u, dim=0, norm="forward")
    if m > n and n % 2 == 0:
        z[-1] *= 0.5
    z = z[: m // 2 + 1]
    if n > m and m % 2 == 0:
        z[-1] *= 2  # irfft sees one of the two signs, both are there
    expected = torch.fft.irfft(z, n=m, dim=0, norm="forward")
    torch.testing.assert_close(moved(u, axis(n), axis(m)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("n, m", [(n, m) for n, m in SIZES if n > m])
def test_finer_waves_are_dropped_not_aliased(n, m):
    source, target = axis(n), axis(m)
    for k in range(m // 2 + 1, n // 2 + 1):
        wave = torch.cos(2 * math.pi * k * (source.coordinates() + 1) / 3)
        assert moved(wave[:, None], source, target).abs().max() < 1e-13


@pytest.mark.parametrize("boundary, points", [("dirichlet", "cells"), ("neumann", "nodes")])
@pytest.mark.parametrize("n, m", SIZES)
def test_cosines_between_walls(n, m, boundary, points):
    source, target = axis(n, boundary, points), axis(m, boundary, points)
    coefficients = random(min(n, m), 2)

    def field(x):
        k = torch.arange(min(n, m), dtype=torch.float64)
        return torch.cos(math.pi * torch.outer((x + 1) / 3, k)) @ coefficients

    expected = field(target.coordinates())
    actual = moved(field(source.coordinates()), source, target)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("boundary, points", [("periodic", "cells"), ("open", "left")])
@pytest.mark.parametrize("n, m", [(n, m) for n, m in SIZES if n < m])
def test_there_and_back(n, m, boundary, points):
    coarse, fine = axis(n, boundary, points), axis(m, boundary, points)
    u = random(n, 3)
    back = moved(moved(u, coarse, fine), fine, coarse)
    torch.testing.assert_close(back, u, rtol=0, atol=1e-13)


def test_order_with_a_slope_at_the_walls():
    def error(n):
        coarse, fine = axis(n, "dirichlet", "cells"), axis(2 * n, "dirichlet", "cells")
        u = moved(coarse.coordinates()[:, None].exp(), coarse, fine)
        return (u - fine.coordinates()[:, None].exp()).square().mean().sqrt()

    assert abs(math.log2(error(64) / error(128)) - 1.5) < 0.1


def test_axis_by_axis_with_more_axes_behind():
    source = Grid((axis(8), axis(9, "neumann", "nodes"), axis(6)))
    target = source.resized((12, 5, 6))
    u = random(8, 9, 6, 2, 3)
    expected = u
    for i in range(2):
        lines = expected.movedim(i, 0)
        lines = moved(lines, source.axes[i], target.axes[i])
        expected = lines.movedim(0, i)
    actual = Resample(source, target, like=u)(u)
    assert actual.shape == (12, 5, 6, 2, 3)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)


def test_the_same_grid_is_the_identity():
    grid = Grid.box((5, 6))
    u = random(5, 6, 2)
    assert torch.equal(Resample(grid, grid, like=u)(u), u)
