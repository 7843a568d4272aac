"""Branch and trunk nets: what they see of a function, on which grids, and what they refuse."""

import math

import pytest
import torch

from sciml.layers import ConvolutionBranch, DenseStack, FourierBranch, PerceptronBranch, Trunk
from sciml.layers.interpolation import resample
from solvers.grid import Axis, Grid

AROUND = ("periodic", "periodic")
MIXED = Grid((Axis("x", 24, 0.0, 2.0, AROUND, "left"), Axis("y", 21, -1.0, 1.0)))


def count(module):
    return sum(p.numel() for p in module.parameters())


def fields(grid, channels=2, samples=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(samples, channels, *grid.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["gelu", "relu", "silu", "tanh"])
def test_a_stack_is_its_layers(activation):
    stack = DenseStack((3, 5, 2), activation, ends_active=True).double()
    act = getattr(torch.nn.functional, activation)
    x = torch.randn(4, 3, dtype=torch.float64)
    first, last = stack[0], stack[2]
    expected = act(act(x @ first.weight.T + first.bias) @ last.weight.T + last.bias)
    torch.testing.assert_close(stack(x), expected)
    assert (first.bias == 0).all() and len(DenseStack((3, 5, 2))) == 3


def test_a_perceptron_branch_sees_values_at_sensors():
    branch = PerceptronBranch(2, 5, MIXED, widths=(), sensors=(6, 7)).double()
    assert count(branch) == (2 * 6 * 7 + 1) * 5
    a = fields(MIXED)
    weight, bias = branch.layers[0].weight.view(5, 2, 6, 7), branch.layers[0].bias
    values = resample(a, MIXED, MIXED.resized((6, 7)))
    expected = torch.einsum("bcxy,fcxy->bf", values, weight) + bias
    torch.testing.assert_close(branch(a, MIXED), expected)
    assert PerceptronBranch(1, 5, MIXED, widths=(8,)).layers[0].in_features == 24 * 21


@pytest.mark.parametrize("kind", [PerceptronBranch, ConvolutionBranch])
def test_sensors_read_the_same_function_on_any_grid(kind):
    """A field that is linear between the sensors is the same to them wherever it is sampled."""
    grid = Grid.box((25, 25), points="nodes")
    sensors = grid.resized((13, 13))
    branch = kind(1, 4, grid, sensors=13).double()
    coarse = fields(sensors, 1)
    outputs = []
    for n in (13, 25, 49):
        finer = grid.resized((n, n))
        outputs.append(branch(resample(coarse, sensors, finer), finer))
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(outputs[2], outputs[0])


def test_convolutions_go_around_a_periodic_axis():
    """A stride's shift of the field along it rolls what the convolutions give, and nothing else."""
    branch = ConvolutionBranch(1, 4, MIXED, channels=(3,), widths=()).double()
    assert branch.margins == (2, 0)
    a = fields(MIXED, 1)
    last = branch.layers[0]
    assert last.in_features == 3 * 12 * 9
    weight = last.weight.view(4, 3, 12, 9).clone()
    before = branch(a, MIXED)
    with torch.no_grad():
        last.weight.copy_(weight.roll(1, 2).flatten(1))
    torch.testing.assert_close(branch(a.roll(2, 2), MIXED), before, rtol=0, atol=1e-12)


def test_the_published_convolutions():
    """Conv(64, 5, s2), Conv(128, 5, s2), 128, 128 on 29 x 29."""
    grid = Grid.box((29, 29), points="nodes")
    branch = ConvolutionBranch(1, 128, grid, channels=(64, 128), widths=(128,), activation="relu")
    assert count(branch) == 64 * 26 + 128 * (64 * 25 + 1) + 128 * (128 * 25 + 1) + 128 * 129
    assert branch(torch.randn(2, 1, 29, 29), grid).shape == (2, 128)


@pytest.mark.parametrize("shape", [(40,), (12, 11), (9, 8, 10)], ids=str)
@pytest.mark.parametrize("boundary, points", [("periodic", "left"), ("neumann", "cells")])
def test_fourier_coefficients_belong_to_the_function(shape, boundary, points):
    """Of a field that all grids hold, they are found to rounding on each of them."""
    grid = Grid.box(shape, boundary=boundary, points=points)
    branch = FourierBranch(1, 4, grid, modes=2).double()
    known = torch.randn(1, 1, *[5] * len(shape), dtype=torch.float64)
    for factor in (1, 2):
        finer = grid.resized([factor * n + 1 for n in shape])
        u = known
        for axis in finer.axes:
            s = axis.coordinates()
            k = torch.arange(1, 3 if axis.is_periodic else 5, dtype=torch.float64)[:, None]
            waves = (
                [(2 * math.pi * k * s).cos(), (2 * math.pi * k * s).sin()]
                if axis.is_periodic
                else [(math.pi * k * s).cos()]
            )
            functions = torch.cat((torch.ones_like(s)[None], *(2**0.5 * w for w in waves)))
            u = torch.tensordot(u, functions, dims=([2], [0]))
        found = branch.coefficients(u, finer)
        torch.testing.assert_close(found, known, rtol=0, atol=1e-12)
        torch.testing.assert_close(known.square().sum(), u.square().mean(), rtol=1e-12, atol=0)


def test_a_coarse_grid_has_no_fine_coefficients():
    grid = Grid.box((32,), boundary="periodic", points="left")
    branch = FourierBranch(1, 4, grid, modes=6).double()
    found = branch.coefficients(fields(grid.resized((8,)), 1), grid.resized((8,)))[0, 0]
    held = torch.tensor([True] * 4 + [False] * 3 + [True] * 3 + [False] * 3)
    assert (found[~held] == 0).all() and (found[held] != 0).all()


def test_trunks_are_periodic_where_the_grid_is():
    trunk = Trunk(6, MIXED, widths=(8,), harmonics=3, expansion=2).double()
    assert trunk.layers[0].in_features == 2 * 3 + 1 + 2 * 2
    x = torch.rand(5, 2, dtype=torch.float64)
    around, across = x + torch.tensor([2.0, 0.0]), x + torch.tensor([0.0, 2.0])
    torch.testing.assert_close(trunk(around.double()), trunk(x), rtol=0, atol=1e-13)
    assert (trunk(across.double()) - trunk(x)).abs().max() > 1e-3


def test_what_a_trunk_sees_of_a_place():
    """Waves of the domain along a periodic axis, the coordinate and waves of twice its length
    along another.
    """
    z = Trunk(6, MIXED, harmonics=2, expansion=1).coordinates
    x, y = 0.6, -0.5
    s, r = x / 2, (y + 1) / 2
    expected = [
        *(math.cos(2 * math.pi * s), math.sin(2 * math.pi * s)),
        *(math.cos(4 * math.pi * s), math.sin(4 * math.pi * s)),
        *(2 * r - 1, math.cos(math.pi * r), math.sin(math.pi * r)),
    ]
    points = torch.tensor([[[x, y]]], dtype=torch.float64)
    torch.testing.assert_close(z(points), points.new_tensor([[expected]]))


def test_a_trunk_has_the_derivatives_of_its_functions():
    """By automatic differentiation and by differences of second order."""
    trunk = Trunk(4, MIXED, widths=(8, 8), activation="tanh").double()
    x = torch.rand(6, 2, dtype=torch.float64)

    def gradient(x):
        return torch.func.vmap(torch.func.jacrev(trunk))(x)

    def second(x):
        return torch.func.vmap(torch.func.hessian(trunk))(x)

    for axis in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[axis] = 1e-4
        slope = (trunk(x + step) - trunk(x - step)) / 2e-4
        torch.testing.assert_close(gradient(x)[..., axis], slope, rtol=1e-5, atol=1e-5)
        bend = (gradient(x + step) - gradient(x - step))[..., axis] / 2e-4
        torch.testing.assert_close(second(x)[..., axis, axis], bend, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "make, reason",
    [
        (lambda: PerceptronBranch(1, 4, MIXED, sensors=(8,)), r"sensors=\(8,\) must be a number"),
        (lambda: PerceptronBranch(1, 4, MIXED, widths=(0,)), "must be at least 1"),
        (lambda: ConvolutionBranch(1, 4, MIXED, channels=(2, 2, 2, 2)), r"number 3 would see"),
        (lambda: ConvolutionBranch(1, 4, MIXED, channels=()), "must be at least 1"),
        (lambda: FourierBranch(1, 4, MIXED, modes=10), r"needs more than \(21, 21\) points"),
        (lambda: FourierBranch(1, 4, MIXED, modes=(1, 2, 3)), "number per axis"),
        (lambda: Trunk(4, MIXED, harmonics=0), "harmonics=0 must be at least 1"),
        (lambda: Trunk(4, MIXED, expansion=-1), "expansion=-1 at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()
