"""MgNO: its published size, its cycle as linear multigrid, boundaries, any size of grid."""

import pytest
import torch

from sciml.layers import MultigridConv
from sciml.models import MgNO
from solvers.grid import Axis, Grid

SCREENING = 20.0


def periodic(*shape):
    return Grid.box(shape, boundary="periodic", points="left")


def made(kind, *arguments, **settings):
    torch.manual_seed(0)
    return kind(*arguments, **settings).double()


def random(*shape):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_parameters_of_the_published_form():
    assert count(MgNO(1, 1, 2, grid=Grid.box((64, 64)))) == 572_661


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("residual", [False, True])
def test_parameters_follow_the_formula(ndim, residual):
    ins, outs, c, depth = 2, 3, 5, 3
    iterations = ((1, 1), (2, 0), (1, 2), (3, 0))
    model = MgNO(
        ins,
        outs,
        ndim,
        grid=Grid.box((8,) * ndim),
        width=c,
        depth=depth,
        iterations=iterations,
        restrict_residual=residual,
    )
    k3, k4, steps, transfers = 3**ndim, 4**ndim, 10, 3
    expected = c * outs
    for f in (ins, c, c):
        expected += 2 * k3 * c * f * steps - k3 * c * f  # the first step has no A
        expected += transfers * ((k3 + k4) * c * c + k3 * f * f + residual * k3 * c * f)
        expected += c * f + c
    assert count(model) == expected


def stencils(conv, n, levels, wraps):
    """Make a MultigridConv the V-cycle of -lap u + c u on a square of spacing 1 / n."""
    line = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4
    ahead = torch.tensor([1.0, 2.0, 1.0, 0.0], dtype=torch.float64) / 2
    laplace = torch.zeros(3, 3, dtype=torch.float64)
    laplace[1], laplace[:, 1] = -1, -1
    laplace[1, 1] = 4

    def operator(level):
        h = 2**level / n
        stencil = laplace / h**2
        stencil[1, 1] += SCREENING
        return stencil

    def smoother(level):
        stencil = torch.zeros(3, 3, dtype=torch.float64)
        stencil[1, 1] = damping(n, level, wraps)
        return stencil

    with torch.no_grad():
        for parameter in conv.parameters():
            parameter.zero_()
        conv.first.conv.weight[0, 0] = smoother(0)
        for way in (conv.pre, conv.post):
            for level, steps in enumerate(way):
                for step in steps:
                    step.operator.conv.weight[0, 0] = operator(level)
                    step.smoother.conv.weight[0, 0] = smoother(level)
        for level, restriction in enumerate(conv.restrictions):
            restriction.source.conv.weight[0, 0] = torch.outer(line, line)
            restriction.operator.conv.weight[0, 0] = operator(level)
            conv.prolongations[level].conv.weight[0, 0] = torch.outer(ahead, ahead)
    return conv


def damping(n, level, wraps):
    """Jacobi damped by 0.8; on the single point of a periodic grid A is the screening alone."""
    if wraps and 2**level == n:
        return 1 / SCREENING
    return 0.8 / (4 * (n / 2**level) ** 2 + SCREENING)


def matrices(n, level, wraps):
    """A of the level and R to the next, dense, from their definition in one dimension."""
    m = -(-n // 2**level)
    one, laplace = torch.eye(m, dtype=torch.float64), torch.zeros(m, m, dtype=torch.float64)
    half = torch.zeros((m + 1) // 2, m, dtype=torch.float64)
    for i in range(m):
        for j, weight in ((i - 1, -1), (i, 2), (i + 1, -1)):
            if wraps or 0 <= j < m:
                laplace[i, j % m] += weight * (n / 2**level) ** 2
    for i in range(len(half)):
        for j, weight in ((2 * i - 1, 0.25), (2 * i, 0.5), (2 * i + 1, 0.25)):
            if wraps or 0 <= j < m:
                half[i, j % m] += weight
    a = torch.kron(laplace, one) + torch.kron(one, laplace)
    return a + SCREENING * torch.eye(m * m, dtype=torch.float64), torch.kron(half, half)


def cycle(f, n, iterations, wraps, level=0):
    """The textbook V-cycle from zero with dense matrices; P is 4 R transposed."""
    a, r = matrices(n, level, wraps)
    u = torch.zeros_like(f)
    pre, post = iterations[level]
    for _ in range(pre):
        u = u + damping(n, level, wraps) * (f - a @ u)
    if level + 1 < len(iterations):
        u = u + 4 * r.T @ cycle(r @ (f - a @ u), n, iterations, wraps, level + 1)
        for _ in range(post):
            u = u + damping(n, level, wraps) * (f - a @ u)
    return u


CYCLES = {
    "down": [(1, 0)] * 4,
    "V(1,1)": [(1, 1)] * 3 + [(1, 0)],
    "uneven": [(2, 1), (1, 2), (3, 0), (2, 0)],
}


@pytest.mark.parametrize("iterations", CYCLES.values(), ids=CYCLES)
@pytest.mark.parametrize("boundary, n", [("periodic", 16), ("dirichlet", 16), ("dirichlet", 19)])
def test_a_layer_is_a_cycle_of_multigrid(boundary, n, iterations):
    wraps = boundary == "periodic"
    grid = Grid.box((n, n), boundary=boundary, points="left" if wraps else "cells")
    conv = made(MultigridConv, 1, 1, grid, iterations, restrict_residual=True)
    f = random(2, 1, n, n)
    u = stencils(conv, n, len(iterations), wraps)(f)
    expected = cycle(f.reshape(2, -1).T, n, iterations, wraps).T.reshape(f.shape)
    torch.testing.assert_close(u, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("steps", [(1, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("n", [16, 64])
def test_the_residual_falls_whatever_the_grid(n, steps):
    """By 3/5 for each step, the smoothing factor of Jacobi damped by 4/5, in cycles down to a
    single point, where the equation is solved.
    """
    levels = n.bit_length()
    iterations = [steps] * (levels - 1) + [(1, 0)]
    conv = made(MultigridConv, 1, 1, periodic(n, n), iterations, restrict_residual=True)
    stencils(conv, n, levels, wraps=True)
    operator = conv.restrictions[0].operator
    f = random(1, 1, n, n)
    u, before = torch.zeros_like(f), f.norm()
    with torch.no_grad():
        for _ in range(8):
            u = u + conv(f - operator(u))
            after = (f - operator(u)).norm()
            assert after < 0.6 ** sum(steps) * before
            before = after


def test_f_itself_is_restricted_by_default():
    conv = made(MultigridConv, 2, 3, periodic(8, 8), [(1, 0), (1, 0)])
    f = random(1, 2, 8, 8)
    u = conv.first(f)
    solution, source = conv.restrictions[0].solution(u), conv.restrictions[0].source(f)
    step = conv.pre[1][0]
    coarse = solution + step.smoother(source - step.operator(solution))
    torch.testing.assert_close(conv(f), u + conv.prolongations[0](coarse, (8, 8)))


def test_the_cycle_is_linear():
    conv = made(MultigridConv, 2, 3, Grid.box((13, 10)), CYCLES["uneven"])
    f, g = random(2, 2, 13, 10)
    combined = conv((2 * f - 3 * g)[None])
    torch.testing.assert_close(combined[0], 2 * conv(f[None])[0] - 3 * conv(g[None])[0])


SMALL = {"width": 4, "depth": 2, "iterations": ((1, 0), (1, 1), (1, 0), (2, 0))}


def test_equivariant_on_periodic_grids():
    """By the stride of the coarsest level, whose prolongation wraps around; not by one point."""
    model = made(MgNO, 1, 1, 2, grid=periodic(32, 24), **SMALL)
    a = random(1, 1, 32, 24)
    for shift in ((8, 0), (16, 8)):
        moved = model(a.roll(shift, (2, 3)))
        torch.testing.assert_close(moved, model(a).roll(shift, (2, 3)), rtol=0, atol=1e-13)
    assert (model(a.roll(1, 2)) - model(a).roll(1, 2)).abs().max() > 1e-4


def test_equivariant_on_the_periodic_axis_alone():
    sides = ("periodic", "periodic")
    grid = Grid((Axis("x", 16, boundary=sides, points="left"), Axis("y", 13)))
    model = made(MgNO, 1, 1, 2, grid=grid, **SMALL)
    a = random(1, 1, 16, 13)
    torch.testing.assert_close(model(a.roll(8, 2)), model(a).roll(8, 2), rtol=0, atol=1e-13)
    assert (model(a.roll(8, 3)) - model(a).roll(8, 3)).abs().max() > 1e-4


@pytest.mark.parametrize("boundary", ["periodic", "dirichlet", "neumann", "open"])
@pytest.mark.parametrize("size", [33, 37, 45, 85, 129])
def test_odd_sizes(size, boundary):
    grid = Grid.box((size, 20), boundary=boundary)
    model = made(MgNO, 1, 2, 2, grid=grid, width=3, depth=1)
    u = model(random(1, 1, size, 20))
    assert u.shape == (1, 2, size, 20) and u.isfinite().all()


@pytest.mark.parametrize("size", [211, 241, 421])
def test_sizes_of_published_darcy_data(size):
    grid = Grid.box((size, size), points="nodes")
    with torch.no_grad():
        u = MgNO(1, 1, 2, grid=grid, width=2, depth=1)(torch.ones(1, 1, size, size))
    assert u.shape == (1, 1, size, size)


def test_levels_carry_information_across_the_grid():
    """One cycle of six levels reaches from corner to corner, three levels do not."""
    a = random(1, 1, 64, 64).requires_grad_()
    for levels, reaches in ((6, True), (3, False)):
        iterations = [(1, 0)] * levels
        model = made(MgNO, 1, 1, 2, grid=Grid.box((64, 64)), depth=1, iterations=iterations)
        (slope,) = torch.autograd.grad(model(a)[0, 0, 0, 0], a)
        assert (slope[0, 0, -1, -1] != 0) == reaches


def test_bias():
    """Of every A and S of the steps, not of the transfers."""
    model = made(MgNO, 1, 1, 1, grid=Grid.box((8,)), bias=True, **SMALL)
    biased = {n.removesuffix(".bias") for n, _ in model.cycles.named_parameters() if "bias" in n}
    assert len(biased) == 2 * (2 * 6 - 1)
    assert not any("restrictions" in n or "prolongations" in n for n in biased)


def test_refusals():
    grid = Grid.box((8, 8))
    with pytest.raises(ValueError, match="ndim=1, but the grid has 2 axes"):
        MgNO(1, 1, 1, grid=grid)
    with pytest.raises(ValueError, match="width=0 and depth=4 must be at least 1"):
        MgNO(1, 1, 2, grid=grid, width=0)
    for wrong in ((), ((1,),), ((1, -1), (1, 0))):
        with pytest.raises(ValueError, match="one pair .steps down, steps up. for each level"):
            MgNO(1, 1, 2, grid=grid, iterations=wrong)
    for wrong in (((0, 0), (1, 0)), ((1, 0), (1, 1))):
        with pytest.raises(ValueError, match="none up at the last, where the cycle turns"):
            MgNO(1, 1, 2, grid=grid, iterations=wrong)
    model = MgNO(2, 1, 2, grid=grid, **SMALL)
    with pytest.raises(ValueError, match=r"2 channels, 2 axes of points\], got shape \(1, 2, 8\)"):
        model(torch.zeros(1, 2, 8))
