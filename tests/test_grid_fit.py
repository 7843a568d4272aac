"""GridFit: what is interpolated, what is padded, and the way back; convolutions and their sides."""

import math

import pytest
import torch
from torch.nn.functional import conv2d

from sciml.layers import GridFit, SidedConv
from solvers.grid import Axis, Grid

ROUND = ("periodic", "periodic")


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("points", ["left", "cells"])
@pytest.mark.parametrize("size", [9, 10])
def test_interpolant_on_a_periodic_axis(size, points):
    """Waves below the Nyquist frequency of the few points are the same waves on the many."""

    def waves(n):
        x = Grid.box((n,), boundary="periodic", points=points).mesh()
        k = torch.arange((size - 1) // 2 + 1, dtype=torch.float64)[:, None]
        return torch.cat((torch.cos(2 * math.pi * k * x), torch.sin(2 * math.pi * k * x)))[None]

    fit = GridFit(Grid.box((size,), boundary="periodic", points=points), (24,))
    torch.testing.assert_close(fit.extend(waves(size)), waves(24), rtol=0, atol=1e-12)
    torch.testing.assert_close(fit.restrict(waves(24)), waves(size), rtol=0, atol=1e-12)


@pytest.mark.parametrize("points", ["left", "cells"])
@pytest.mark.parametrize("shape", [(8,), (7, 10), (5, 6, 9)], ids=str)
def test_back_again(shape, points):
    """Any field, its Nyquist modes included, survives the way there and back."""
    x = random(2, 3, *shape)
    for boundary in ("periodic", "open"):
        fit = GridFit(Grid.box(shape, boundary=boundary, points=points), (12,) * len(shape))
        there = fit.extend(x)
        assert there.shape == (2, 3, *fit.shape)
        torch.testing.assert_close(fit.restrict(there), x, rtol=0, atol=1e-12)


def test_zeros_beyond_the_upper_side():
    grid = Grid((Axis("x", 5), Axis("y", 6, boundary=ROUND)))
    x = random(1, 2, 5, 6)
    there = GridFit(grid, (8, 6)).extend(x)
    assert torch.equal(there[:, :, :5], x)
    assert (there[:, :, 5:] == 0).all()


def test_nothing_to_do():
    x = random(1, 1, 8, 8)
    fit = GridFit(Grid.box((8, 8), boundary="periodic", points="left"), (8, 8))
    assert torch.equal(fit.extend(x), x)
    assert torch.equal(fit.restrict(x), x)


def test_a_smaller_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 9\) points do not fit into \(8, 8\)"):
        GridFit(Grid.box((8, 9)), (8, 8))


@pytest.mark.parametrize("shape", [(6, 7), (2, 3)], ids=str)
def test_convolution_goes_round_periodic_axes_only(shape):
    """Against the convolution of a field that was continued point by point."""
    torch.manual_seed(0)
    layer = SidedConv(2, 3, 7, (True, False)).double()
    x = random(2, 2, *shape)
    continued = torch.zeros(2, 2, shape[0] + 6, shape[1] + 6, dtype=torch.float64)
    for i in range(shape[0] + 6):
        continued[:, :, i, 3:-3] = x[:, :, (i - 3) % shape[0]]
    expected = conv2d(continued, layer.convolution.weight, layer.convolution.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        SidedConv(1, 1, 4, (True,))
