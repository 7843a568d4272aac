"""Patches: cut and stitched they are the field; what coarse views and points outside hold."""

import math

import pytest
import torch

from sciml.layers import Patching
from solvers.grid import Axis, Grid


def periodic(shape):
    return Grid.box(shape, boundary="periodic", points="left")


def noise(*shape):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def fine(patching, x):
    """The finest group of channels of the patches."""
    return patching.patch(x)[:, : x.shape[1]]


@pytest.mark.parametrize("padding", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("levels", [0, 1, 2])
@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann", "open"])
@pytest.mark.parametrize("shape", [(4,), (421,), (21, 16), (5, 7, 6)], ids=str)
def test_stitching_inverts_cutting(shape, boundary, levels, padding):
    patching = Patching(Grid.box(shape, boundary=boundary, points="cells"), levels, padding)
    x = noise(2, 3, *shape)
    patches = patching.patch(x)
    assert patches.shape == (2 ** (levels * len(shape)) * 2, (levels + 1) * 3, *patching.window)
    cropped = patching.crop(fine(patching, x))
    assert torch.equal(patching.stitch(cropped), x)


@pytest.mark.parametrize("shape", [(16,), (16, 32), (16, 16, 32)], ids=str)
@pytest.mark.parametrize("levels", [1, 2])
def test_coarse_views_are_strided_inputs(levels, shape):
    """On a periodic grid: x[::2^l] rolled, with the patch in the middle."""
    patching = Patching(periodic(shape), levels, 0.0)
    x = noise(1, 1, *shape)
    patches = patching.patch(x).unflatten(0, (2**levels,) * len(shape))
    for level in range(levels + 1):
        step = 2**level
        strided = x[(..., *[slice(None, None, step)] * len(shape))]
        for place in torch.cartesian_prod(*[torch.arange(2**levels)] * len(shape)).reshape(
            -1, len(shape)
        ):
            expected = strided
            for axis, (i, s) in enumerate(zip(place.tolist(), patching.size, strict=True)):
                first = i * s // step - math.ceil((s - s / step) / 2)
                n = expected.shape[2 + axis]
                index = torch.arange(first, first + s) % n
                expected = expected.index_select(2 + axis, index)
            assert torch.equal(patches[tuple(place.tolist())][level], expected[0, 0])


@pytest.mark.parametrize("shape, levels", [((32,), 2), ((16, 24), 1), ((8, 12, 16), 2)], ids=str)
def test_translation_permutes_patches(shape, levels):
    """By one patch along an axis: the samples change places, coarse views and padding included."""
    patching = Patching(periodic(shape), levels, 0.1)
    x = noise(2, 1, *shape)
    places = (2**levels,) * len(shape)
    before = patching.patch(x).unflatten(0, (*places, 2))
    for axis, size in enumerate(patching.size):
        after = patching.patch(x.roll(size, 2 + axis)).unflatten(0, (*places, 2))
        assert torch.equal(after, before.roll(1, axis))


@pytest.mark.parametrize(
    "shape, levels, padding",
    [((32, 32), 1, 0.0), ((64, 32), 2, 0.0), ((64, 64), 2, 0.0625), ((128, 128), 3, 0.03)],
    ids=str,
)
def test_the_same_patches_as_the_library(shape, levels, padding):
    """Where it works: periodic, two dimensions, sizes that the patches divide."""
    from neuralop.training.patching import MultigridPatching2D

    library = MultigridPatching2D(torch.nn.Identity(), levels, padding, stitching=True)
    patching = Patching(periodic(shape), levels, padding)
    x = noise(2, 3, *shape)
    theirs, _ = library.patch(x, x)
    ours = patching.patch(x).unflatten(0, (patching.patches, 2)).transpose(0, 1).flatten(0, 1)
    assert torch.equal(ours, theirs)


def test_compression():
    """(H W) / ((H / n + 2 p)^2 (levels + 1)) of the paper's accounting."""
    patching = Patching(periodic((64, 64)), 2, 0.0625)
    assert patching.window == (24, 24)
    assert patching.compression == pytest.approx(64 * 64 / (24 * 24 * 3))
    assert Patching(periodic((64, 64)), 0, 0.25).compression == 1  # periodic: nothing to pad


def test_points_outside():
    """What stands there: across periodic sides, mirrored at Neumann sides, else the last value."""

    def window(boundary, points):
        grid = Grid((Axis("x", 4, boundary=boundary, points=points),))
        x = torch.arange(4.0).reshape(1, 1, 4)
        return Patching(grid, 1, 0.75).patch(x)[:, 0].int().tolist()

    sides = ("periodic", "periodic")
    assert window(sides, "left") == [[1, 2, 3, 0, 1, 2, 3, 0], [3, 0, 1, 2, 3, 0, 1, 2]]
    sides = ("neumann", "neumann")
    assert window(sides, "cells") == [[2, 1, 0, 0, 1, 2, 3, 3], [0, 0, 1, 2, 3, 3, 2, 1]]
    assert window(sides, "nodes") == [[3, 2, 1, 0, 1, 2, 3, 2], [1, 0, 1, 2, 3, 2, 1, 0]]
    assert window(sides, "left")[1] == [1, 0, 1, 2, 3, 3, 3, 2]
    sides = ("dirichlet", "neumann")
    assert window(sides, "cells") == [[0, 0, 0, 0, 1, 2, 3, 3], [0, 0, 1, 2, 3, 3, 2, 1]]
    assert window(("open", "open"), "nodes")[0] == [0, 0, 0, 0, 1, 2, 3, 3]


@pytest.mark.parametrize("points", ["cells", "left", "nodes"])
@pytest.mark.parametrize("shape", [(15,), (16, 9), (5, 4, 7)], ids=str)
def test_positions(shape, points):
    """Inside, every view holds the coordinate of the very point whose value it holds."""
    axes = tuple(
        Axis(name, n, -1.0, 2.0, points=points) for name, n in zip("xyz", shape, strict=False)
    )
    patching = Patching(Grid(axes), 1, 0.2)
    scaled = (patching.grid.mesh() + 1) / 3
    ndim = len(shape)
    positions = patching.positions(scaled)
    assert positions.shape == (2**ndim, patching.num_positions, *patching.window)
    views = patching.patch(scaled[None])
    for level in range(2):
        found = positions[:, level * (ndim + 1) : (level + 1) * (ndim + 1)]
        values = views[:, level * ndim : (level + 1) * ndim]
        inside = found[:, -1:]
        assert set(inside.unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(found[:, :-1] * inside, values * inside)
        step = found[:, 0].diff(dim=1)  # and beyond the sides they go on evenly
        torch.testing.assert_close(
            step, torch.full_like(step, 2**level * axes[0].spacing / axes[0].length)
        )


def test_positions_along_walls_only():
    sides = ("periodic", "periodic")
    grid = Grid((Axis("x", 8, boundary=sides, points="left"), Axis("y", 8)))
    patching = Patching(grid, 1, 0.0)
    assert patching.num_positions == 2 * 2
    positions = patching.positions(torch.zeros(1))
    assert torch.equal(positions, positions[:, :, :1].expand_as(positions))
    assert Patching(periodic((8, 8)), 1, 0.0).positions(torch.zeros(1)).shape == (4, 0, 4, 4)


def test_gradients_come_back_to_their_points():
    patching = Patching(Grid.box((7, 6)), 1, 0.2)
    x = noise(1, 1, 7, 6).requires_grad_()
    assert torch.autograd.gradcheck(patching.patch, x)
    y = patching.crop(patching.patch(x)[:, :1]).detach().requires_grad_()
    assert torch.autograd.gradcheck(patching.stitch, y)


def test_refusals():
    with pytest.raises(ValueError, match=r"levels=2 needs at least 4 points per axis.*\(8, 3\)"):
        Patching(Grid.box((8, 3)), 2, 0.0)
    with pytest.raises(ValueError, match="levels=-1 and padding=0.0 must not be negative"):
        Patching(Grid.box((8,)), -1, 0.0)
