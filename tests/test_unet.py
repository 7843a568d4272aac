"""U-Net: its published size, skips, boundaries, any size of grid."""

import pytest
import torch

from sciml.models import UNet
from sciml.models.unet import ResidualBlock
from solvers.grid import Axis, Grid

SMALL = {"width": 4, "multipliers": (1, 2, 3)}


def made(kind, *arguments, **settings):
    torch.manual_seed(0)
    return kind(*arguments, **settings).double()


def random(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_the_published_form():
    with torch.device("meta"):
        grid = Grid.box((128, 128))
        model = UNet(1, 1, 2, grid=grid, width=64, multipliers=(1, 2, 4, 16), blocks=2)
    assert count(model) == 144_256_193


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_parameters_follow_the_formula(ndim):
    ins, outs, w, last = 2, 3, 4, 12

    def conv(a, b, size=3):
        return a * b * size**ndim + b

    def block(a, b):
        return 2 * a + 2 * b + conv(a, b) + conv(b, b) + (conv(a, b, 1) if a != b else 0)

    expected = conv(ins, w) + 2 * w + conv(w, outs)
    expected += block(w, w) + block(w, last) + conv(w, w)  # down
    expected += 2 * block(last, last)
    expected += block(2 * last, last) + block(last + w, w) + conv(w, w, 4) + 2 * block(2 * w, w)
    grid = Grid.box((8,) * ndim)
    assert count(UNet(ins, outs, ndim, grid=grid, width=w, multipliers=(1, 3))) == expected


def test_a_block_is_its_formula():
    block = made(ResidualBlock, 3, 5, Grid.box((7, 6)))
    v = random(2, 3, 7, 6)

    def normal(u, norm):
        mean = u.mean(dim=(1, 2, 3), keepdim=True)
        variance = (u - mean).square().mean(dim=(1, 2, 3), keepdim=True)
        gain, shift = norm.weight[:, None, None], norm.bias[:, None, None]
        return (u - mean) / (variance + 1e-5).sqrt() * gain + shift

    def gelu(u):
        return u * 0.5 * (1 + torch.erf(u / 2**0.5))

    h = block.conv1(gelu(normal(v, block.norm1)))
    skip = torch.einsum("oi,bixy->boxy", block.skip.weight[..., 0, 0], v)
    expected = skip + block.skip.bias[:, None, None] + block.conv2(gelu(normal(h, block.norm2)))
    torch.testing.assert_close(block(v), expected)


def test_every_result_of_the_way_down_is_a_skip():
    """The blocks of the way up see 1 + blocks + strided convolutions, in the opposite order."""
    model = made(UNet, 1, 1, 2, grid=Grid.box((16, 16)), blocks=2, **SMALL)
    kept, seen = [], []
    down = [model.first]
    for level, blocks in enumerate(model.down):
        down += [model.coarsen[level - 1]] if level else []
        down += blocks
    for module in down:
        module.register_forward_hook(lambda _, inputs, output: kept.append(output))
    for blocks in model.up:
        for block in blocks:
            block.register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
    model(random(1, 1, 16, 16))
    assert len(kept) == len(seen) == 9
    for skip, joined in zip(reversed(kept), seen, strict=True):
        assert torch.equal(joined[:, -skip.shape[1] :], skip)


def test_equivariant_on_the_periodic_axis_alone():
    """By the stride of the coarsest level."""
    sides = ("periodic", "periodic")
    grid = Grid((Axis("x", 16, boundary=sides, points="left"), Axis("y", 13)))
    model = made(UNet, 1, 1, 2, grid=grid, **SMALL)
    a = random(1, 1, 16, 13)
    torch.testing.assert_close(model(a.roll(4, 2)), model(a).roll(4, 2), rtol=0, atol=1e-13)
    assert (model(a.roll(4, 3)) - model(a).roll(4, 3)).abs().max() > 1e-4


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann", "open"])
@pytest.mark.parametrize("shape", [(33, 20), (37, 45), (5, 2), (1, 3)], ids=str)
def test_any_size(shape, boundary):
    model = made(UNet, 1, 2, 2, grid=Grid.box((16, 16), boundary=boundary), **SMALL)
    u = model(random(2, 1, *shape))
    assert u.shape == (2, 2, *shape) and u.isfinite().all()


def test_refusals():
    grid = Grid.box((8, 8))
    with pytest.raises(ValueError, match="ndim=1, but the grid has 2 axes"):
        UNet(1, 1, 1, grid=grid)
    for wrong in ({"width": 0}, {"blocks": 0}, {"multipliers": ()}, {"multipliers": (1, 0)}):
        with pytest.raises(ValueError, match="one for each level, must be at least 1"):
            UNet(1, 1, 2, grid=grid, **wrong)
    model = UNet(2, 1, 2, grid=grid, **SMALL)
    with pytest.raises(ValueError, match=r"2 channels, 2 axes of points\], got shape \(1, 2, 8\)"):
        model(torch.zeros(1, 2, 8))
