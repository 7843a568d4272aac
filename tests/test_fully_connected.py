"""The fully connected network against a loop over matrices; numbers go in once."""

import pytest
import torch

from datasets.schema import Field, Metadata
from sciml.models import FullyConnected, build_model
from solvers.grid import Grid

GRID = Grid.box((5, 4))


def inputs(fields, numbers, samples=3):
    """Random fields, and numbers as the views that `Windows` makes of them."""
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(samples, fields, 5, 4, generator=generator, dtype=torch.float64)
    row = torch.randn(samples, numbers, generator=generator, dtype=torch.float64)
    return u, row, row[:, :, None, None].expand(-1, -1, 5, 4)


def small(ins=3, outs=2, numbers=2, hidden=(7, 6), **settings):
    torch.manual_seed(0)
    return FullyConnected(
        ins, outs, 2, grid=GRID, numbers=numbers, hidden=hidden, **settings
    ).double()


def by_hand(model, z, activation):
    """Layer after layer, row by row."""
    linears = [m for m in model.layers if isinstance(m, torch.nn.Linear)]
    for linear in linears:
        z = torch.stack([(row * z).sum(dim=1) for row in linear.weight], dim=1) + linear.bias
        z = activation(z) if linear is not linears[-1] else z
    return z.reshape(len(z), -1, 5, 4)


@pytest.mark.parametrize("fields, numbers", [(1, 2), (0, 3), (2, 0)])
def test_it_is_a_loop_over_matrices(fields, numbers):
    u, row, view = inputs(fields, numbers)
    model = small(fields + numbers, numbers=numbers)
    z = torch.cat((u.reshape(3, -1), row), dim=1)
    expected = by_hand(model, z, lambda z: z * torch.sigmoid(z))
    found = model(torch.cat((u, view), dim=1))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_a_number_goes_in_once():
    model = small()
    widths = [(m.in_features, m.out_features) for m in list(model.layers)[::2]]
    assert widths == [(20 + 2, 7), (7, 6), (6, 2 * 20)]
    count = sum(p.numel() for p in model.parameters())
    assert count == 23 * 7 + 8 * 6 + 7 * 40


def test_expanded_numbers_alone():
    """The input of a map without frames, which is a view of one number a channel."""
    _, row, view = inputs(0, 3)
    model = small(3, numbers=3)
    assert view.stride()[2:] == (0, 0)
    torch.testing.assert_close(model(view), model(view.contiguous()), rtol=0, atol=0)
    torch.testing.assert_close(model(view).flatten(1), model.layers(row), rtol=0, atol=0)


def test_without_hidden_layers_it_is_affine():
    u, _, view = inputs(1, 2)
    model, a = small(hidden=()), torch.cat((u, view), dim=1)
    mean = (model(a) + model(3 * a)) / 2
    torch.testing.assert_close(model(2 * a), mean, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "fields, parameters, numbers",
    [
        (("a", "left", "time"), ("left", "time"), 2),
        (("left", "time"), ("left", "time"), 2),
        (("a",), (), 0),
        (("a",), ("left",), 0),  # in the batch, not in the input
        (("a", "left"), ("left", "time"), 0),
    ],
)
def test_the_metadata_say_which_channels_are_numbers(fields, parameters, numbers):
    given = tuple(Field(name) for name in fields)
    meta = Metadata("m", given, (Field("u"),), GRID, parameters)
    model = build_model({"_target_": "sciml.models.FullyConnected", "hidden": [3]}, meta)
    assert model.layers[0].in_features == 20 * (len(fields) - numbers) + numbers


def test_wrong_settings():
    with pytest.raises(ValueError, match="ndim=1 must be that of the grid, 2"):
        FullyConnected(1, 1, 1, grid=GRID)
    with pytest.raises(ValueError, match="numbers=2 must be some of the 1 channels"):
        FullyConnected(1, 1, 2, grid=GRID, numbers=2)
    with pytest.raises(ValueError, match=r"widths \[20, 0, 20\] of a stack"):
        FullyConnected(1, 1, 2, grid=GRID, hidden=[0])


def test_another_grid_is_refused():
    with pytest.raises(ValueError, match=r"made for the grid \(5, 4\), got \(4, 5\); .* train one"):
        small()(torch.zeros(1, 3, 4, 5).double())
    with pytest.raises(ValueError, match=r"expected \[batch, 3 channels, 2 axes\], got \(1, 2, 5"):
        small()(torch.zeros(1, 2, 5, 4).double())
