"""Message passing: neighbours, symmetry, locality, published size, a dense reference, refusals."""

import itertools

import pytest
import torch
from torch import nn

from datasets.schema import Frames
from sciml.layers.neighbours import Neighbours
from sciml.models import MessagePassing
from sciml.models.message_passing import MessageLayer, _decoder
from solvers.grid import Axis, Grid


def periodic(*shape):
    return Grid.box(shape, boundary="periodic", points="left")


def small(grid, frames, ins=None, **settings):
    torch.manual_seed(0)
    settings = {"hidden": 12, "depth": 2, **settings}
    outs = frames.horizon * frames.channels
    ins = ins or frames.history * frames.channels
    model = MessagePassing(ins, outs, grid.ndim, grid=grid, frames=frames, **settings)
    return model.double()


def noise(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_published_size():
    """25 frames in and out, the time and one coordinate beside them, 128 channels, 6 layers."""
    model = MessagePassing(
        26, 25, 1, grid=Grid.box((100,)), frames=Frames(25, 25, 1, 0.1), hidden=128, depth=6
    )
    encoder = (27 * 128 + 128) + (128 * 128 + 128)
    message = ((128 + 128 + 25 + 1 + 1) * 128 + 128) + (128 * 128 + 128)
    update = ((128 + 128 + 1) * 128 + 128) + (128 * 128 + 128)
    decoder = (8 * 16 + 8) + (8 * 14 + 1)
    count = encoder + 6 * (message + update) + decoder
    assert sum(p.numel() for p in model.parameters()) == count == 634_745


@pytest.mark.parametrize(
    "horizon, first, second", [(20, (15, 4), 10), (25, (16, 3), 14), (50, (12, 2), 10)]
)
def test_published_decoders(horizon, first, second):
    one, _, two = _decoder(128, horizon, 1)
    assert (*one.kernel_size, *one.stride) == first and two.kernel_size == (second,)


@pytest.mark.parametrize("hidden, horizon", list(itertools.product((8, 32, 128), (1, 2, 7, 8))))
def test_every_window_has_a_decoder(hidden, horizon):
    assert _decoder(hidden, horizon, 3)(torch.zeros(5, 1, hidden)).shape == (5, 3, horizon)


def test_neighbours_of_a_line():
    inside = Neighbours(Grid.box((5,)), 2.0)
    assert inside.index.shape == (5, 4)
    present = [inside.index[i][inside.share[i] > 0].tolist() for i in range(5)]
    assert present == [[1, 2], [0, 2, 3], [0, 1, 3, 4], [1, 2, 4], [2, 3]]
    torch.testing.assert_close(inside.share.sum(dim=1), torch.ones(5).double())
    around = Neighbours(periodic(5), 2.0)
    assert around.index[0].tolist() == [3, 4, 1, 2]
    torch.testing.assert_close(around.offset[:, 0], torch.tensor([-2, -1, 1, 2]).double() / 5)


@pytest.mark.parametrize("radius, count", [(1.0, 4), (1.5, 8), (2.0, 12)])
def test_neighbours_lie_where_the_offset_says(radius, count):
    """Also with mixed sides and unequal spacing."""
    grid = Grid(
        (Axis("x", 7, upper=2.0, boundary=("periodic", "periodic"), points="left"), Axis("y", 6))
    )
    neighbours = Neighbours(grid, radius)
    assert neighbours.index.shape == (42, count)
    x = grid.mesh().flatten(1) / torch.tensor([[2.0], [1.0]])
    apart = x[:, neighbours.index] - x[:, :, None] - neighbours.offset.T[:, None]
    apart[0] -= apart[0].round()  # around the periodic axis
    assert apart[:, neighbours.share > 0].abs().max() < 1e-12
    beyond = x[1][:, None] + neighbours.offset[:, 1]
    assert torch.equal(neighbours.share > 0, (beyond > 0) & (beyond < 1))


def test_equivariant_on_periodic_axes():
    model = small(periodic(9, 8), Frames(2, 3, 1, 0.1), ins=3)
    a = noise(2, 3, 9, 8)
    torch.testing.assert_close(model(a.roll((4, 5), (2, 3))), model(a).roll((4, 5), (2, 3)))
    walls = small(Grid.box((9, 8)), Frames(2, 3, 1, 0.1), ins=3)
    assert (walls(a.roll(4, 2)) - walls(a).roll(4, 2)).abs().max() > 1e-3


def test_the_order_of_neighbours_does_not_matter(monkeypatch):
    model = small(Grid.box((6, 7)), Frames(1, 2, 1, 0.1), radius=1.5)
    a = noise(2, 1, 6, 7)
    before = model(a)

    class Permuted(Neighbours):
        def __init__(self, grid, radius):
            super().__init__(grid, radius)
            order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
            self.index, self.share = self.index[:, order], self.share[:, order]
            self.offset = self.offset[order]

    monkeypatch.setattr("sciml.models.message_passing.Neighbours", Permuted)
    torch.testing.assert_close(model(a), before, rtol=0, atol=1e-13)


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet"])
@pytest.mark.parametrize("depth, radius", [(1, 1.0), (2, 1.0), (2, 3.0)])
def test_locality(depth, radius, boundary):
    """Without the normalisation, an input reaches depth * radius points, and no further."""
    points = "left" if boundary == "periodic" else "cells"
    grid = Grid.box((31,), boundary=boundary, points=points)
    model = small(grid, Frames(1, 1, 1, 0.1), depth=depth, radius=radius)
    for layer in model.layers:
        layer.norm = nn.Identity()
    a = noise(1, 1, 31)
    for place in (0, 15):
        other = a.clone()
        other[0, 0, place] += 10
        reached = (model(other) != model(a))[0, 0].nonzero()[:, 0]
        distance = (reached - place).abs()
        if boundary == "periodic":
            distance = torch.minimum(distance, 31 - distance)
        assert distance.max() == depth * radius


def test_a_layer_equals_its_pairs():
    """The messages of all pairs, one by one, with the published order of their inputs."""
    torch.manual_seed(0)
    grid = Grid.box((3, 4))
    layer = MessageLayer(5, 2, 2, 3).double()
    h, u, theta = noise(12, 2, 5), noise(12, 2, 2), noise(12, 2, 3)
    neighbours = Neighbours(grid, 1.5).to(h)
    ours = layer(h, u, theta, neighbours)
    x = grid.mesh().flatten(1).T
    rows = []
    for i in range(12):
        messages = []
        for j in range(12):
            if i != j and ((x[i] - x[j]) * torch.tensor([3, 4])).norm() < 1.6:
                place = (x[i] - x[j]).expand(2, 2)
                pair = torch.cat((h[i], h[j], u[i] - u[j], place, theta[i]), dim=-1)
                messages.append(layer.message(pair))
        mean = torch.stack(messages).mean(dim=0)
        rows.append(h[i] + layer.update(torch.cat((h[i], mean, theta[i]), dim=-1)))
    whole = torch.stack(rows)
    norm = nn.InstanceNorm1d(5, eps=1e-5).double()
    expected = norm(whole.permute(1, 2, 0)).permute(2, 0, 1)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-12)


def test_the_output_is_the_last_frame_and_a_change():
    """u + (k / n) d_k; without a decoder the last frame stays."""
    model = small(periodic(8), Frames(3, 4, 2, 0.1), ins=7)
    a = noise(2, 7, 8)
    last = a[:, 4:6]
    torch.nn.init.zeros_(model.decoder[2].weight)
    torch.nn.init.constant_(model.decoder[2].bias, 1.0)
    u = model(a).unflatten(1, (4, 2))
    for k in range(4):
        torch.testing.assert_close(u[:, k], last + (k + 1) / 4, rtol=0, atol=1e-14)


def test_a_steady_map_is_the_decoder_alone():
    torch.manual_seed(0)
    model = MessagePassing(1, 1, 2, grid=Grid.box((6, 6)), hidden=12, depth=1).double()
    assert not model.window.evolves
    torch.nn.init.zeros_(model.decoder[2].weight)
    torch.nn.init.constant_(model.decoder[2].bias, 2.0)
    assert torch.equal(model(noise(1, 1, 6, 6)), torch.full((1, 1, 6, 6), 2.0).double())


@pytest.mark.parametrize(
    "grid, settings, message",
    [
        (periodic(8), {"radius": 0.5}, "radius=0.5 must be at least 1"),
        (periodic(4), {"radius": 2.0}, "needs at least 5 points"),
        (periodic(8), {"depth": 0}, "depth=0"),
        (periodic(8), {"hidden": 2}, "hidden=2 channels cannot be decoded to 3 frames"),
        (periodic(8), {"ins": 1}, "do not fit 1 input and 3 target channels"),
    ],
)
def test_refusals(grid, settings, message):
    with pytest.raises(ValueError, match=message):
        small(grid, Frames(2, 3, 1, 0.1), **settings)
