"""DeepONet: parameter counts, fields of several channels, free points, derivatives, learning."""

from functools import partial

import pytest
import torch

from sciml.layers import ConvolutionBranch, FourierBranch, PerceptronBranch, Trunk
from sciml.models import DeepONet
from solvers.grid import Axis, Grid

WAYS = ["independent", "split_both", "split_branch", "split_trunk"]
MIXED = Grid((Axis("x", 12, 0.0, 2.0, ("periodic", "periodic"), "left"), Axis("y", 10, -1.0, 2.0)))


def count(module):
    return sum(p.numel() for p in module.parameters())


def small(grid=MIXED, ins=2, outs=3, *, branch=PerceptronBranch, width=8, **settings):
    torch.manual_seed(0)
    branch = partial(branch, widths=(width,))
    trunk = partial(Trunk, widths=(width,), activation="tanh")
    settings = {"features": 5, **settings}
    return DeepONet(ins, outs, grid.ndim, grid=grid, branch=branch, trunk=trunk, **settings)


def fields(grid, channels=2, samples=3):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(samples, channels, *grid.shape, generator=generator, dtype=torch.float64)


def published(grid, branch, trunk, activation, **more):
    return DeepONet(
        1,
        1,
        grid.ndim,
        grid=grid,
        branch=partial(branch, activation=activation, **more),
        trunk=partial(Trunk, widths=trunk, activation=activation),
    )


def test_the_published_counts():
    """By hand, and the figures that public notebooks print for the same layers."""
    burgers = Grid.box((128,), boundary="periodic", points="left")
    model = published(burgers, PerceptronBranch, (128,) * 2, "tanh", widths=(128,) * 3)
    assert count(model) == 4 * (128 * 129) + (4 + 1) * 128 + 2 * (128 * 129) + 1 == 99_713
    # yaohua32/Deep-Neural-Operators-for-PDEs: the coordinate itself, and a trunk layer more
    walls = Grid.box((128,))
    model = published(walls, PerceptronBranch, (128,) * 3, "tanh", widths=(128,) * 3)
    assert count(model) == 115_841
    darcy = Grid.box((29, 29), points="nodes")
    model = published(darcy, ConvolutionBranch, (128,) * 3, "relu", channels=(64, 128))
    assert count(model) == 682_753


@pytest.mark.parametrize("way", WAYS)
def test_counts_of_fields_of_several_channels(way):
    """3 channels, 5 functions each, one hidden layer of 8 in both nets."""
    sensors, coordinates = 2 * 12 * 10, 4 + 1

    def branch(outputs):
        return (sensors + 1) * 8 + 9 * outputs

    def trunk(outputs):
        return (coordinates + 1) * 8 + 9 * outputs

    expected = {
        "independent": 3 * (branch(5) + trunk(5)),
        "split_both": branch(15) + trunk(15),
        "split_branch": branch(15) + trunk(5),
        "split_trunk": branch(5) + trunk(15),
    }
    assert count(small(outputs=way)) == expected[way] + 3


@pytest.mark.parametrize("way", WAYS)
def test_a_dense_sum(way):
    """Channel o takes the o-th group of features of the nets that are divided."""
    model = small(outputs=way).double()
    model.bias.data = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    a, points = fields(MIXED), MIXED.mesh().flatten(1).T
    for o, u in enumerate(model(a).unbind(1)):
        net = o if way == "independent" else 0
        b, t = model.branches[net](a, MIXED), model.trunks[net](points)
        b = b[:, 5 * o : 5 * o + 5] if way in ("split_both", "split_branch") else b
        t = t[:, 5 * o : 5 * o + 5] if way in ("split_both", "split_trunk") else t
        torch.testing.assert_close(u.flatten(1), b @ t.T + model.bias[o])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("branch", [PerceptronBranch, ConvolutionBranch, FourierBranch])
def test_free_points(branch, way):
    """Points of the grid give the field; each sample may have points of its own."""
    grid = MIXED.resized((24, 20))
    model = small(grid, branch=branch, outputs=way).double()
    a = fields(grid)
    points = grid.mesh().flatten(1).T
    u = model(a)
    torch.testing.assert_close(model.at(a, points), u.flatten(2), rtol=0, atol=1e-13)
    own = torch.stack([points[i : i + 7] for i in (0, 100, 301)])
    expected = torch.stack([u.flatten(2)[k, :, i : i + 7] for k, i in enumerate((0, 100, 301))])
    torch.testing.assert_close(model.at(a, own), expected, rtol=0, atol=1e-13)


def test_the_same_function_on_another_grid():
    """Evaluated on a grid that holds the points of the first, for an input that both hold."""
    grid = Grid.box((9, 9), points="nodes")
    fine = grid.resized((17, 17))
    model = small(grid, 1, 1).double()

    def a(grid):
        x, y = grid.mesh()
        return (1 + x - 2 * y + x * y)[None, None]

    assert model(a(fine)).shape == (1, 1, 17, 17)
    torch.testing.assert_close(model(a(fine))[..., ::2, ::2], model(a(grid)))


@pytest.mark.parametrize("way", WAYS)
def test_outputs_lie_in_a_space_of_few_dimensions(way):
    """Of each channel; of all together too where they share the functions."""
    model = small(outputs=way).double()
    model.bias.data += 1
    u = model(fields(MIXED, samples=40))
    ranks = [torch.linalg.matrix_rank(u[:, o].flatten(1)) for o in range(3)]
    assert max(ranks) <= 5 + 1
    together = torch.linalg.matrix_rank(u.transpose(0, 1).flatten(0, 1).flatten(1))
    assert (together <= 5 + 1) == (way == "split_branch")


def test_derivatives_by_position():
    """u_x, u_yy and a residual's gradient for the weights, as losses of an equation need them."""
    model = small().double()
    a = fields(MIXED)
    points = torch.rand(6, 2, dtype=torch.float64).requires_grad_()
    u = model.at(a, points)[:, 1].sum()
    (slope,) = torch.autograd.grad(u, points, create_graph=True)
    (bend,) = torch.autograd.grad(slope[:, 1].sum(), points, create_graph=True)

    def moved(step):
        return model.at(a, points + torch.tensor(step, dtype=torch.float64))[:, 1].sum(0)

    difference = (moved([1e-5, 0.0]) - moved([-1e-5, 0.0])) / 2e-5
    torch.testing.assert_close(slope[:, 0], difference, rtol=1e-7, atol=1e-8)
    difference = (moved([0.0, 1e-3]) - 2 * moved([0.0, 0.0]) + moved([0.0, -1e-3])) / 1e-6
    torch.testing.assert_close(bend[:, 1], difference, rtol=1e-5, atol=1e-6)
    (slope[:, 0] - bend[:, 1]).square().sum().backward()
    gradients = [p.grad for net in (model.branches, model.trunks) for p in net.parameters()]
    assert all(g is not None and g.abs().max() > 0 for g in gradients)


def test_periodic_functions_close():
    model = small().double()
    a = fields(MIXED)
    left = torch.tensor([[0.0, 0.3]], dtype=torch.float64)
    right = torch.tensor([[2.0, 0.3]], dtype=torch.float64)
    torch.testing.assert_close(model.at(a, left), model.at(a, right), rtol=0, atol=1e-13)


def antiderivatives(count, seed):
    """a = sum over k = 1 .. 4 of (c_k sin(pi k x) + d_k cos(pi k x)) / k with normal c and d, and
    u = int_0^x a, on 50 points.
    """
    generator = torch.Generator().manual_seed(seed)
    grid = Grid.box((50,), points="nodes")
    k = torch.arange(1, 5, dtype=torch.float64)
    c, d = torch.randn(2, count, 4, generator=generator, dtype=torch.float64) / k
    angle = torch.pi * torch.outer(k, grid.axes[0].coordinates())
    k = torch.pi * k
    a = c @ angle.sin() + d @ angle.cos()
    u = (c / k) @ (1 - angle.cos()) + (d / k) @ angle.sin()
    return grid, a[:, None], 4 * u[:, None]


def test_it_learns_the_antiderivative():
    """Of fields that it was not trained on, to a relative L2 error below 3 %."""
    grid, a, u = antiderivatives(200, 0)
    torch.manual_seed(0)
    branch = partial(PerceptronBranch, widths=(64,))
    trunk = partial(Trunk, widths=(64,), expansion=4)
    model = DeepONet(1, 1, 1, grid=grid, features=40, branch=branch, trunk=trunk).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)
    for _ in range(500):
        optimizer.zero_grad()
        (model(a) - u).square().mean().backward()
        optimizer.step()
        schedule.step()
    _, a, u = antiderivatives(100, 1)
    with torch.no_grad():
        error = ((model(a) - u).norm(dim=2) / u.norm(dim=2)).mean()
    assert error < 0.03


@pytest.mark.parametrize(
    "points", [(4, 3), (2, 4, 2), (2,), (3, 4, 3)], ids=lambda shape: "x".join(map(str, shape))
)
def test_points_that_do_not_fit(points):
    with pytest.raises(ValueError, match=r"expected points \[n, 2\] or \[3, n, 2\]"):
        small().at(fields(MIXED).float(), torch.zeros(points))


def test_refusals():
    with pytest.raises(ValueError, match="ndim=1, but the grid has 2 axes"):
        DeepONet(1, 1, 1, grid=MIXED)
    with pytest.raises(ValueError, match="features=0 must be at least 1"):
        DeepONet(1, 1, 2, grid=MIXED, features=0)
    with pytest.raises(ValueError, match="expected .batch, 2 channels, 2 axes"):
        small().at(torch.zeros(1, 1, 12, 10), torch.zeros(4, 2))
