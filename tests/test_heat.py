"""The heat equation with sources that move."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import torch

from solvers import (
    CircularPath,
    Grid,
    Heat,
    HeatWithCirclingSource,
    LinearPath,
    MovingGaussians,
    rollout,
)
from solvers.grid import Axis

P, D, N = ("periodic",) * 2, ("dirichlet",) * 2, ("neumann",) * 2
MIXED = ("dirichlet", "neumann")


def box(*kinds, sizes=(12, 10, 8)):
    axes = zip("xyz", sizes, kinds, strict=False)
    return Grid(tuple(Axis(a, n, 0.0, 2.0, kind, "cells") for a, n, kind in axes))


def eigenfunction(axis):
    """One that suits the sides of an axis and its wavenumber."""
    k = {P: 2.0, D: 2.0, N: 3.0, MIXED: 2.5}[axis.boundary] * math.pi / axis.length
    wave = torch.sin if axis.boundary[0] == "dirichlet" else torch.cos
    return wave(k * axis.coordinates()), k


def mode(grid):
    u, total = torch.ones(grid.shape, dtype=torch.float64), 0.0
    for i, axis in enumerate(grid.axes):
        wave, k = eigenfunction(axis)
        u, total = u * wave.view(-1, *[1] * (grid.ndim - 1 - i)), total + k**2
    return u, total


def circles(grid, speed=3.0, width=0.3):
    return MovingGaussians(
        CircularPath([[1.0, 0.9, 1.1][: grid.ndim]], radius=0.4, angular_speed=speed, phase=0.3),
        strength=2.0,
        width=width,
    )


@pytest.mark.parametrize("kinds", list(itertools.product((P, D, N, MIXED), repeat=2)), ids=str)
def test_a_mode_decays_exactly(kinds):
    grid = box(*kinds)
    u, square = mode(grid)
    found = rollout(Heat(grid, diffusivity=0.3, dt=0.05), u[None, None], 4)[0, -1, 0]
    torch.testing.assert_close(found, math.exp(-0.3 * square * 0.2) * u, rtol=0, atol=1e-13)


@pytest.mark.parametrize("kind", [P, D, N])
def test_a_manufactured_source_is_integrated_to_fourth_order(kind):
    """u = cos(w t) e(x) for an eigenfunction e: S = (a k^2 cos(w t) - w sin(w t)) e."""
    grid, omega = box(kind, N), 5.0
    e, square = mode(grid)

    def source(grid, time):
        t = time.view(-1, 1, 1, 1)
        return (0.2 * square * torch.cos(omega * t) - omega * torch.sin(omega * t)) * e

    errors = []
    for substeps in (4, 8, 16):
        equation = Heat(grid, diffusivity=0.2, dt=1.0, source=source, substeps=substeps)
        u = equation(equation.state(e[None, None]))
        errors.append((u[0, 0] - math.cos(omega) * e).abs().max())
    assert math.log2(errors[1] / errors[2]) == pytest.approx(4, abs=0.3)
    halved = Heat(grid, diffusivity=0.2, dt=1.0, source=source, substeps=8).halved()
    torch.testing.assert_close(halved(halved.state(e[None, None])), u, rtol=0, atol=1e-14)


def test_a_steady_source_is_integrated_exactly():
    """u = (1 - exp(-a k^2 t)) / (a k^2) e from rest."""
    grid = box(D, N)
    e, square = mode(grid)
    rate = 0.2 * square
    equation = Heat(grid, diffusivity=0.2, dt=0.7, source=lambda g, t: e.expand(len(t), 1, -1, -1))
    found = equation(equation.state(torch.zeros(1, 1, *grid.shape, dtype=torch.float64)))[0, 0]
    torch.testing.assert_close(found, -math.expm1(-0.7 * rate) / rate * e, rtol=0, atol=1e-13)


def test_the_mean_gains_what_the_source_gives():
    """Energy balance: d/dt of the sum of u is the sum of S on periodic and Neumann sides."""
    grid = box(P, N, sizes=(24, 20))
    source = circles(grid)
    equation = Heat(grid, diffusivity=0.1, dt=0.5, source=source, substeps=10)
    start = equation.state(torch.randn(2, 1, 24, 20, dtype=torch.float64), torch.tensor([0.0, 2.0]))
    gain = (rollout(equation, start, 2)[:, -1] - start)[:, 0].sum((1, 2))
    for i, begin in enumerate((0.0, 2.0)):
        given, _ = scipy.integrate.quad(
            lambda t: float(source(grid, torch.tensor([t]).double()).sum()), begin, begin + 1.0
        )
        assert float(gain[i]) == pytest.approx(given, rel=1e-6)


@pytest.mark.parametrize("kind, order", [(P, 4), (N, 4), (D, 4)])
def test_order_with_moving_sources(kind, order):
    grid = box(kind, kind, sizes=(24, 24))
    equation = Heat(grid, diffusivity=0.05, dt=1.0, source=circles(grid, 4.0, 0.15), substeps=16)
    u = equation.state(torch.zeros(1, 1, 24, 24, dtype=torch.float64))
    states = [equation(u)]
    for _ in range(2):
        equation = equation.halved()
        states.append(equation(u))
    changes = [(a - b).norm() for a, b in zip(states, states[1:], strict=False)]
    assert math.log2(changes[0] / changes[1]) == pytest.approx(order, abs=0.3)


def test_a_source_on_a_side_that_holds_zero_costs_order():
    """As the docstring says; the stiff order of two points is 2, here between that and 4."""
    grid = box(D, sizes=(64,))
    source = lambda g, t: torch.cos(5 * t).view(-1, 1, 1).expand(-1, 1, 64)  # noqa: E731
    equation = Heat(grid, diffusivity=1.0, dt=1.0, source=source, substeps=8)
    u = equation.state(torch.zeros(1, 1, 64, dtype=torch.float64))
    states = [equation(u)]
    for _ in range(2):
        equation = equation.halved()
        states.append(equation(u))
    changes = [(a - b).norm() for a, b in zip(states, states[1:], strict=False)]
    assert 2 < math.log2(changes[0] / changes[1]) < 3.7


@pytest.mark.parametrize("kinds", [(P, P), (D, N)], ids=str)
def test_a_step_against_scipy(kinds):
    grid = box(*kinds, sizes=(8, 7))
    equation = Heat(grid, diffusivity=0.05, dt=0.3, source=circles(grid), substeps=20)
    u = equation.state(torch.randn(1, 1, 8, 7, dtype=torch.float64), 0.4)

    def rhs(t, y):
        return equation.rhs(torch.from_numpy(y).view_as(u)).flatten().numpy()

    solution = scipy.integrate.solve_ivp(
        rhs, (0, 0.3), u.flatten().numpy(), method="DOP853", rtol=1e-10, atol=1e-12
    )
    expected = torch.from_numpy(np.ascontiguousarray(solution.y[:, -1])).view_as(u)
    assert (equation(u) - expected).abs().max() < 1e-8


def test_the_time_of_each_sample_is_its_own():
    grid = box(P, P)
    equation = Heat(grid, diffusivity=0.05, dt=0.3, source=circles(grid), substeps=2)
    u = torch.randn(3, 1, 12, 10, dtype=torch.float64)
    times = torch.tensor([0.0, 1.0, 0.3], dtype=torch.float64)
    together = equation(equation.state(u, times))
    for i, time in enumerate(times.tolist()):
        alone = equation(equation.state(u[i : i + 1], time))
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(together[:, 1].amax((1, 2)), times + 0.3)
    later = rollout(equation, equation.state(u[:1]), 2)
    torch.testing.assert_close(equation(later[:, 1]), later[:, 2])
    assert equation(equation.state(u.float())).dtype == torch.float32
    assert (equation.tail(together)[:, 1] == 0).all()


def test_positions_on_the_paths():
    time = torch.tensor([0.0, 0.5], dtype=torch.float64)
    line = LinearPath([[0.1, 0.2], [1.0, 1.0]], (2.0, -1.0))(time)
    expected = torch.tensor([[[0.1, 0.2], [1.0, 1.0]], [[1.1, -0.3], [2.0, 0.5]]]).double()
    torch.testing.assert_close(line, expected)
    radius = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    circle = CircularPath([[0.0, 1.0]], radius, math.pi)(time)
    assert circle.shape == (2, 2, 2)
    torch.testing.assert_close(circle[0], torch.tensor([[1.0, 1.0], [2.0, 1.0]]).double())
    torch.testing.assert_close(circle[1], torch.tensor([[0.0, 4.0], [0.0, 5.0]]).double())


def test_a_source_is_a_sum_of_gaussians():
    time = torch.zeros(1, dtype=torch.float64)
    places, strengths, widths = [[0.5, 1.2], [1.1, 0.3]], [[1.0, -2.0]], [[0.1, 0.3]]
    source = MovingGaussians(LinearPath(places, 0.0), strength=strengths, width=widths)
    grid = box(D, N)
    x = grid.mesh()
    expected = sum(
        q * torch.exp(-((x[0] - p) ** 2 + (x[1] - r) ** 2) / (2 * w**2))
        for (p, r), q, w in zip(places, strengths[0], widths[0], strict=True)
    )
    torch.testing.assert_close(source(grid, time)[0, 0], expected)


def test_a_source_comes_back_on_a_periodic_axis():
    grid = box(P, P, sizes=(16, 16))
    source = MovingGaussians(LinearPath([[0.3, 0.1]], (2.0, 4.0)), width=0.2)
    now, later = source(grid, torch.tensor([0.0, 1.0]).double())
    torch.testing.assert_close(now, later)
    shifted = MovingGaussians(LinearPath([[0.3 + 2 / 16, 0.1]], 0.0), width=0.2)
    moved = shifted(grid, torch.zeros(1).double())[0]
    torch.testing.assert_close(moved, now.roll(1, 1), rtol=0, atol=1e-12)


def test_gradients_in_state_diffusivity_and_source():
    grid = box(P, N, sizes=(4, 3))
    u = torch.randn(2, 2, 4, 3, dtype=torch.float64)
    values = [torch.tensor(v, dtype=torch.float64) for v in ([0.1, 0.3], [[0.9, 1.1]], [[0.5]])]
    inputs = [v.requires_grad_() for v in (u, *values)]

    def step(u, diffusivity, center, width):
        source = MovingGaussians(CircularPath([[1.0, 0.5]], center, 2.0), width=width)
        return Heat(grid, diffusivity=diffusivity, dt=0.2, source=source, substeps=2)(u)

    assert torch.autograd.gradcheck(step, inputs, fast_mode=True)


def test_the_residual_of_a_step_is_of_second_order():
    grid, sizes = box(N, P), []
    for dt in (0.02, 0.01):
        equation = Heat(grid, diffusivity=0.1, dt=dt, source=circles(grid))
        u = equation.state(mode(grid)[0][None, None], 0.3)
        sizes.append(equation.residual(u, equation(u)).norm())
    assert math.log2(sizes[0] / sizes[1]) == pytest.approx(2, abs=0.3)


def test_three_dimensions_and_diffusivity_by_sample():
    grid = box(P, D, N, sizes=(6, 5, 4))
    u = torch.randn(2, 1, 6, 5, 4, dtype=torch.float64)
    values = torch.tensor([0.1, 0.4], dtype=torch.float64)
    together = Heat(grid, diffusivity=values, dt=0.1, source=circles(grid))
    together = together(together.state(u))
    for i, value in enumerate(values.tolist()):
        alone = Heat(grid, diffusivity=value, dt=0.1, source=circles(grid))
        torch.testing.assert_close(alone(alone.state(u[i : i + 1])), together[i : i + 1])


@pytest.mark.parametrize(
    "make, expected",
    [
        (lambda g: Heat(g, diffusivity=1.0, dt=0.0), "dt=0.0 must be positive"),
        (lambda g: Heat(g, diffusivity=1.0, dt=0.1, substeps=0), "substeps=0 at least 1"),
        (lambda g: Heat(g, diffusivity=-1.0, dt=0.1), "diffusivity=-1.0 must not be negative"),
        (lambda g: Heat(Grid.box((8,), boundary="open"), diffusivity=1.0, dt=1.0), "no fast trans"),
        (
            lambda g: Heat(g, diffusivity=1.0, dt=1.0, source=circles(g))(torch.ones(1, 1, 12, 10)),
            r"expected \[b, 2, 12, 10\] with the fields temperature, time",
        ),
        (lambda g: MovingGaussians(LinearPath(0.0, 1.0), width=0.0), "width=0.0 of a source"),
        (
            lambda g: MovingGaussians(LinearPath([[0.0]], 1.0))(g, torch.zeros(1)),
            r"positions \(1, 1, 1\), expected \[b, sources, 2\] on a grid with 2",
        ),
    ],
)
def test_wrong_settings(make, expected):
    with pytest.raises(ValueError, match=expected):
        make(box(P, N))


def test_a_circling_source_by_numbers_or_samples():
    grid = Grid.box((16, 16))
    settings = dict(diffusivity=0.05, dt=0.1, substeps=4)
    radii, speeds = torch.tensor([0.1, 0.3]).double(), torch.tensor([1.0, -3.0]).double()
    both = HeatWithCirclingSource(grid, **settings, radius=radii, angular_speed=speeds, width=0.1)
    u = torch.zeros(2, 2, 16, 16, dtype=torch.float64)
    after = rollout(both, u, 3)[:, -1]
    for i in range(2):
        path = CircularPath([[[0.5, 0.5]]], float(radii[i]), float(speeds[i]))
        one = Heat(grid, **settings, source=MovingGaussians(path, width=0.1))
        torch.testing.assert_close(after[i : i + 1], rollout(one, u[:1], 3)[:, -1])
