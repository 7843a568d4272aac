"""Convolutions at the sides of a grid, against NumPy's padding and loops, and as reflections."""

import numpy as np
import pytest
import torch

from sciml.layers import BoundaryConv, BoundaryConvTranspose
from solvers.grid import Axis, Grid

PADDING = {  # of numpy.pad, one point
    ("periodic", "left"): "wrap",
    ("periodic", "cells"): "wrap",
    ("dirichlet", "cells"): "constant",
    ("dirichlet", "nodes"): "constant",
    ("neumann", "cells"): "symmetric",
    ("neumann", "left"): "symmetric",
    ("neumann", "nodes"): "reflect",
    ("open", "cells"): "edge",
    ("open", "nodes"): "edge",
}
KINDS = sorted(PADDING)


def axis(name, size, kind, other=None):
    boundary, points = kind
    return Axis(name, size, boundary=(boundary, other or boundary), points=points)


def random(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def made(kind, *arguments, **settings):
    torch.manual_seed(0)
    return kind(*arguments, **settings).double()


def by_hand(conv, padded, stride):
    """sum_d w[o, i, d] padded[b, i, stride j + d] + bias, points by einsum over windows."""
    windows = np.lib.stride_tricks.sliding_window_view(
        padded, (3,) * (padded.ndim - 2), axis=tuple(range(2, padded.ndim))
    )
    windows = windows[(slice(None), slice(None), *[slice(None, None, stride)] * (padded.ndim - 2))]
    space, offsets = "xyz"[: padded.ndim - 2], "pqr"[: padded.ndim - 2]
    weight, bias = conv.conv.weight.detach().numpy(), conv.conv.bias.detach().numpy()
    u = np.einsum(f"bi{space}{offsets},oi{offsets}->bo{space}", windows, weight)
    return u + bias.reshape(-1, *[1] * len(space))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("second", KINDS, ids="-".join)
@pytest.mark.parametrize("first", [KINDS[0], KINDS[-1]], ids="-".join)
def test_pads_each_axis_by_its_sides(first, second, stride):
    grid = Grid((axis("x", 7, first), axis("y", 6, second)))
    conv = made(BoundaryConv, 2, 3, grid, stride=stride)
    u = random(2, 2, 7, 6)
    none = [(0, 0), (0, 0)]
    padded = np.pad(u.numpy(), [*none, (1, 1), (0, 0)], mode=PADDING[first])
    padded = np.pad(padded, [*none, (0, 0), (1, 1)], mode=PADDING[second])
    np.testing.assert_allclose(conv(u).detach().numpy(), by_hand(conv, padded, stride), atol=1e-13)


def test_the_two_sides_of_an_axis_may_differ():
    grid = Grid((axis("x", 9, ("dirichlet", "nodes"), other="neumann"),))
    conv = made(BoundaryConv, 1, 1, grid)
    u = random(1, 1, 9)
    padded = np.concatenate((np.zeros((1, 1, 1)), u.numpy(), u.numpy()[..., -2:-1]), axis=2)
    np.testing.assert_allclose(conv(u).detach().numpy(), by_hand(conv, padded, 1), atol=1e-13)


@pytest.mark.parametrize("points, period", [("cells", 16), ("nodes", 14)])
def test_neumann_sides_are_mirrors(points, period):
    """A symmetric stencil sees what it would see in the even continuation, which is periodic."""
    conv = made(BoundaryConv, 1, 1, Grid((axis("x", 8, ("neumann", points)),)))
    around = made(BoundaryConv, 1, 1, Grid((axis("x", period, ("periodic", "left")),)))
    with torch.no_grad():
        conv.conv.weight += conv.conv.weight.flip(2)
    around.load_state_dict(conv.state_dict())
    u = random(1, 1, 8)
    mirrored = u.flip(2) if points == "cells" else u.flip(2)[..., 1:-1]
    whole = around(torch.cat((u, mirrored), dim=2))
    torch.testing.assert_close(conv(u), whole[..., :8], rtol=0, atol=1e-13)


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("kind", KINDS, ids="-".join)
def test_transposed_convolution(kind, size):
    """Coarse point i adds to fine points 2 i - 1 .. 2 i + 2, the points beyond the sides too."""
    if kind[1] == "nodes" and size == 1:
        size = 3
    fine, coarse = size, (size + 1) // 2
    conv = made(BoundaryConvTranspose, 2, 3, Grid((axis("x", size, kind),)), bias=False)
    u = random(2, 2, coarse)
    mode = PADDING[kind] if coarse > 1 or PADDING[kind] != "reflect" else "edge"
    padded = np.pad(u.numpy(), [(0, 0), (0, 0), (1, 1)], mode=mode)
    expected = np.zeros((2, 3, fine))
    weight = conv.conv.weight.detach().numpy()
    for i in range(-1, coarse + 1):
        for k in range(4):
            if 0 <= 2 * i - 1 + k < fine:
                expected[:, :, 2 * i - 1 + k] += padded[:, :, i + 1] @ weight[:, :, k]
    np.testing.assert_allclose(conv(u, (fine,)).detach().numpy(), expected, atol=1e-13)


@pytest.mark.parametrize("shape", [(8, 9), (7, 12)], ids=str)
@pytest.mark.parametrize("boundary", ["periodic", "neumann", "open"])
def test_linear_interpolation_keeps_constants(boundary, shape):
    grid = Grid.box(shape, boundary=boundary, points="cells")
    conv = made(BoundaryConvTranspose, 1, 1, grid, bias=False)
    line = torch.tensor([0.5, 1.0, 0.5, 0.0], dtype=torch.float64)
    with torch.no_grad():
        conv.conv.weight[0, 0] = torch.outer(line, line)
    one = torch.ones(1, 1, *((n + 1) // 2 for n in shape), dtype=torch.float64)
    torch.testing.assert_close(conv(one, shape), torch.ones(1, 1, *shape, dtype=torch.float64))


def test_three_dimensions_and_a_single_point():
    grid = Grid.box((4, 5, 6), boundary="neumann", points="nodes")
    conv = made(BoundaryConv, 2, 3, grid, stride=2)
    assert conv(random(1, 2, 4, 5, 6)).shape == (1, 3, 2, 3, 3)
    assert conv(random(1, 2, 1, 1, 1)).shape == (1, 3, 1, 1, 1)
