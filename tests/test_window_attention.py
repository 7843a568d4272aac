"""Windows, their attention and its bias, against dense attention over the whole field."""

import itertools
import math

import pytest
import torch

from sciml.layers import PositionBias, WindowAttention, join_windows, largest_window, split_windows

SHAPES = [((12,), (4,)), ((8, 6), (4, 3)), ((4, 6, 8), (2, 3, 4))]


@pytest.mark.parametrize("shape, window", SHAPES, ids=str)
def test_windows_are_a_permutation(shape, window):
    x = torch.arange(2 * math.prod(shape) * 3).view(2, *shape, 3)
    parts = split_windows(x, window)
    assert parts.shape == (2, math.prod(shape) // math.prod(window), math.prod(window), 3)
    assert torch.equal(parts.flatten().sort().values, x.flatten())
    assert torch.equal(join_windows(parts, window, shape), x)


def test_windows_are_boxes_row_by_row():
    x = torch.arange(24).view(1, 4, 6, 1)
    parts = split_windows(x, (2, 3))[0, :, :, 0]
    assert parts.tolist() == [
        [0, 1, 2, 6, 7, 8],
        [3, 4, 5, 9, 10, 11],
        [12, 13, 14, 18, 19, 20],
        [15, 16, 17, 21, 22, 23],
    ]


def log_spaced(d, reach):
    return math.copysign(math.log(1 + 8 * abs(d) / (reach - 1)) / math.log(8), d) if d else 0.0


@pytest.mark.parametrize("window", [(4,), (3, 4), (2, 3, 4)], ids=str)
@pytest.mark.parametrize("whole", [False, True])
def test_bias_is_a_function_of_the_distance(window, whole):
    torch.manual_seed(0)
    bias = PositionBias(len(window), 2, 5).double()
    table = bias(window, (whole,) * len(window))
    points = list(itertools.product(*map(range, window)))
    for (i, x), (j, y) in itertools.product(enumerate(points), repeat=2):
        d = [p - q for p, q in zip(x, y, strict=True)]
        if whole:  # the shorter way round
            d = [(e + w // 2) % w - w // 2 for e, w in zip(d, window, strict=True)]
        spaced = torch.tensor([log_spaced(e, 5) for e in d], dtype=torch.float64)
        expected = 16 * torch.sigmoid(bias.mlp(spaced))
        torch.testing.assert_close(table[:, i, j], expected, rtol=1e-12, atol=1e-12)


def test_a_smaller_window_has_the_bias_of_the_same_distances():
    bias = PositionBias(1, 3, 8).double()
    torch.testing.assert_close(bias((8,), (False,))[:, :5, :5], bias((5,), (False,)))


def dense(layer, x, shift):
    """The same attention with a mask over all pairs of points of x [b, *space, c]."""
    shape, n = x.shape[1:-1], x.ndim - 2
    points = list(itertools.product(*map(range, shape)))
    window = [largest_window(size, layer.window) for size in shape]
    allowed = torch.zeros(len(points), len(points), dtype=torch.bool)
    offsets = torch.zeros(len(points), len(points), n, dtype=torch.float64)
    for (i, p), (j, q) in itertools.product(enumerate(points), repeat=2):
        together = True
        for axis in range(n):
            size, w = shape[axis], window[axis]
            s = shift * w // layer.window if w < size else 0
            a, b, d = p[axis] - s, q[axis] - s, p[axis] - q[axis]
            if layer.periodic[axis]:
                together &= (a % size) // w == (b % size) // w
                d = (a % size) - (b % size) if w < size else (d + w // 2) % w - w // 2
            else:  # windows of the shifted lattice, those at the sides are cut off
                together &= a // w == b // w
            offsets[i, j, axis] = log_spaced(d, layer.window)
        allowed[i, j] = together
    flat = x.flatten(1, -2)
    q, k, v = (f(flat).unflatten(-1, (layer.heads, -1)) for f in parts(layer))
    cosine = torch.einsum("bihc,bjhc->bhij", q, k)
    cosine /= q.norm(dim=-1).movedim(-1, 1)[..., None] * k.norm(dim=-1).movedim(-1, 1)[..., None, :]
    scale = torch.minimum(layer.log_scale.exp(), torch.tensor(100.0))
    logits = scale * cosine + 16 * torch.sigmoid(layer.bias.mlp(offsets)).movedim(-1, 0)
    weights = torch.softmax(logits.where(allowed, -torch.inf), dim=-1)
    y = torch.einsum("bhij,bjhc->bihc", weights, v).flatten(-2)
    return layer.output(y).view(x.shape)


def parts(layer):
    return layer.queries, layer.keys, layer.values


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize(
    "shape, periodic",
    [
        ((12,), (True,)),
        ((12,), (False,)),
        ((3,), (True,)),
        ((9,), (True,)),
        ((6,), (False,)),
        ((8, 12), (True, True)),
        ((8, 8), (False, False)),
        ((8, 8), (False, True)),
        ((4, 8), (True, False)),
        ((3, 8), (False, True)),
        ((2, 8, 4), (False, True, False)),
    ],
    ids=str,
)
def test_attention_is_dense_attention_with_a_mask(shape, periodic, shift):
    torch.manual_seed(0)
    layer = WindowAttention(6, 3, 4, shift, periodic).double()
    layer.log_scale.data[0] = 6.0  # above the bound of 100
    x = torch.randn(2, *shape, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), dense(layer, x, shift), rtol=1e-10, atol=1e-12)


def test_walls_keep_the_sides_apart():
    """The first points do not depend on the last with walls; round a periodic axis they do."""
    torch.manual_seed(0)
    for periodic in (False, True):
        layer = WindowAttention(4, 2, 4, 2, (periodic,)).double()
        x = torch.randn(1, 12, 4, dtype=torch.float64)
        moved = x.clone()
        moved[:, -2:] += 1
        change = (layer(moved) - layer(x)).abs().amax(dim=-1)[0]
        assert (change[:2].max() > 1e-6) == periodic
        assert change[2:-2].max() == 0
        assert change[-2:].min() > 1e-6


def test_a_whole_period_is_equivariant_to_every_shift():
    layer = WindowAttention(4, 2, 8, 4, (True, False)).double()
    x = torch.randn(1, 8, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x.roll(3, 1)), layer(x).roll(3, 1), rtol=0, atol=1e-13)


def test_largest_window():
    assert [largest_window(n, 8) for n in (4, 8, 9, 11, 12, 32, 36)] == [4, 8, 3, 1, 6, 8, 6]


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="channels=10 must be a multiple of heads=4"):
        WindowAttention(10, 4, 4, 0, (True,))
