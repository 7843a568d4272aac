"""MIONet: a product of branch nets, linear in each input where they are."""

from functools import partial

import pytest
import torch

from sciml.layers import FourierBranch, PerceptronBranch, Trunk
from sciml.models import DeepONet, MIONet
from solvers.grid import Grid

GRID = Grid.box((10, 9))


def small(ins=3, outs=2, *, branch=PerceptronBranch, widths=(6,), grid=GRID, **settings):
    torch.manual_seed(0)
    branch, trunk = partial(branch, widths=widths), partial(Trunk, widths=(8,))
    return MIONet(
        ins, outs, 2, grid=grid, features=5, branch=branch, trunk=trunk, **settings
    ).double()


def fields(samples=3, ins=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, ins, *GRID.shape, generator=generator, dtype=torch.float64)


def test_a_dense_product():
    model = small()
    model.bias.data = torch.tensor([1.0, -1.0], dtype=torch.float64)
    a, t = fields(), model.trunk(GRID.mesh().flatten(1).T)
    parts = [net(a[:, i : i + 1], GRID).view(3, 2, 5) for i, net in enumerate(model.branches)]
    expected = torch.einsum("bok,bok,bok,nk->bon", *parts, t) + model.bias[:, None]
    torch.testing.assert_close(model(a).flatten(2), expected)
    points = GRID.mesh().flatten(1).T[:7].expand(3, -1, -1)
    torch.testing.assert_close(model.at(a, points), expected[..., :7])


def test_linear_in_each_input():
    """With linear branch nets; not in all of them together."""
    model = small(widths=())
    a, b = fields(seed=1), fields(seed=2)
    for i in range(3):
        one, two, both = a.clone(), a.clone(), a.clone()
        two[:, i] = b[:, i]
        both[:, i] = 2 * a[:, i] - 3 * b[:, i]
        torch.testing.assert_close(model(both), 2 * model(one) - 3 * model(two))
    torch.testing.assert_close(model(2 * a), 8 * model(a))


def test_counts():
    """Of one branch net for each input function, by hand."""
    net = (90 + 1) * 6 + 7 * 2 * 5
    pair = (180 + 1) * 6 + 7 * 2 * 5
    trunk = 3 * 8 + 9 * 5
    assert sum(p.numel() for p in small().parameters()) == 3 * net + trunk + 2
    grouped = small(groups=[[0, 2], [1]])
    assert sum(p.numel() for p in grouped.parameters()) == pair + net + trunk + 2


def test_groups_are_input_functions():
    model = small(groups=[[2, 0], [1]])
    a = fields()
    parts = [
        model.branches[0](a[:, [2, 0]], GRID).view(3, 2, 5),
        model.branches[1](a[:, [1]], GRID).view(3, 2, 5),
    ]
    t = model.trunk(GRID.mesh().flatten(1).T)
    expected = torch.einsum("bok,bok,nk->bon", *parts, t)
    torch.testing.assert_close(model(a).flatten(2), expected)


def test_one_input_function_is_a_deeponet():
    model = small(1)
    branch, trunk = partial(PerceptronBranch, widths=(6,)), partial(Trunk, widths=(8,))
    other = DeepONet(1, 2, 2, grid=GRID, features=5, branch=branch, trunk=trunk).double()
    state = {k.replace("trunk.", "trunks.0."): v for k, v in model.state_dict().items()}
    other.load_state_dict(state)
    assert torch.equal(model(fields(ins=1)), other(fields(ins=1)))


def test_the_rank_is_that_of_the_functions():
    model = small(outs=1, branch=FourierBranch, grid=GRID.resized((18, 18)))
    u = model(torch.randn(30, 3, 18, 18, dtype=torch.float64)).flatten(1)
    assert torch.linalg.matrix_rank(u + 1) <= 5 + 1


@pytest.mark.parametrize("groups", [[[0], [1]], [[0, 1], [1, 2]], [[0, 1, 2], []], [[0, 1, 3]]])
def test_groups_that_are_not_the_channels(groups):
    with pytest.raises(ValueError, match="must hold each of the 3 channels"):
        small(groups=groups)


def test_features_are_needed():
    with pytest.raises(ValueError, match="features=0 must be at least 1"):
        MIONet(1, 1, 2, grid=GRID, features=0)
