"""LSM: its published sizes, the neural spectral block point by point, symmetries, refusals."""

import math

import pytest
import torch

from sciml.layers import NeuralSpectralBlock
from sciml.models import LSM
from solvers.grid import Axis, Grid

ROUND = ("periodic", "periodic")


def small(grid, **settings):
    torch.manual_seed(0)
    settings = {"width": 8, "patch": 2, "levels": 2, "tokens": 3, "basis": 4, **settings}
    return LSM(2, 1, grid.ndim, grid=grid, **settings).double()


def random(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("fields, count", [(1, 19_187_457), (10, 19_188_033)])
def test_published_sizes(fields, count):
    """Darcy flow, and Navier-Stokes with ten frames, which has coordinates there too."""
    with torch.device("meta"):
        model = LSM(fields, 1, 2, grid=Grid.box((85, 85)))
    assert sum(p.numel() for p in model.parameters()) == count


def test_size_by_hand():
    """width w, M basis functions and T tokens: convolutions, norms, blocks, maps at each point."""
    w, m, tokens, ins = 16, 5, 3, 4
    grid = Grid((Axis("x", 64, boundary=ROUND, points="left"), Axis("y", 64), Axis("z", 64)))
    model = LSM(ins, 2, 3, grid=grid, width=w, patch=4, levels=3, tokens=tokens, basis=m)

    def double(i, middle, o):
        return 27 * (i * middle + middle * o) + 2 * (middle + o)

    def block(c):
        return c * tokens + 2 * m * c + c * 3 * c + 3 * c

    scales = double(w, w, w) + double(w, 2 * w, 2 * w)
    scales += double(2 * w, 4 * w, 4 * w) + double(4 * w, 4 * w, 4 * w)
    scales += double(8 * w, 4 * w, 2 * w) + double(4 * w, 2 * w, w) + double(2 * w, w, w)
    blocks = block(w) + block(2 * w) + 2 * block(4 * w)
    points = (ins + 2) * w + w + w * w + w + w * 128 + 128 + 128 * 2 + 2
    assert sum(p.numel() for p in model.parameters()) == scales + blocks + points


def by_points(block, x, patch):
    """The block of one sample [c, nx, ny] by loops over patches and heads."""
    width, heads = x.shape[0], block.tokens.shape[0]
    size, basis = width // heads, block.series.shape[1] // 2
    keys, values = block.encoder.weight.split(width)
    key_bias, value_bias = block.encoder.bias.split(width)
    y = torch.empty_like(x)
    for i in range(0, x.shape[1], patch[0]):
        for j in range(0, x.shape[2], patch[1]):
            rows, columns = slice(i, i + patch[0]), slice(j, j + patch[1])
            p = x[:, rows, columns].reshape(width, -1)
            k, v = keys @ p + key_bias[:, None], values @ p + value_bias[:, None]
            q = block.decoder.weight @ p + block.decoder.bias[:, None]
            out = []
            for h in range(heads):
                own = slice(h * size, (h + 1) * size)
                weights = torch.softmax(block.tokens[h] @ k[own], dim=1)
                tokens = torch.einsum("tn,cn->tc", weights, v[own]) + block.tokens[h]
                mapped = tokens.clone()
                for m in range(basis):
                    mapped += block.series[own, m] * torch.sin(math.pi * m / basis * tokens)
                    mapped += block.series[own, basis + m] * torch.cos(math.pi * m / basis * tokens)
                weights = torch.softmax(torch.einsum("cn,tc->nt", q[own], mapped), dim=1)
                out.append(torch.einsum("nt,tc->cn", weights, mapped))
            y[:, rows, columns] = (torch.cat(out) + p).view(width, *patch)
    return y


def test_block_against_loops():
    torch.manual_seed(0)
    block = NeuralSpectralBlock(16, (3, 2), 4, 5).double()
    x = random(2, 16, 6, 8)
    expected = torch.stack([by_points(block, sample, (3, 2)) for sample in x])
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


def test_block_without_weights_adds_the_mean_of_its_tokens():
    """Maps and series zero: every point attends alike to tokens that nothing was added to."""
    block = NeuralSpectralBlock(16, (2, 2), 4, 5).double()
    for parameter in (*block.encoder.parameters(), *block.decoder.parameters(), block.series):
        torch.nn.init.zeros_(parameter)
    x = random(2, 16, 4, 4)
    mean = block.tokens.mean(dim=1).flatten()[:, None, None]
    torch.testing.assert_close(block(x), x + mean, rtol=0, atol=1e-14)
    torch.nn.init.zeros_(block.tokens)
    assert torch.equal(block(x), x)


def test_series_of_frequency_zero_is_a_constant():
    block = NeuralSpectralBlock(8, (2,), 2, 3).double()
    for parameter in (*block.encoder.parameters(), *block.decoder.parameters(), block.tokens):
        torch.nn.init.zeros_(parameter)
    torch.nn.init.zeros_(block.series)
    block.series.data[:, 0], block.series.data[:, 3] = 5.0, 2.0  # sin 0 and cos 0
    x = random(1, 8, 6)
    torch.testing.assert_close(block(x), x + 2)


def test_patches_do_not_see_each_other():
    block = NeuralSpectralBlock(8, (2, 4), 2, 3).double()
    x = random(1, 8, 4, 8)
    moved = x.clone()
    moved[:, :, :2, :4] += 1
    change = (block(moved) - block(x)).abs().amax(dim=1)[0]
    assert change[:2, :4].min() > 0.1
    assert change[2:].max() == change[:, 4:].max() == 0


@pytest.mark.parametrize("shape", [(16,), (16, 24), (8, 16, 8)], ids=str)
def test_equivariant_to_shifts_by_the_coarsest_patches(shape):
    model = small(Grid.box(shape, boundary="periodic", points="left"))
    a = random(2, 2, *shape)
    for mode in (True, False):
        model.train(mode)
        moved = model(a.roll(8, -1))
        torch.testing.assert_close(moved, model(a).roll(8, -1), rtol=1e-10, atol=1e-10)


def test_walls_and_mixed_sides():
    """Only the periodic axis is a symmetry; the other has a coordinate."""
    grid = Grid((Axis("x", 16, boundary=ROUND, points="left"), Axis("y", 16, upper=3.0)))
    model = small(grid).eval()
    assert model.lifting.in_features == 3
    a = random(1, 2, 16, 16)
    torch.testing.assert_close(model(a.roll(8, 2)), model(a).roll(8, 2), rtol=1e-10, atol=1e-10)
    assert (model(a.roll(8, 3)) - model(a).roll(8, 3)).abs().max() > 1e-4


def test_published_padding_is_zeros_at_the_upper_sides():
    """On 13 x 16 points as on 16 x 16 whose lifted field was made zero beyond the 13th."""
    model = small(Grid.box((16, 16), boundary="open")).eval()
    a = random(1, 2, 13, 16)
    seen = []
    handle = model.encoders[0].register_forward_pre_hook(lambda _, v: seen.append(v[0]))
    u = model(a)
    handle.remove()
    assert u.shape == (1, 1, 13, 16)
    assert seen[0].shape == (1, 8, 16, 16)
    assert seen[0][:, :, :13].abs().amin(dim=1).max() > 0
    assert (seen[0][:, :, 13:] == 0).all()


@pytest.mark.parametrize("points", ["left", "cells", "nodes"])
def test_coordinates_are_those_of_the_points(points):
    model = small(Grid((Axis("x", 16, -2.0, 2.0, points=points),))).eval()
    torch.nn.init.zeros_(model.lifting.weight)
    model.lifting.weight.data[0, 2] = 1.0
    seen = []
    model.encoders[0].register_forward_pre_hook(lambda _, v: seen.append(v[0]))
    model(random(1, 2, 16))
    x = {"left": torch.arange(16) / 16, "nodes": torch.arange(16) / 15}
    expected = x.get(points, (torch.arange(16) + 0.5) / 16).double()
    torch.testing.assert_close(seen[0][0, 0] - model.lifting.bias[0], expected, rtol=0, atol=1e-6)


def test_constants_stay_so_on_every_size_of_a_periodic_grid():
    """Neither the interpolation nor anything after it knows one point from another."""
    model = small(Grid.box((16,), boundary="periodic", points="cells")).eval()
    a = random(1, 2, 1)
    value = model(a.expand(1, 2, 16))[..., :1]
    for n in (13, 16, 24, 27):
        u = model(a.expand(1, 2, n))
        torch.testing.assert_close(u, value.expand_as(u), rtol=1e-10, atol=1e-10)


def test_refusals():
    grid = Grid.box((16, 16))
    with pytest.raises(ValueError, match="width=12 must be a multiple of its 8 heads"):
        small(grid, width=12)
    with pytest.raises(ValueError, match=r"ndim=2, but the grid has 2 axes and patch=\(2, 2, 2\)"):
        small(grid, patch=[2, 2, 2])
    with pytest.raises(ValueError, match="levels=0.*must be at least 1"):
        small(grid, levels=0)
    with pytest.raises(ValueError, match=r"2 channels, 2 axes.*\(1, 3, 16, 16\)"):
        small(grid)(random(1, 3, 16, 16))


@pytest.mark.slow
def test_exports_with_any_batch_size():
    grid = Grid.box((20, 16))
    model, a = small(grid).eval(), random(3, 2, 20, 16)
    program = torch.export.export(model, (a,), dynamic_shapes=({0: torch.export.Dim("b")},))
    b = random(5, 2, 20, 16)
    torch.testing.assert_close(program.module()(b), model(b), rtol=1e-12, atol=1e-12)
